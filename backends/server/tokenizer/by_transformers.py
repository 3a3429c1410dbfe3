"""Reads a tokenizer with transformers, for the types whose files transformers changes in its way.

Executes no code from a checkpoint. Which folders need it, ``files`` says.
"""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer, TokenizersBackend

from backends.server.checkpoints.architecture import UNREADABLE
from backends.server.errors import CheckpointError
from backends.server.tokenizer.chat_template import ChatTemplate
from backends.server.tokenizer.stored import StoredTokenizer


def read_with_transformers(folder: Path) -> StoredTokenizer:
    """The tokenizer of a folder, as transformers understands its files.

    Raises:
        CheckpointError: it is damaged, of a kind that isn't known, or one of the few without a
            fast form.
    """
    try:
        loaded = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except UNREADABLE as error:
        raise CheckpointError(f"{folder} has no tokenizer that can be read: {error}") from error
    if not isinstance(loaded, TokenizersBackend):
        kind = type(loaded).__name__
        raise CheckpointError(f"Tokenizers without a fast form, as {kind}, aren't supported.")
    source = loaded.chat_template
    if isinstance(source, dict):
        source = source.get("default")
    return StoredTokenizer(
        loaded.backend_tokenizer,
        ChatTemplate(source, loaded.special_tokens_map) if source else None,
        loaded.eos_token_id,
    )
