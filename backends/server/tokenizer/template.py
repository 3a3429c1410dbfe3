"""A checkpoint's own tokenizer and chat template, for every family that has them.

What people write stays text: only the template's own control tokens become their ids. Executes no
code from a checkpoint. Knows no network.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from jinja2 import TemplateError
from tokenizers import Tokenizer

from backends.server.checkpoints.generation_config import read_stop_ids
from backends.server.checkpoints.weights import read_json
from backends.server.conversation import MessageLike, read_conversation
from backends.server.errors import CheckpointError, ConversationError, SequenceError
from backends.server.tokenizer.chat_template import ChatTemplate
from backends.server.tokenizer.files import read_tokenizer
from backends.server.tokenizer.text_encoder import TextEncoder, any_of, control_tokens

_REPLACEMENT = "\ufffd"
# What a template raises on purpose, and what happens when it doesn't expect such messages.
_TEMPLATE_FAILURES = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
_BYTE_PIECES = tuple(f"<0x{byte:02X}>" for byte in range(256))


class TemplateTokenizer:
    """A checkpoint's own tokenizer and chat template, with the messages kept text.

    Args:
        tokenizer: the checkpoint's.
        template: None: it can't chat.
        stop_ids: the ids that end an answer.
        rows: how many ids the network knows; control tokens beyond them (Gemma 3's image token)
            are never used.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        stop_ids: Iterable[int],
        rows: int | None = None,
    ) -> None:
        self._template = template
        self._tokenizer = tokenizer
        # Some are saved as they were used in training, with both.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = False
        self._text = TextEncoder(self._tokenizer)
        self._controls = any_of(control_tokens(self._tokenizer))
        added = self._tokenizer.get_added_tokens_decoder()
        beyond = {token for token in added if rows is not None and token >= rows}
        self._decodable = frozenset(_piece_ids(tokenizer)).union(added) - beyond
        self._stop_ids = frozenset(stop_ids)
        self._unsettled = _unsettled_ids(self._tokenizer)

    @property
    def decodable(self) -> frozenset[int]:
        """The ids that stand for something; a network may have more rows."""
        return self._decodable

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end an answer."""
        return self._stop_ids

    @property
    def has_template(self) -> bool:
        """Whether it can chat."""
        return self._template is not None

    def encode(self, text: str) -> list[int]:
        """As transformers encodes one text, with what the checkpoint adds."""
        return self._tokenizer.encode(text).ids

    def encode_plain(self, text: str) -> list[int]:
        """The same without what it adds; strings of control tokens become their ids."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_text(self, text: str) -> list[int]:
        """The ids of text, whatever it looks like: never a control token."""
        return self._text.encode(text)

    def encode_chat(self, messages: Sequence[MessageLike | Mapping[str, str]]) -> list[int]:
        """The prompt that the chat template makes, ready to be answered.

        Only the template's own control tokens become their ids: those in the messages are cut
        apart before the template sees them, and put together again as text. Earlier answers keep
        those (</think>, say) that are the model's own words: templates look for them.

        Raises:
            ConversationError: the messages don't take turns, or the template refuses them.
            CheckpointError: there is no chat template.
        """
        cut = secrets.token_hex(8)
        said = []
        for message in read_conversation(messages).utterances:
            words = self._structure if message.role == "assistant" else self._controls
            said.append({"role": message.role, "content": _cut_inside(words, message.content, cut)})
        armed = self._text.armed(self._render(said))
        return self._text.encode(armed.replace(cut, ""))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; control tokens vanish, half a character shows as U+FFFD.

        Raises:
            SequenceError: an id stands for nothing.
        """
        if not self._decodable.issuperset(ids):
            raise SequenceError("Some of these ids have no text.")
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def answer(self, ids: Sequence[int]) -> str:
        """A whole answer as it is shown: the decoded text."""
        return self.decode(ids)

    def settled(self, ids: Sequence[int]) -> str:
        """The part of the answer that further ids can't change."""
        end = len(ids)
        while end and ids[end - 1] in self._unsettled:
            end -= 1
        return self.decode(ids[:end]).rstrip(_REPLACEMENT)

    @cached_property
    def _structure(self) -> re.Pattern[str]:
        """Matches the control tokens that no answer says: special ones, and those of turns."""
        try:
            turns = self._render(
                [{"role": r, "content": "a"} for r in ("user", "assistant", "user")]
            )
        except ConversationError:
            turns = ""
        special = control_tokens(self._tokenizer, special=True)
        return any_of({*special, *self._controls.findall(turns)})

    def _render(self, messages: list[dict[str, str]]) -> str:
        if self._template is None:
            raise CheckpointError("This checkpoint has no chat template: it is no chat model.")
        try:
            return self._template.render(messages)
        except _TEMPLATE_FAILURES as error:
            message = f"The model's chat template refuses these messages: {error}"
            raise ConversationError(message) from error


def load_tokenizer(folder: Path) -> TemplateTokenizer:
    """The tokenizer of a checkpoint folder.

    Raises:
        CheckpointError: it is missing, damaged, or of a kind that isn't known.
    """
    stored = read_tokenizer(folder)
    rows = read_json(folder / "config.json").get("vocab_size")
    return TemplateTokenizer(
        stored.tokenizer,
        stored.template,
        read_stop_ids(folder, stored.end_id),
        rows if isinstance(rows, int) else None,
    )


def _piece_ids(tokenizer: Tokenizer) -> Iterable[int]:
    """The ids of a tokenizer's pieces, but for control tokens that are none."""
    size = tokenizer.get_vocab_size(with_added_tokens=False)
    # Mostly there are no gaps; the whole vocabulary takes twice as long.
    if all(map(tokenizer.model.id_to_token, range(size))):
        return range(size)
    return tokenizer.get_vocab(with_added_tokens=False).values()


def _unsettled_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Ids at an answer's end that leave open what it says: bytes, and tokens without text.

    Bytes in a row are decoded together: one that doesn't fit makes all of them U+FFFD.
    """
    silent = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    found = (tokenizer.token_to_id(piece) for piece in _BYTE_PIECES)
    return frozenset(silent).union(token for token in found if token is not None)


def _cut_inside(words: re.Pattern[str], text: str, cut: str) -> str:
    """Puts ``cut`` behind the first character of every word, also of words that overlap."""
    if not words.search(text):
        return text
    return re.sub(f"(?={words.pattern})(.)", rf"\g<1>{cut}", text, flags=re.DOTALL)
