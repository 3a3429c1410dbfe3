"""What a checkpoint's files say about its tokenizer, however they were read."""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Tokenizer

from backends.server.tokenizer.chat_template import ChatTemplate


@dataclass(frozen=True, eq=False)
class StoredTokenizer:
    """What the files hold.

    Attributes:
        template: None: there is none, so the model can't chat.
        end_id: the special token at the end of a text; None: there is none.
    """

    tokenizer: Tokenizer
    template: ChatTemplate | None
    end_id: int | None
