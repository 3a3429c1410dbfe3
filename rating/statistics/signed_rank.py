"""Wilcoxon's signed-rank test over prompts, its effect, and Holm's correction.

Zeros are Pratt's: ranked with the others, then left out. Knows neither scores nor models. Not by
`scipy.stats`, which takes 0.5 s and 50 MB to import (2026-11-29); tests hold it against that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

EXACT_UP_TO = 100
"""Values that are not zero; with more, the normal approximation."""


@dataclass(frozen=True)
class SignedRank:
    """Two-sided p, and the matched-pairs rank-biserial correlation, -1 to 1."""

    p: float
    effect: float


def signed_rank(differences: NDArray[np.float64]) -> SignedRank | None:
    """Return whether differences lie on one side of zero; None of no differences.

    J. W. Pratt, "Remarks on Zeros and Ties in the Wilcoxon Signed Rank Procedures", JASA 54 (1959),
    655-667. The effect is D. S. Kerby's (R+ - R-) / (R+ + R-), "The Simple Difference Formula",
    Comprehensive Psychology 3 (2014), over the same ranks, so it has the test's sign; 0 where all
    differences are zero.
    """
    if not len(differences):
        return None
    ranks = pd.Series(np.abs(differences)).rank().to_numpy()
    above, below = ranks[differences > 0], ranks[differences < 0]
    total = float(above.sum() + below.sum())
    if not total:
        return SignedRank(1.0, 0.0)
    effect = float(above.sum() - below.sum()) / total
    signed = np.concatenate([above, below])
    p_of = _exact_p if len(signed) <= EXACT_UP_TO else _normal_p
    return SignedRank(p_of(signed, above.sum()), effect)


def _exact_p(ranks: NDArray[np.float64], rank_sum: float) -> float:
    """Return the p of a sum of positive ranks, each rank being positive or negative by chance.

    The shift algorithm of B. Streitberg and J. Röhmel, "Exact Distributions for Permutation and
    Rank Tests", Statistical Software Newsletter 12 (1986), 10-17. Ranks of ties are halves, so
    everything is counted in halves.
    """
    doubled = np.rint(2 * ranks).astype(int)
    chances = np.ones(1)
    for rank in np.sort(doubled):
        wider = np.zeros(len(chances) + rank)
        wider[: len(chances)] = chances
        wider[rank:] += chances
        chances = wider / 2
    seen = round(2 * rank_sum)
    return float(min(1.0, 2 * min(chances[seen:].sum(), chances[: seen + 1].sum())))


def _normal_p(ranks: NDArray[np.float64], rank_sum: float) -> float:
    """Return the same p by the normal approximation with continuity correction.

    Each rank is in the sum by chance or not: its mean is half of all ranks, its variance a quarter
    of their squares. That holds with zeros and ties; E. E. Cureton, "The Normal Approximation to
    the Signed-Rank Sampling Distribution When Zero Differences Are Present", JASA 62 (1967),
    1068-1069.
    """
    from scipy.special import ndtr  # noqa: PLC0415 -- takes long to import

    apart = max(0.0, abs(rank_sum - ranks.sum() / 2) - 0.5)
    return float(2 * ndtr(-apart / (np.sqrt(np.square(ranks).sum()) / 2)))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Return p values adjusted for each other, S. Holm's way; None stays None and is not counted.

    "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6
    (1979), 65-70. Not by `multipletests` of statsmodels, which collects garbage each time: 80 ms,
    and more in a large process.
    """
    known = np.array([p for p in ps if p is not None])
    ascending = np.argsort(known, kind="stable")
    steps = known[ascending] * np.arange(len(known), 0, -1)
    adjusted = np.empty(len(known))
    adjusted[ascending] = np.minimum(1.0, np.maximum.accumulate(steps))
    remaining = iter(adjusted)
    return [None if p is None else float(next(remaining)) for p in ps]
