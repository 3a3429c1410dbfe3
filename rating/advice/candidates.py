"""What is known here of each model that somebody may choose: measured figures and ratings.

Makes them of what a measurement and rated trials left; which one to take is `choice`'s. A model
counts with what it took alone, as it would run once it is chosen, not beside the others.
"""

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations

import pandas as pd

from backends.catalog import MODELS
from backends.measurement import Resources, TimedAnswer
from db import Dimension, Side, Trial
from rating.assignment import pair_key
from rating.statistics.intervals import Mean, mean_of
from rating.summary import scores_frame
from rating.trial import latest_if_any

Run = tuple[int, int]
"""Which prompt of the plan, and which time it was asked; both from 1."""


class Ground(StrEnum):
    """What scores are averaged over before two models are compared by them."""

    ALL = "all"
    DIALOGUE = "dialogue"
    LANGUAGE = "language"


GROUNDS: Mapping[Ground, tuple[Dimension, ...]] = {
    Ground.ALL: tuple(Dimension),
    Ground.DIALOGUE: (Dimension.UNDERSTANDING, Dimension.COHERENCE, Dimension.MEMORY),
    Ground.LANGUAGE: (Dimension.NATURALNESS, Dimension.REASONING),
}
"""Chosen ahead, not by what came out: a conversation, and language with complex tasks."""


_QUIET_SHARE = 0.1
"""Of all cores: so much the system and the page that shows the progress take at times."""


@dataclass(frozen=True)
class Spread:
    """A figure that was measured `n` times; `sd` is None where it was once."""

    mean: float
    sd: float | None
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Collection[float]) -> "Spread | None":
        """Return the spread of the values; of none, None."""
        if not values:
            return None
        sd = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), sd, min(values), max(values), len(values))


@dataclass(frozen=True)
class Compared:
    """What ratings say of one model beside another.

    Attributes:
        difference: Its mean score minus the other's with interval, by what is averaged over; raters
            of one prompt are averaged first, so `n` counts prompts. Without what was never scored.
        n_ratings: Rated trials of the two.
        blind: Whether the raters did not know who was who.
    """

    difference: Mapping[Ground, Mean]
    n_ratings: int
    blind: bool


@dataclass(frozen=True)
class Candidate:
    """One model: what it took here, and what raters say of it.

    Attributes:
        revision: Of the weights that were measured.
        builtin: One of the tiny models that ship with the code.
        peak_bytes: Most memory that its server process took; None where that was not measured.
        size_bytes: Of its files.
        cold_start_s: From the start of its process to the first token, files not in memory.
        warm_start_s: The same at once again.
        others_share: Of all cores, taken by other programs while it was measured.
        first_token_s: By run, of the answers that came.
        answer_s: By run, of the answers that came, from the request to the end.
        n_failed: Answers that did not come.
        error: Why something is missing; "" where nothing is.
        quality: Mean over prompts of its scores in trials with other candidates, 1 to 5.
        against: What the ratings say beside each other candidate that it was rated with.
        rated_as: Revision and precision of the answers that were rated.
    """

    model_key: str
    revision: str = ""
    precision: str = ""
    remote: bool = False
    builtin: bool = False
    peak_bytes: int | None = None
    size_bytes: int | None = None
    cold_start_s: float | None = None
    warm_start_s: float | None = None
    others_share: float | None = None
    first_token_s: Mapping[Run, float] = field(default_factory=dict)
    answer_s: Mapping[Run, float] = field(default_factory=dict)
    n_failed: int = 0
    error: str = ""
    quality: Mean | None = None
    against: Mapping[str, Compared] = field(default_factory=dict)
    rated_as: frozenset[tuple[str, str]] = frozenset()

    @property
    def failed(self) -> bool:
        """Whether it was asked, or started, and never answered."""
        return not self.answer_s and bool(self.error or self.n_failed)

    @property
    def disturbed(self) -> bool:
        """Whether other programs took so much while it was measured that its times are too long."""
        return (self.others_share or 0.0) > _QUIET_SHARE

    @property
    def rated_otherwise(self) -> bool:
        """Whether ratings are of answers in another revision or precision than was measured."""
        return any(
            (self.revision and revision and revision != self.revision)
            or (self.precision and precision and precision != self.precision)
            for revision, precision in self.rated_as
        )


