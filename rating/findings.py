"""What a page or a report of results shows: the figures, and what lies behind them.

Adds to the summary how often each score was given and how the intervals narrowed as ratings
arrived. Holds no rows of trials, so that findings can be kept. Knows no charts and no words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from db import Database, Dimension, Side
from db.queries import Filters
from rating.dimensions import HIGHEST, LOWEST
from rating.frames import SCORES, fitting
from rating.statistics.bootstrap import mean_interval
from rating.statistics.figures import Interval, PairFigures, Rank, Results
from rating.statistics.paired import pair_up, prompt_means
from rating.summary import Group, groups_of, rated_trials, results_of

_STEPS = 10


@dataclass(frozen=True)
class Moment:
    """What was known of one dimension's difference after so many ratings."""

    n_ratings: int
    difference: float | None
    interval: Interval | None


@dataclass(frozen=True)
class PairFindings:
    """One pair, blind or open.

    Attributes:
        given: How often each score from 1 to 5 was given, by dimension and model.
        progress: By dimension, after each tenth of the ratings, the oldest first.
    """

    figures: PairFigures
    given: Mapping[Dimension, Mapping[str, Sequence[int]]]
    progress: Mapping[Dimension, Sequence[Moment]]


@dataclass(frozen=True)
class Findings:
    """All pairs, blind and open apart, most trials first; and which ratings count."""

    pairs: Sequence[PairFindings]
    ranking: Sequence[Rank]
    include_flagged: bool

    @property
    def results(self) -> Results:
        """The figures alone, as `rating.summary.summarise` returns them."""
        return Results(pairs=[found.figures for found in self.pairs], ranking=self.ranking)


def find(database: Database, filters: Filters, *, include_flagged: bool = False) -> Findings:
    """Return what the rated trials that fit say; of no ratings, nothing."""
    return findings_of(fitting(rated_trials(database), filters), include_flagged=include_flagged)


def findings_of(rated: pd.DataFrame, *, include_flagged: bool = False) -> Findings:
    """Return the same of rows of what `rated_trials` returned."""
    groups = groups_of(rated, include_flagged=include_flagged)
    results = results_of(groups)
    return Findings(
        pairs=[_found(*both) for both in zip(groups, results.pairs, strict=True)],
        ranking=results.ranking,
        include_flagged=include_flagged,
    )


def _found(group: Group, figures: PairFigures) -> PairFindings:
    return PairFindings(
        figures=figures,
        given={
            key: {model: _given(group.counted, model, key) for model in group.models}
            for key in Dimension
        },
        progress=_progress(group),
    )


def _given(frame: pd.DataFrame, model: str, key: Dimension) -> tuple[int, ...]:
    scores = scores_of(frame, model, key)
    counts = np.bincount(scores[~np.isnan(scores)].astype(int), minlength=HIGHEST + 1)
    return tuple(int(count) for count in counts[LOWEST : HIGHEST + 1])


def scores_of(
    frame: pd.DataFrame, model: str, key: Dimension
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return a model's scores, one a trial, whichever side it was on; NaN is "not applicable"."""
    left, right = (frame[SCORES[key][side]].to_numpy(dtype=float) for side in Side)
    return np.where((frame["left_model"] == model).to_numpy(dtype=bool), left, right)


def _progress(group: Group) -> dict[Dimension, list[Moment]]:
    ordered = group.counted.sort_values("rated_at", kind="stable")
    steps = sorted({round(len(ordered) * step / _STEPS) for step in range(1, _STEPS + 1)} - {0})
    progress: dict[Dimension, list[Moment]] = {key: [] for key in Dimension}
    for n_ratings in steps:
        paired = pair_up(ordered.head(n_ratings), group.models)
        for key, moments in progress.items():
            found = prompt_means(paired, key).differences
            mean = float(found.mean()) if len(found) else None
            moments.append(Moment(n_ratings, mean, mean_interval(found)))
    return progress
