"""Which trial of a rating session a rater is given next. Pure: knows no database and no page.

A session wants each of its prompts rated by `raters_per_prompt` raters for each pair of its
models; a prompt with a pair is a *cell* here. What holds:

- A rater rates a cell once. They are given the one with the fewest ratings; one that somebody else
  is at counts as rated. None gets more than `raters_per_prompt` ratings, unless somebody comes back
  to a trial after it was given away.
- Of equally rated cells one is taken whose earlier raters had the sides the other way round; what
  is left is a seeded order, another one for each rater.
- The sides themselves are the rater's own permuted blocks (`rating.assignment`), without exception:
  after any number of regular trials of a pair the two arrangements differ by at most four, and not
  at all at the end of a block. Hence the mirroring is exact but for what blocks leave open: of two
  raters who both rate all of n prompts, at least n - 4 have mirrored sides.
- After n regular trials the rater has been given `share` x n repeats and attention items, rounded
  up or down, each at a random place in its stretch of 1 / `share` regular trials. An attention item
  is never the first trial, and none comes twice. A repeat shows an own regular trial with at least
  `REPEAT_GAP` others in between, sides swapped; no trial is repeated twice. What isn't possible yet
  follows as soon as it is, and at the end is left out.

All chance is drawn from the session's secret seed and the rater's id: the same again after a
restart, and not to be foretold.
"""

import random
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from db import Side, TrialKind

REPEAT_GAP = 3
"""Trials between one and its repeat, at least."""

Cell = tuple[str, str]
"""A prompt's id and a pair's key."""


@dataclass(frozen=True)
class Rules:
    """What the operator has decided, and what there is to rate.

    Attributes:
        prompts: Ids of the prompts that models answer, without those that can't be asked.
        gold: Ids of the attention items.
        pairs: Keys of all pairs of the session's models.
        repeat_share: 0 to 1 of a rater's regular trials; so is `attention_share`.
    """

    prompts: Sequence[str]
    gold: Sequence[str]
    pairs: Sequence[str]
    raters_per_prompt: int
    repeat_share: float
    attention_share: float
    seed: int


@dataclass(frozen=True)
class Count:
    """Regular trials of a cell, by the side of the pair's first model."""

    straight: int = 0
    swapped: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.straight + self.swapped

    def __add__(self, other: "Count") -> "Count":
        return Count(self.straight + other.straight, self.swapped + other.swapped)


@dataclass(frozen=True)
class Given:
    """A trial of this session that the rater has rated.

    Attributes:
        swapped: Whether the pair's second model was on the left.
        repeat_of: The trial that it repeated.
    """

    trial: str
    kind: TrialKind
    prompt: str
    pair: str
    swapped: bool
    repeat_of: str | None = None


@dataclass(frozen=True)
class Next:
    """What the rater is given; `better` is the side of an attention item's better answer."""

    kind: TrialKind
    prompt: str
    pair: str
    swapped: bool
    repeat_of: str | None = None
    better: Side | None = None


class Nothing(StrEnum):
    """Why there is nothing to give."""

    DONE = "done"
    TAKEN = "taken"


NO_COUNT = Count()


class _Course:
    """A rater's trials so far, counted.

    Attributes:
        given: How many of each kind.
        length: Of all kinds.
        repeatable: Regular ones that are far enough back to be repeated now, repeated or not.
    """

    def __init__(self) -> None:
        self.given = Counter[TrialKind]()
        self.length = 0
        self.repeatable = 0
        self._near: deque[TrialKind] = deque()

    def add(self, kind: TrialKind) -> None:
        """Count one more."""
        self.given[kind] += 1
        self.length += 1
        self._near.append(kind)
        if len(self._near) > REPEAT_GAP:
            self.repeatable += self._near.popleft() is TrialKind.REGULAR


