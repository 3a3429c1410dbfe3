"""All figures of one pair, from its ratings frame.

Decides neither which ratings count (`rating.quality` does) nor which belong together: the frame
that it is given holds one pair, blind or open.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from db import Dimension, Side, TrialKind
from rating.statistics.agreement import agreement
from rating.statistics.bias import bias_figures
from rating.statistics.bootstrap import mean_interval
from rating.statistics.decisions import decide, proves_difference
from rating.statistics.figures import Agreement, DimensionFigures, Interval, PairFigures
from rating.statistics.paired import (
    DIMENSIONS,
    Paired,
    PromptMeans,
    pair_up,
    prompt_means,
    score_columns,
)
from rating.statistics.preference import preference_figures
from rating.statistics.signed_rank import SignedRank, holm, signed_rank

_COLUMNS = [
    *("trial", "rater", "rated_at", "prompt", "left_model", "preference", "guess"),
    *("left_chars", "right_chars", *score_columns(Side.LEFT), *score_columns(Side.RIGHT)),
]
"""What the figures are made of: copying the others would take half as much memory again."""


def analyse(
    frame: pd.DataFrame,
    models: tuple[str, str],
    *,
    blind: bool,
    excluded: Mapping[str, int] | None = None,
    repeated: pd.DataFrame | None = None,
) -> PairFigures:
    """Return the figures of one pair; an empty frame gives figures without data.

    Args:
        frame: Rated trials of this pair and this mode that count. Only regular ones do, others are
            left out here.
        models: The pair's keys, sorted.
        blind: Whether they were rated blind.
        excluded: Handed on: trials that were left out, by flag.
        repeated: Where repeats and what they repeat are found; `frame` by default. Give it with
            flagged trials, or contradictions are missing from the agreement with oneself.
    """
    regular = frame.loc[frame["kind"] == TrialKind.REGULAR.value, _COLUMNS]
    regular = regular.sort_values(["rated_at", "trial"], ignore_index=True)
    trials = pair_up(regular, models)
    return PairFigures(
        models=models,
        blind=blind,
        n_trials=len(regular),
        n_prompts=trials.n_prompts,
        n_raters=int(regular["rater"].nunique()),
        dimensions=dimension_figures(trials),
        preference=preference_figures(regular, trials),
        bias=bias_figures(regular, trials, frame if repeated is None else repeated),
        excluded=dict(excluded or {}),
    )


@dataclass(frozen=True)
class _Tested:
    means: PromptMeans
    interval: Interval | None
    test: SignedRank | None


def dimension_figures(
    trials: Paired, *, with_agreement: bool = True
) -> dict[Dimension, DimensionFigures]:
    """Return the figures of all dimensions, tested as one family."""
    tested = {dimension: _test(trials, dimension) for dimension in DIMENSIONS}
    adjusted = holm([found.test.p if found.test else None for found in tested.values()])
    decided = sum(
        proves_difference(found.means.differences, p)
        for found, p in zip(tested.values(), adjusted, strict=True)
    )
    undecided = sum(found.test is not None for found in tested.values()) - decided
    return {
        dimension: _figures(
            found,
            trials.models,
            p_holm,
            undecided,
            _agreement(trials, dimension) if with_agreement else None,
        )
        for (dimension, found), p_holm in zip(tested.items(), adjusted, strict=True)
    }


def _test(trials: Paired, dimension: Dimension) -> _Tested:
    means = prompt_means(trials, dimension)
    differences = means.differences
    return _Tested(means, mean_interval(differences), signed_rank(differences))


def _figures(
    found: _Tested,
    models: tuple[str, str],
    p_holm: float | None,
    undecided: int,
    agreed: Agreement | None,
) -> DimensionFigures:
    means, test = found.means, found.test
    differences = means.differences
    rated = len(differences) > 0
    return DimensionFigures(
        n_prompts=len(differences),
        n_ratings=means.n_ratings,
        mean={
            model: float(scores.mean()) if rated else None
            for model, scores in zip(models, (means.first, means.second), strict=True)
        },
        difference=float(differences.mean()) if rated else None,
        interval=found.interval,
        p=test.p if test else None,
        p_holm=p_holm,
        effect=test.effect if test else None,
        agreement=agreed,
        verdict=decide(differences, found.interval, test, p_holm, undecided),
    )


def _agreement(trials: Paired, dimension: Dimension) -> Agreement | None:
    """Return the agreement of raters on one model's answers to one prompt.

    Who rated a prompt more than once counts with the earliest rating.
    """
    column = DIMENSIONS.index(dimension)
    _, once = np.unique(trials.prompt * (len(trials.rater) + 1) + trials.rater, return_index=True)
    unit = np.concatenate([trials.prompt[once] * 2, trials.prompt[once] * 2 + 1])
    score = np.concatenate([trials.first[once, column], trials.second[once, column]])
    return agreement(unit, score, np.repeat(np.arange(trials.n_prompts), 2))
