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
from db import Database, Dimension
from db.queries import Filters
from db.rating_queries import Version, rated_versions
from rating.assignment import pair_key
from rating.frames import fitting, long_scores
from rating.statistics.intervals import Mean, mean_of
from rating.summary import Group, groups_of, rated_trials

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
class Ratings:
    """What raters said of some pairs: those that count, and of which versions of the models."""

    groups: Sequence[Group] = ()
    versions: Collection[Version] = ()

    @classmethod
    def of(
        cls,
        database: Database,
        models: Collection[str],
        visible: Filters,
        rated: pd.DataFrame | None = None,
    ) -> "Ratings":
        """Return those of all pairs of `models`; of a pair that was rated blind, no open ones.

        Args:
            database: Where they are.
            models: Keys.
            visible: Leaves out what must not be seen (`results_rule.visible_to`).
            rated: What `rated_trials` has returned of the database; None has it read.
        """
        pairs = [pair_key(*two) for two in combinations(sorted(models), 2)]
        fits = fitting(rated_trials(database) if rated is None else rated, visible)
        groups = groups_of(fits[fits["pair"].isin(pairs)])
        counted = [group for group in groups if len(group.counted)]
        blind = {group.models for group in counted if group.blind}
        kept = [group for group in counted if group.blind or group.models not in blind]
        grounds = {(pair_key(*group.models), group.blind) for group in kept}
        with database.read() as session:
            versions = rated_versions(session, pairs, visible)
        return cls(kept, {one for one in versions if (one.pair, one.blind) in grounds})


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
    models: Sequence[Resources], answers: Sequence[TimedAnswer], ratings: Ratings | None = None
) -> tuple[Candidate, ...]:
    """Return each model of a measurement with what is known of it, in the order of the keys.

    Args:
        models: What each took; what it took together with the others is left out.
        answers: As above.
        ratings: Of pairs of these models.
    """
    taken = {one.model_key: one for one in models if not one.together}
    timed = [answer for answer in answers if not answer.together]
    keys = sorted(taken.keys() | {answer.model_key for answer in timed})
    known = ratings or Ratings()
    scores = [long_scores(group.counted) for group in known.groups]
    against = _against(known.groups, scores)
    return tuple(
        _candidate(
            taken.get(key, Resources(key, together=False)),
            [answer for answer in timed if answer.model_key == key],
            quality=_quality(scores, key),
            against=against.get(key, {}),
            rated_as=frozenset(
                (one.revision, one.precision) for one in known.versions if one.model_key == key
            ),
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


def _against(
    groups: Sequence[Group], scores: Sequence[pd.DataFrame]
) -> dict[str, dict[str, Compared]]:
    """Return what the ratings say of each model beside each other one, by their keys."""
    found: dict[str, dict[str, Compared]] = {}
    for group, own in zip(groups, scores, strict=True):
        first, second = group.models
        differences = {
            ground: difference
            for ground in Ground
            if (difference := _difference(own, group.models, ground))
        }
        n_ratings = len(group.counted)
        found.setdefault(first, {})[second] = Compared(differences, n_ratings, group.blind)
        mirrored = {ground: -difference for ground, difference in differences.items()}
        found.setdefault(second, {})[first] = Compared(mirrored, n_ratings, group.blind)
    return found


def _difference(scores: pd.DataFrame, models: tuple[str, str], ground: Ground) -> Mean | None:
    """Return the first model's scores minus the second's: each trial, its prompt's trials, all."""
    meant = scores[scores["dimension"].isin([key.value for key in GROUNDS[ground]])]
    wide = meant.pivot(index=["prompt", "trial", "dimension"], columns="model", values="score")
    paired = wide.reindex(columns=list(models)).dropna()
    return _over_prompts(paired[models[0]] - paired[models[1]])


def _quality(scores: Sequence[pd.DataFrame], key: str) -> Mean | None:
    if not scores:
        return None
    every = pd.concat(scores, ignore_index=True)
    own = every[every["model"] == key].dropna(subset=["score"])
    return _over_prompts(own.set_index(["prompt", "trial"])["score"])


def _over_prompts(values: "pd.Series[float]") -> Mean | None:
    """Return the mean over prompts of the mean over a prompt's trials of each trial's mean."""
    by_trial = values.groupby(["prompt", "trial"]).mean()
    return mean_of(by_trial.groupby("prompt").mean().tolist())