@dataclass(frozen=True)
class Plan:
    """What one rater can still be given.

    Attributes:
        rater: Their id.
        own: Their rated trials in this session, the oldest first.
        rated: How often each cell has been rated, by whomever.
        taken: The cells that others are at.
        shown: Attention items that the rater has seen, rated or not.
    """

    rules: Rules
    rater: str
    own: Sequence[Given]
    rated: Mapping[Cell, Count]
    taken: Mapping[Cell, Count]
    shown: frozenset[str] = frozenset()

    def next_trial(self, swapped: Callable[[str], bool]) -> Next | Nothing:
        """Return the next trial; `swapped` tells the rater's sides for a regular one of a pair."""
        match self._next_kind(self._course, bool(self._unseen), len(self._gold)):
            case None:
                return Nothing.DONE
            case TrialKind.ATTENTION:
                return self._attention()
            case TrialKind.REPEAT:
                return self._repeat()
        free = self._free
        if not free:
            return Nothing.TAKEN
        sides = {pair: swapped(pair) for pair in {pair for _, pair in free}}
        prompt, pair = min(free, key=lambda cell: self._rank(cell, sides[cell[1]]))
        return Next(TrialKind.REGULAR, prompt, pair, sides[pair])

    @property
    def waits(self) -> bool:
        """Whether others are at all that the rater could be given now."""
        kind = self._next_kind(self._course, bool(self._unseen), len(self._gold))
        return kind is TrialKind.REGULAR and not self._free

    @property
    def left(self) -> int:
        """How many trials the rater can still get, those included that others are at."""
        course, regular, gold, left = self._course, len(self._unseen), len(self._gold), 0
        while (kind := self._next_kind(course, bool(regular), gold)) is not None:
            course.add(kind)
            regular -= kind is TrialKind.REGULAR
            gold -= kind is TrialKind.ATTENTION
            left += 1
        return left

    @property
    def _course(self) -> "_Course":
        course = _Course()
        for given in self.own:
            course.add(given.kind)
        return course

    @property
    def _free(self) -> list[Cell]:
        """The unseen cells that nobody else is about to complete."""
        wanted = self.rules.raters_per_prompt
        return [cell for cell in self._unseen if self._load(cell).total < wanted]

    @property
    def _unseen(self) -> list[Cell]:
        """The cells that lack ratings and have none of this rater's."""
        seen = {(g.prompt, g.pair) for g in self.own if g.kind is TrialKind.REGULAR}
        return [
            (prompt, pair)
            for prompt in self.rules.prompts
            for pair in self.rules.pairs
            if (prompt, pair) not in seen
            and self.rated.get((prompt, pair), NO_COUNT).total < self.rules.raters_per_prompt
        ]

    @property
    def _gold(self) -> list[str]:
        """The attention items that the rater hasn't seen, in the order of their turn."""
        seen = self.shown | {g.prompt for g in self.own if g.kind is TrialKind.ATTENTION}
        return sorted((one for one in self.rules.gold if one not in seen), key=self._order)

    def _next_kind(self, course: "_Course", unseen: bool, gold_left: int) -> TrialKind | None:
        """Return what follows; None at the end."""
        given, regular = course.given, course.given[TrialKind.REGULAR]
        if (
            gold_left
            and course.length
            and given[TrialKind.ATTENTION] < self._due("attention", regular)
        ):
            return TrialKind.ATTENTION
        repeats = min(course.repeatable, self._due("repeat", regular))
        if given[TrialKind.REPEAT] < repeats:
            return TrialKind.REPEAT
        return TrialKind.REGULAR if unseen else None

    def _due(self, what: str, regular: int) -> int:
        """Return how many checks belong to so many regular trials: one at random a stretch."""
        rules = self.rules
        share = rules.attention_share if what == "attention" else rules.repeat_share
        whole, rest = divmod(round(share * regular, 9), 1.0)
        return int(whole) + (self._chance(what, int(whole)).random() < rest)

    def _rank(self, cell: Cell, swapped: bool) -> tuple[int, int, float]:
        load = self._load(cell)
        lean = load.swapped - load.straight
        worse = abs(lean + (1 if swapped else -1)) - abs(lean)
        return load.total, worse, self._order(*cell)

    def _load(self, cell: Cell) -> Count:
        return self.rated.get(cell, NO_COUNT) + self.taken.get(cell, NO_COUNT)

    def _attention(self) -> Next:
        prompt = self._gold[0]
        chance = self._chance("gold", prompt)
        pair = chance.choice(sorted(self.rules.pairs))
        better = chance.choice(list(Side))
        return Next(TrialKind.ATTENTION, prompt, pair, chance.random() < 0.5, better=better)

    def _repeat(self) -> Next:
        repeated = {given.repeat_of for given in self.own}
        possible = [
            given
            for given in self.own[: max(0, len(self.own) - REPEAT_GAP)]
            if given.kind is TrialKind.REGULAR and given.trial not in repeated
        ]
        once = self._chance("repeated", len(repeated)).choice(possible)
        return Next(
            TrialKind.REPEAT, once.prompt, once.pair, not once.swapped, repeat_of=once.trial
        )

    def _order(self, *what: str) -> float:
        return self._chance("order", *what).random()

    def _chance(self, *what: object) -> random.Random:
        return random.Random("|".join(map(str, (self.rules.seed, self.rater, *what))))