def candidates(
    models: Sequence[Resources], answers: Sequence[TimedAnswer], trials: Sequence[Trial] = ()
) -> tuple[Candidate, ...]:
    """Return each model of a measurement with what is known of it, in the order of the keys.

    Args:
        models: What each took; what it took together with the others is left out.
        answers: As above.
        trials: Rated ones, of any pair; only those of two of these models count, and of a pair
            that was rated blind at all only its blind ones.
    """
    taken = {one.model_key: one for one in models if not one.together}
    timed = [answer for answer in answers if not answer.together]
    keys = sorted(taken.keys() | {answer.model_key for answer in timed})
    counted = _counted(trials, keys)
    scores = scores_frame(counted)
    against = _against(counted, scores)
    return tuple(
        _candidate(
            taken.get(key, Resources(key, together=False)),
            [answer for answer in timed if answer.model_key == key],
            quality=_quality(scores, key),
            against=against.get(key, {}),
            rated_as=_rated_as(counted, key),
        )
        for key in keys
    )


def _candidate(
    taken: Resources,
    answers: Sequence[TimedAnswer],
    *,
    quality: Mean | None,
    against: Mapping[str, Compared],
    rated_as: frozenset[tuple[str, str]],
) -> Candidate:
    key = taken.model_key
    came = [answer for answer in answers if not answer.error and answer.total_s is not None]
    errors = [taken.error, *(answer.error for answer in answers)]
    return Candidate(
        model_key=key,
        revision=taken.revision,
        precision=taken.precision,
        remote=taken.remote,
        builtin=key in MODELS and MODELS[key].builtin,
        peak_bytes=None if taken.remote else taken.peak_bytes,
        size_bytes=None if taken.remote else taken.size_bytes,
        cold_start_s=taken.cold_start_s,
        warm_start_s=taken.warm_start_s,
        others_share=taken.others_share,
        first_token_s={
            (a.prompt, a.repeat): a.first_token_s for a in came if a.first_token_s is not None
        },
        answer_s={(a.prompt, a.repeat): a.total_s for a in came if a.total_s is not None},
        n_failed=len(answers) - len(came),
        error=next((error for error in errors if error), ""),
        quality=quality,
        against=against,
        rated_as=rated_as,
    )


def _counted(trials: Sequence[Trial], keys: Collection[str]) -> list[Trial]:
    """Return the rated trials of two of these models; of a pair rated blind, no open ones."""
    pairs = {pair_key(a, b) for a, b in combinations(keys, 2)}
    among = [trial for trial in trials if trial.rating is not None and trial.pair in pairs]
    blind = {trial.pair for trial in among if trial.blind}
    return [trial for trial in among if trial.blind or trial.pair not in blind]


def _against(trials: Sequence[Trial], scores: pd.DataFrame) -> dict[str, dict[str, Compared]]:
    """Return what the ratings say of each model beside each other one, by their keys."""
    found: dict[str, dict[str, Compared]] = {}
    for pair in sorted({trial.pair for trial in trials}):
        first, second = pair.split("|")
        rated = [trial for trial in trials if trial.pair == pair]
        differences = {
            ground: difference
            for ground in Ground
            if (difference := _difference(scores[scores["pair"] == pair], (first, second), ground))
        }
        blind = rated[0].blind
        found.setdefault(first, {})[second] = Compared(differences, len(rated), blind)
        mirrored = {ground: -difference for ground, difference in differences.items()}
        found.setdefault(second, {})[first] = Compared(mirrored, len(rated), blind)
    return found


def _difference(scores: pd.DataFrame, models: tuple[str, str], ground: Ground) -> Mean | None:
    """Return the first model's scores minus the second's: each trial, its prompt's trials, all."""
    meant = scores[scores["dimension"].isin([key.value for key in GROUNDS[ground]])]
    wide = meant.pivot(index=["prompt", "trial", "dimension"], columns="model", values="score")
    paired = wide.reindex(columns=list(models)).dropna()
    return _over_prompts(paired[models[0]] - paired[models[1]])


def _quality(scores: pd.DataFrame, key: str) -> Mean | None:
    own = scores[scores["model"] == key].dropna(subset=["score"])
    return _over_prompts(own.set_index(["prompt", "trial"])["score"])


def _over_prompts(values: "pd.Series[float]") -> Mean | None:
    """Return the mean over prompts of the mean over a prompt's trials of each trial's mean."""
    by_trial = values.groupby(["prompt", "trial"]).mean()
    return mean_of(by_trial.groupby("prompt").mean().tolist())


def _rated_as(trials: Sequence[Trial], key: str) -> frozenset[tuple[str, str]]:
    answers = [
        latest_if_any(turn.answers, side)
        for trial in trials
        for side in Side
        if trial.model_on(side) == key
        for turn in trial.turns
    ]
    return frozenset(
        (answer.model_revision, answer.precision) for answer in answers if answer is not None
    )
