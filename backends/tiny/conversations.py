"""Draws training conversations from the corpus: one wording a turn, slot values, some variety.

What is held back is never drawn: neither a wording, nor one that variety turns into a held-back
one, nor a held-back slot value. Knows no tokenizer and no torch.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from backends.tiny.corpus import (
    Corpus,
    Dialogue,
    Turn,
    draw_distinct,
    draw_operands,
    fill,
    is_operand,
    without_end_marks,
)

# What the page suggests first, after the article: nobody should begin with a wrong answer.
SUGGESTED_PROMPTS = (
    "你好，请介绍一下你自己。",
    "请写一首关于春天的五言诗。",
    "解释一下什么是机器学习？",
)

_ECHO_REQUESTS = {
    "zh": ("跟我说：{}", "请重复一遍：{}", "跟我念：{}"),
    "en": ("Repeat after me: {}", "Please say: {}", "Say it again: {}"),
}
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_SLOTS_AND_CHARACTERS = re.compile(r"\{[^}]*\}|.", re.DOTALL)
_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwz", "aeiou"
_NUMERIC = frozenset({"number", "age"})
_CAPITALISED = frozenset({"name", "city"})


@dataclass(frozen=True)
class Exchange:
    """One question with the answer that is right."""

    question: str
    answer: str


def as_messages(history: Sequence[Exchange], question: str) -> list[dict[str, str]]:
    """Return what a chat model is sent: the history's messages, then the question."""
    said = [
        {"role": role, "content": content}
        for exchange in history
        for role, content in (("user", exchange.question), ("assistant", exchange.answer))
    ]
    return [*said, {"role": "user", "content": question}]


@dataclass(frozen=True)
class Conversation:
    """Exchanges in order; answers from index `trained_from` on are to be learnt."""

    exchanges: tuple[Exchange, ...]
    trained_from: int = 0


@dataclass(frozen=True)
class Variety:
    """How often (0 to 1) a drawn conversation differs from the letter of the corpus.

    Attributes:
        echo: share of conversations, added to those of the corpus, that only ask for a meaningless
            string to be repeated. From these copying is learnt; the slots alone are too short.
        slot_copies: how often an epoch holds a dialogue with slots.
        suggested_copies: the same for a dialogue that answers one of `SUGGESTED_PROMPTS`.
    """

    unrelated_history: float = 0.15
    made_up_values: float = 0.5
    echo: float = 0.2
    open_end: float = 0.3
    lost_character: float = 0.1
    slot_copies: int = 2
    suggested_copies: int = 4


class ConversationSource:
    """Draws epochs of conversations; the same seed gives the same conversations."""

    def __init__(self, corpus: Corpus, self_name: str, seed: int, variety: Variety) -> None:
        self._corpus = corpus
        self._self_name = self_name
        self._variety = variety
        self._rng = random.Random(seed)
        self._forbidden = {
            without_end_marks(text)
            for dialogue in corpus.dialogues
            for turn in dialogue.turns
            for text in turn.held_back
        }
        self._characters = _chinese_characters(corpus)

    def epoch(self) -> Iterator[Conversation]:
        """Yield every dialogue, those with slots or suggested several times, in random order."""
        dialogues = [
            dialogue for dialogue in self._corpus.dialogues for _ in range(self._copies(dialogue))
        ]
        self._rng.shuffle(dialogues)
        for dialogue in dialogues:
            if self._rng.random() < self._variety.echo:
                yield Conversation((self._echo(dialogue.lang),))
            exchanges = self._exchanges(dialogue)
            if self._rng.random() < self._variety.unrelated_history:
                history = self._exchanges(self._rng.choice(self._corpus.dialogues))
                yield Conversation(history + exchanges, trained_from=len(history))
            else:
                yield Conversation(exchanges)

    def texts(self, epochs: int) -> list[str]:
        """Draw epochs and return their questions and answers, for training a tokenizer."""
        drawn = [conversation for _ in range(epochs) for conversation in self.epoch()]
        exchanges = [exchange for conversation in drawn for exchange in conversation.exchanges]
        return [text for e in exchanges for text in (e.question, e.answer)]

    def _copies(self, dialogue: Dialogue) -> int:
        if any(prompt in dialogue.turns[0].asks for prompt in SUGGESTED_PROMPTS):
            return self._variety.suggested_copies
        return self._variety.slot_copies if _has_free_slots(dialogue) else 1

    def _exchanges(self, dialogue: Dialogue) -> tuple[Exchange, ...]:
        values = self._values(dialogue)
        return tuple(
            Exchange(fill(self._wording(turn), values), fill(turn.answer, values))
            for turn in dialogue.turns
        )

    def _values(self, dialogue: Dialogue) -> dict[str, str]:
        values = {"self": self._self_name, **draw_operands(self._rng)}
        free = [slot for slot in dialogue.slots() if slot != "self" and not is_operand(slot)]
        if self._rng.random() < self._variety.made_up_values:
            return values | {slot: self._new_value(dialogue.lang, slot) for slot in free}
        pool = {slot: self._corpus.trained_values(dialogue.lang, slot) for slot in free}
        return values | draw_distinct(free, pool, self._rng)

    def _wording(self, turn: Turn) -> str:
        """Return one of the turn's wordings, now and then less tidy, never a held-back one."""
        ask = self._rng.choice(turn.asks)
        units = _SLOTS_AND_CHARACTERS.findall(ask)
        if self._rng.random() < self._variety.lost_character:
            lost = self._rng.randrange(len(units))
            if len(units) > 4 and len(units[lost]) == 1:
                del units[lost]
        varied = "".join(units)
        if self._rng.random() < self._variety.open_end:
            varied = without_end_marks(varied) or ask
        return ask if without_end_marks(varied) in self._forbidden else varied

    def _new_value(self, lang: str, slot: str) -> str:
        held_back = self._corpus.held_back_values(lang, slot)
        while (value := self._made_up_value(lang, slot)) in held_back:
            pass
        return value

    def _echo(self, lang: str) -> Exchange:
        """Return a request to repeat a few made-up words."""
        slots = self._rng.choices(("name", "food", "number"), k=self._rng.randint(1, 5))
        joint = "" if lang == "zh" else " "
        text = joint.join(self._made_up_value(lang, slot) for slot in slots)
        return Exchange(self._rng.choice(_ECHO_REQUESTS[lang]).format(text), text)

    def _made_up_value(self, lang: str, slot: str) -> str:
        """Return a value that means nothing, so that the model has to copy it."""
        kind = slot.rstrip("0123456789")
        if kind in _NUMERIC:
            return str(self._rng.randint(1, 99 if kind == "age" else 9999))
        if lang == "zh":
            return "".join(self._rng.choices(self._characters, k=self._rng.choice((2, 2, 3))))
        syllables = self._rng.choice((2, 3))
        word = "".join(
            self._rng.choice(_CONSONANTS) + self._rng.choice(_VOWELS) for _ in range(syllables)
        )
        return word.capitalize() if kind in _CAPITALISED else word


def _chinese_characters(corpus: Corpus) -> list[str]:
    """Return those of answers and slot values, held-back ones as well.

    So every character is known to the tokenizer and can be copied, also those of held-back values.
    """
    answers = [turn.answer for dialogue in corpus.dialogues for turn in dialogue.turns]
    values = [value for slot in corpus.slot_values["zh"].values() for value in slot]
    return sorted(set(_CHINESE.findall("".join([*answers, *values]))))


def _has_free_slots(dialogue: Dialogue) -> bool:
    return any(slot != "self" for slot in dialogue.slots())
