"""A checkpoint's tokenizer and chat template as its files give them.

Qwen2's files are read directly, which takes a fraction of a second. For other types transformers
knows what is to be changed in the file's tokenizer, and so it does for a Qwen2 tokenizer whose
settings are unusual. What is read is the same either way. Executes no code from a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from backends.server.checkpoints.weights import read_json, read_optional_json
from backends.server.errors import CheckpointError
from backends.server.tokenizer.chat_template import ChatTemplate
from backends.server.tokenizer.stored import StoredTokenizer

_TOKENIZER = "tokenizer.json"
_SETTINGS = "tokenizer_config.json"
# One of these has to be there: without any, transformers would make up a tokenizer.
_FILES = (_TOKENIZER, "vocab.json")
# Whatever its file says, transformers gives every Qwen2 tokenizer this form.
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# And these special tokens, where the settings don't say.
_QWEN2_NAMES = dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")
_NAMES = ("bos_token", "sep_token", "cls_token", "mask_token", *_QWEN2_NAMES)
_MORE_NAMES = ("extra_special_tokens", "additional_special_tokens")
# Settings that change nothing in the tokenizer, or that are looked at here.
_USUAL = {
    *_NAMES,
    *_MORE_NAMES,
    "add_bos_token",
    "add_eos_token",
    "add_prefix_space",
    "added_tokens_decoder",
    "backend",
    "chat_template",
    "clean_up_tokenization_spaces",
    "errors",
    "is_local",
    "local_files_only",
    "model_max_length",
    "padding_side",
    "split_special_tokens",
    "tokenizer_class",
}
# Older or further files that have a say.
_UNUSUAL_FILES = ("special_tokens_map.json", "added_tokens.json", "additional_chat_templates")


def read_tokenizer(folder: Path) -> StoredTokenizer:
    """The tokenizer of a checkpoint folder.

    Raises:
        CheckpointError: it is missing, damaged, or of a kind that isn't known.
    """
    if not any((folder / name).exists() for name in _FILES):
        raise CheckpointError(
            f"{folder} has no tokenizer.json: the tokenizer is missing, or in an older form."
        )
    qwen2 = read_json(folder / "config.json").get("model_type") == "qwen2"
    stored = _read_qwen2(folder) if qwen2 and (folder / _TOKENIZER).exists() else None
    if stored is not None:
        return stored
    # Takes seconds, mostly for torch.
    from backends.server.tokenizer.by_transformers import read_with_transformers  # noqa: PLC0415

    return read_with_transformers(folder)


def _read_qwen2(folder: Path) -> StoredTokenizer | None:
    """A Qwen2 tokenizer as transformers would read it; None where only transformers can tell."""
    settings = read_optional_json(folder / _SETTINGS)
    names = _QWEN2_NAMES | {n: settings[n] for n in _NAMES if n in settings}
    if not _is_usual(folder, settings):
        return None
    tokenizer = _read_file(folder / _TOKENIZER)
    named = {name: _content(value) for name, value in names.items() if value is not None}
    more = [_content(token) for name in _MORE_NAMES for token in settings.get(name) or ()]
    if not _is_plain(tokenizer, settings, {*named.values(), *more}):
        return None
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    source = _template_source(folder, settings)
    return StoredTokenizer(
        tokenizer,
        ChatTemplate(source, named) if source else None,
        tokenizer.token_to_id(named["eos_token"]) if "eos_token" in named else None,
    )


def _read_file(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # nothing more particular, and Rust's panics aren't even that
        raise CheckpointError(
            f"{path.parent} has no tokenizer that can be read: {error}"
        ) from error


def _is_usual(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the settings are such as Qwen2's checkpoints have."""
    lists = [settings.get(name) for name in _MORE_NAMES]
    return (
        settings.keys() <= _USUAL
        and not settings.get("add_prefix_space")
        and all(value is None or isinstance(value, list) for value in lists)
        and isinstance(settings.get("chat_template", ""), str)
        and not any((folder / name).exists() for name in _UNUSUAL_FILES)
    )


def _is_plain(tokenizer: Tokenizer, settings: Mapping[str, Any], special: set[str]) -> bool:
    """Whether transformers would take the file's pieces and added tokens as they are."""
    model = tokenizer.model
    added = tokenizer.get_added_tokens_decoder()
    declared = settings.get("added_tokens_decoder")
    return (
        isinstance(model, BPE)
        and not any(getattr(model, name) for name in _MODEL_SETTINGS)
        and declared in (None, {str(i): token.__getstate__() for i, token in added.items()})
        and special <= {token.content for token in added.values() if _is_named(token)}
    )


_MODEL_SETTINGS = (
    "dropout",
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "fuse_unk",
    "byte_fallback",
    "ignore_merges",
)


def _is_named(token: AddedToken) -> bool:
    """Whether it is as transformers adds what the settings name."""
    return token.special and not (
        token.lstrip or token.rstrip or token.single_word or token.normalized
    )


def _content(token: Any) -> str:
    """The string of a special token, which may be stored with its properties."""
    return str(token.get("content") if isinstance(token, dict) else token)


def _template_source(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The chat template; a file of its own comes before the settings."""
    alone = folder / "chat_template.jinja"
    try:
        return alone.read_text("utf-8") if alone.exists() else settings.get("chat_template")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{alone} can't be read: {error}") from error
