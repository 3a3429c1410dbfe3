"""The text that trains the built-in models: dialogues, their paraphrases and their slots.

Reads and checks `corpus/*.yaml` and fills slots. Knows no tokenizer and no torch.
"""

import hashlib
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CORPUS_FOLDER = Path(__file__).parent / "corpus"

_SLOT = re.compile(r"\{([a-z]+\d?(?:[+*-][a-z])?)\}")
_END_MARKS = "。？！?!.…~～ "
_OPERANDS = frozenset({"a", "b"})
_DIALOGUE_ID = re.compile(r"[a-z0-9-]+")
# Every n-th value of a slot is never trained on, so that copying can be told from remembering.
_HELD_BACK_EVERY = 4


class CorpusError(ValueError):
    """The corpus is not well-formed; the message names the dialogue."""


@dataclass(frozen=True)
class Turn:
    """One question in several wordings, and its answer. Texts may hold slots in braces."""

    asks: tuple[str, ...]
    held_back: tuple[str, ...]
    answer: str
    must: tuple[str, ...]


@dataclass(frozen=True)
class Dialogue:
    """One or more turns about one thing. `topic` is the name of its file."""

    id: str
    topic: str
    lang: str
    turns: tuple[Turn, ...]

    def slots(self) -> tuple[str, ...]:
        """Return the slots that need a value: `{a+b}` needs `a` and `b`; sorted."""
        texts = [text for turn in self.turns for text in (*turn.asks, *turn.held_back, turn.answer)]
        expressions = (match for text in texts for match in _SLOT.findall(text))
        return tuple(sorted({part for found in expressions for part in re.split(r"[+*-]", found)}))


@dataclass(frozen=True)
class Corpus:
    """All dialogues in file order, the values of their slots by language, and a hash of both."""

    dialogues: tuple[Dialogue, ...]
    slot_values: Mapping[str, Mapping[str, tuple[str, ...]]]
    digest: str

    def trained_values(self, lang: str, slot: str) -> tuple[str, ...]:
        """Return the values of a slot that training may use."""
        values = self._values(lang, slot)
        return tuple(value for i, value in enumerate(values) if not _is_held_back(i))

    def held_back_values(self, lang: str, slot: str) -> tuple[str, ...]:
        """Return the values of a slot that training never sees."""
        values = self._values(lang, slot)
        return tuple(value for i, value in enumerate(values) if _is_held_back(i))

    def _values(self, lang: str, slot: str) -> tuple[str, ...]:
        try:
            return self.slot_values[lang][slot]
        except KeyError:
            raise CorpusError(f"slots.yaml has no values for {{{slot}}} in {lang!r}") from None


def read_corpus(folder: Path = CORPUS_FOLDER) -> Corpus:
    """Read every dialogue and slot value of a corpus folder.

    Raises:
        CorpusError: A file is not what the corpus format asks for.
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise CorpusError(f"there are no *.yaml files in {folder}")
    digest = hashlib.sha256()
    dialogues: list[Dialogue] = []
    values: dict[str, dict[str, tuple[str, ...]]] = {}
    for file in files:
        content = file.read_bytes()
        digest.update(file.name.encode() + b"\0" + content)
        loaded = yaml.safe_load(content)
        if file.stem == "slots":
            values = _parse_slot_values(loaded)
        else:
            dialogues.extend(_parse_dialogue(entry, file.stem) for entry in loaded)
    return Corpus(tuple(dialogues), values, digest.hexdigest())


def held_back_leaks(corpus: Corpus) -> Iterator[tuple[str, str]]:
    """Yield (dialogue id, wording) of every held-back wording that some dialogue also trains on.

    Marks at the end don't make two wordings differ.
    """
    turns = [(dialogue.id, turn) for dialogue in corpus.dialogues for turn in dialogue.turns]
    trained = {without_end_marks(ask) for _, turn in turns for ask in turn.asks}
    for dialogue_id, turn in turns:
        for text in turn.held_back:
            if without_end_marks(text) in trained:
                yield dialogue_id, text


def without_end_marks(text: str) -> str:
    """Return `text` without the punctuation and blanks at its end."""
    return text.rstrip(_END_MARKS)


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return `text` with its slots filled, sums computed.

    Raises:
        CorpusError: A slot has no value.
    """

    def value_of(match: re.Match[str]) -> str:
        expression = match.group(1)
        if expression in values:
            return values[expression]
        return _compute(expression, values)

    return _SLOT.sub(value_of, text)


def draw_operands(rng: random.Random) -> dict[str, str]:
    """Return values for `{a}` and `{b}`: 1 to 9 each, a not below b."""
    b, a = sorted((rng.randint(1, 9), rng.randint(1, 9)))
    return {"a": str(a), "b": str(b)}


def draw_distinct(
    slots: Sequence[str], pool: Mapping[str, Sequence[str]], rng: random.Random
) -> dict[str, str]:
    """Return a value for every slot from its pool, no value twice."""
    drawn: dict[str, str] = {}
    for slot in slots:
        free = [value for value in pool[slot] if value not in drawn.values()]
        drawn[slot] = rng.choice(free)
    return drawn


def is_operand(slot: str) -> bool:
    """Return whether a slot is one of the numbers that sums are made of."""
    return slot in _OPERANDS


def _is_held_back(index: int) -> bool:
    return index % _HELD_BACK_EVERY == _HELD_BACK_EVERY - 1


def _compute(expression: str, values: Mapping[str, str]) -> str:
    try:
        a, b = int(values["a"]), int(values["b"])
        return str({"a+b": a + b, "a-b": a - b, "a*b": a * b}[expression])
    except KeyError:
        raise CorpusError(f"the slot {{{expression}}} has no value") from None


def _parse_slot_values(loaded: Any) -> dict[str, dict[str, tuple[str, ...]]]:
    return {
        lang: {slot: tuple(str(value) for value in values) for slot, values in slots.items()}
        for lang, slots in loaded.items()
    }


def _parse_dialogue(entry: Any, topic: str) -> Dialogue:
    name = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not _DIALOGUE_ID.fullmatch(name):
        raise CorpusError(f"{topic}.yaml: a dialogue has no valid id: {name!r}")
    try:
        turns = tuple(_parse_turn(turn) for turn in entry["turns"])
        return Dialogue(name, topic, entry["lang"], turns)
    except (KeyError, TypeError) as error:
        raise CorpusError(f"{topic}.yaml: {name}: {error!r}") from error


def _parse_turn(entry: Any) -> Turn:
    return Turn(
        asks=_parse_texts(entry["ask"]),
        held_back=_parse_texts(entry["held_back"]),
        answer=entry["answer"].strip(),
        must=_parse_texts(entry["must"]),
    )


def _parse_texts(entry: Any) -> tuple[str, ...]:
    # An unquoted number or yes/no in YAML is no string; it is caught here, not in a tokenizer.
    if not isinstance(entry, list) or not all(isinstance(text, str) for text in entry):
        raise TypeError(f"not a list of strings: {entry!r}")
    return tuple(entry)
