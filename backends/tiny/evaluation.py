"""Asks a finished model the held-back paraphrases and counts the right answers.

Runs the shipped files through `backends.server`, greedily, as the panel would. Knows nothing of
training.
"""

import random
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from backends.server import ChatModel
from backends.tiny.conversations import Exchange, as_messages
from backends.tiny.corpus import (
    Corpus,
    Dialogue,
    draw_distinct,
    draw_operands,
    fill,
    is_operand,
)

_SEED = 20_230_314
_MAX_NEW_TOKENS = 120


@dataclass(frozen=True)
class Question:
    """One held-back wording with what was said before it and what its answer must contain."""

    dialogue_id: str
    topic: str
    history: tuple[Exchange, ...]
    text: str
    must: tuple[str, ...]
    unseen_values: bool


@dataclass(frozen=True)
class Result:
    """What a model answered to one question, and whether that is right."""

    question: Question
    answer: str
    right: bool


def held_back_questions(corpus: Corpus, self_name: str) -> Iterator[Question]:
    """Yield every held-back wording of the corpus as a question, always the same ones.

    Every second dialogue with slots gets values that training never saw. Sums have no such values:
    the 45 pairs of numbers are all trained on.
    """
    rng = random.Random(_SEED)
    with_slots = 0
    for dialogue in corpus.dialogues:
        free = [slot for slot in dialogue.slots() if slot != "self" and not is_operand(slot)]
        with_slots += bool(free)
        unseen = bool(free) and with_slots % 2 == 1
        draw = corpus.held_back_values if unseen else corpus.trained_values
        pool = {slot: draw(dialogue.lang, slot) for slot in free}
        values = {"self": self_name, **draw_operands(rng), **draw_distinct(free, pool, rng)}
        yield from _questions_of(dialogue, values, unseen_values=unseen)


def evaluate(model: ChatModel, questions: Iterable[Question]) -> Iterator[Result]:
    """Yield the model's greedy answer to every question, judged."""
    for question in questions:
        prompt = model.tokenizer.encode_chat(as_messages(question.history, question.text))
        ids = model.generate(prompt, _MAX_NEW_TOKENS, temperature=0)
        answer = model.tokenizer.answer(ids)
        yield Result(question, answer, is_right(answer, question.must))


def _questions_of(
    dialogue: Dialogue, values: dict[str, str], *, unseen_values: bool
) -> Iterator[Question]:
    history: tuple[Exchange, ...] = ()
    for turn in dialogue.turns:
        must = tuple(fill(text, values) for text in turn.must)
        for wording in turn.held_back:
            text = fill(wording, values)
            yield Question(dialogue.id, dialogue.topic, history, text, must, unseen_values)
        reference = Exchange(fill(turn.asks[0], values), fill(turn.answer, values))
        history = (*history, reference)


def is_right(answer: str, must: Iterable[str]) -> bool:
    """Return whether `answer` contains every one of `must`, whatever the width, case and blanks.

    Numbers only count as a whole: "12" does not contain "2".
    """
    plain = _plain(answer)
    return all(_contains(plain, _plain(text)) for text in must)


def _contains(answer: str, text: str) -> bool:
    pattern = re.escape(text)
    if text[:1].isdigit():
        pattern = r"(?<!\d)" + pattern
    if text[-1:].isdigit():
        pattern += r"(?!\d)"
    return re.search(pattern, answer) is not None


def _plain(text: str) -> str:
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text)).casefold()
