"""ChatGLM's tokenizer: sentencepiece, with its own pieces for line breaks, tabs and blanks.

``encode`` and ``encode_plain`` do what the original does, which makes control tokens of strings
such as "<sop>" or "[MASK]" in the text. ``encode_text`` and ``encode_chat`` deliberately don't:
what a person writes is text. Knows nothing of the network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from sentencepiece import SentencePieceProcessor

from backends.server.chatglm.prompt import (
    MARKS,
    TRAINING_TIME,
    build_prompt,
    process_response,
    punctuate,
)
from backends.server.checkpoints.config_json import is_count
from backends.server.checkpoints.weights import read_optional_json
from backends.server.conversation import MessageLike, read_conversation
from backends.server.errors import CheckpointError, SequenceError

MODEL_FILE = "ice_text.model"
_TAB = "<|tab|>"
_LONGEST_BLANK = 80
_SPECIAL = re.compile(r"(<sop>|<eop>|<unk>|<pad>|\[MASK\])")
_BLANKS = re.compile(r" {2,80}")
_BLANK_PIECE = re.compile(r"<\|blank_(\d{1,2})\|>")
_WRITTEN = ("<n>", _TAB, *(f"<|blank_{n}|>" for n in range(2, _LONGEST_BLANK + 1)), TRAINING_TIME)
_UNFINISHED = frozenset(word[:end] for word in _WRITTEN for end in range(1, len(word)))
_LONGEST_WRITTEN = max(map(len, _WRITTEN))
_REPLACEMENT = "\ufffd"
# The original decodes with transformers' clean_up_tokenization_spaces, in this order.
_CLEANED = (
    *((f" {mark}", mark) for mark in ".?!,"),
    (" ' ", "'"),
    *((f" {end}", end) for end in ("n't", "'m", "'s", "'ve", "'re")),
)
_UNCLEANED = re.compile(r" [ n']*[vr]?$")


class ChatGLMTokenizer:
    """Text to ids and back.

    Args:
        model: a sentencepiece model file.
        offset: what is added to every piece's number: ids below it stood for image tokens in the
            oldest checkpoints (20,000 of them), and for nothing since.
    """

    def __init__(self, model: Path, offset: int = 0) -> None:
        if not model.exists():
            raise CheckpointError(f"{model.parent} has no {model.name}: ChatGLM's tokenizer.")
        try:
            self._pieces = SentencePieceProcessor(model_file=str(model))
        except (RuntimeError, OSError) as error:
            raise CheckpointError(f"{model} is no sentencepiece model: {error}") from error
        self._offset = offset
        self.bos_id = self._id("<sop>")
        self.eos_id = self._id("<eop>")
        self.pad_id = self._id("<pad>")
        self.mask_id = self._id("[MASK]")
        self.gmask_id = self._id("[gMASK]")
        self.blank_id = self._id("\u2581")

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """The tokenizer of a checkpoint folder.

        Raises:
            CheckpointError: there is no tokenizer, or it can't be read.
        """
        tokenizer = cls(folder / MODEL_FILE)
        offset = _read_count(folder / "tokenizer_config.json", "num_image_tokens")
        if offset is None:
            # The oldest checkpoints don't write their offset down, but their ids show it.
            bos_id = _read_count(folder / "config.json", "bos_token_id", tokenizer.bos_id)
            offset = 0 if bos_id is None else bos_id - tokenizer.bos_id
        return cls(folder / MODEL_FILE, offset) if offset else tokenizer

    @property
    def decodable(self) -> range:
        """The ids that stand for a piece; a network may have more rows."""
        return range(self._offset, self._offset + self._pieces.get_piece_size())

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end an answer."""
        return frozenset({self.eos_id})

    def encode(self, text: str) -> list[int]:
        """As the original encodes one text: with [gMASK] <sop> behind it."""
        return [*self.encode_plain(text), self.gmask_id, self.bos_id]

    def encode_plain(self, text: str) -> list[int]:
        """The same without [gMASK] <sop>; strings of control tokens become their ids."""
        ids: list[int] = []
        parts = _SPECIAL.split(text)
        for index, part in enumerate(parts):
            if index % 2:
                ids.append(self._id(part))
                continue
            # Text is stripped where it touches a control token.
            left = part.lstrip() if index else part
            ids += self.encode_text(left.rstrip() if index < len(parts) - 1 else left)
        return ids

    def encode_text(self, text: str) -> list[int]:
        """The ids of text, whatever it looks like: never a control token."""
        text = text.replace("\n", "<n>").replace("\t", _TAB)
        text = _BLANKS.sub(lambda blanks: f"<|blank_{len(blanks[0])}|>", text)
        return [piece + self._offset for piece in self._pieces.encode(text)]

    def encode_chat(self, messages: Sequence[MessageLike | Mapping[str, str]]) -> list[int]:
        """The prompt of a conversation, ready to be answered.

        Raises:
            ConversationError: the messages don't take turns.
        """
        prompt = build_prompt(read_conversation(messages))
        return [*self.encode_text(prompt), self.gmask_id, self.bos_id]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; control tokens vanish, half a character shows as U+FFFD.

        Raises:
            SequenceError: an id stands for no piece.
        """
        return _clean(self._decode(ids))

    def answer(self, ids: Sequence[int]) -> str:
        """A whole answer as it is shown: decoded, stripped, with Chinese punctuation."""
        return process_response(self.decode(ids))

    def settled(self, ids: Sequence[int]) -> str:
        """The part of the answer that further ids can't change, blanks at its end included."""
        text = self._decode(ids).rstrip(_REPLACEMENT)
        text = _UNCLEANED.sub("", _without_unfinished(text))
        text = punctuate(_clean(text).lstrip())
        # The next character decides whether a mark at the end becomes a full-width one.
        return text[:-1] if text.endswith(tuple(mark for mark, _ in MARKS)) else text

    def save(self, folder: Path) -> None:
        """Writes the tokenizer's files into a checkpoint folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MODEL_FILE).write_bytes(self._pieces.serialized_model_proto())
        settings = {"tokenizer_class": "ChatGLMTokenizer", "num_image_tokens": self._offset}
        text = json.dumps(settings, indent=2) + "\n"
        (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")

    def _id(self, piece: str) -> int:
        return int(self._pieces.piece_to_id(piece)) + self._offset

    def _decode(self, ids: Sequence[int]) -> str:
        known = self.decodable
        if any(token not in known for token in ids):
            raise SequenceError(f"Only ids from {known.start} to {known.stop - 1} have a text.")
        text = self._pieces.decode([i - self._offset for i in ids if i != self.pad_id])
        text = text.replace("<n>", "\n").replace(_TAB, "\t")
        return _BLANK_PIECE.sub(lambda blank: " " * int(blank[1]), text)


def _read_count(path: Path, name: str, least: int = 0) -> int | None:
    """A whole number of a file of settings; None where it doesn't say.

    Raises:
        CheckpointError: the file can't be read, or has something else there.
    """
    value = read_optional_json(path).get(name)
    if value is not None and not is_count(value, least):
        raise CheckpointError(f"{path}: {name} can't be {value!r}.")
    return value


def _clean(text: str) -> str:
    """Takes the blanks out that stand before marks and short forms."""
    for spaced, joined in _CLEANED:
        text = text.replace(spaced, joined)
    return text


def _without_unfinished(text: str) -> str:
    """Cuts the beginning of a written-out piece ("<n", "[[训练") off the end."""
    for size in range(min(_LONGEST_WRITTEN, len(text)), 0, -1):
        if text[-size:] in _UNFINISHED:
            return text[:-size]
    return text
