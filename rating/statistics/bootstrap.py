"""Bootstrap intervals over prompts: prompts are drawn again with replacement, raters stay theirs.

Works on one value, or on one row of sums, a prompt, and knows neither scores nor models. Every
draw is seeded, and depends neither on the order of the prompts nor on which model is called first.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rating.statistics.figures import Interval

CONFIDENCE = 0.95
FEWEST_PROMPTS = 6
"""With fewer nothing can be proved: all of 5 prompts on one side are chance once in 16."""

RESAMPLES = 10_000
SUM_RESAMPLES = 2_000
BLOCKS = 500
"""More prompts than this are first added up into so many random blocks, which are then drawn."""

_SEED = 20_260_228
_CHUNK = 1_000  # resamples drawn at once: they stay in the processor's cache

Floats = NDArray[np.float64]


def mean_interval(values: Floats) -> Interval | None:
    """Return the 95 % interval of the mean of independent values; None below `FEWEST_PROMPTS`.

    The expanded percentile interval of T. C. Hesterberg, "What Teachers Should Know about the
    Bootstrap", The American Statistician 69 (2015), 371-386: quantiles of resampled means, cut so
    far out that for normal values the interval is as wide as Student's. Where all values are the
    same there is no spread to draw from: then the interval reaches as far as one point on as many
    prompts as may have been missed (`unseen_share`).
    """
    n = len(values)
    if n < FEWEST_PROMPTS:
        return None
    if values.min() == values.max():
        unseen = unseen_share(n)
        return Interval(float(values[0]) - unseen, float(values[0]) + unseen)
    sign = _orientation(values)
    ascending = np.sort(sign * values)
    blocks = _blocks(np.column_stack([ascending, np.ones(n)]))
    sums = _weights(len(blocks), RESAMPLES) @ blocks.astype(np.float32)
    found = _quantiles(sums[:, 0] / sums[:, 1], len(blocks), RESAMPLES)
    if found is None or sign > 0:
        return found
    return Interval(-found.high, -found.low)


def unseen_share(n: int) -> float:
    """Return the largest share of prompts that can still be missing among `n`, with 97.5 %.

    From (1 - share)^n = 0.025, the exact form of the "rule of three".
    """
    return float(1 - ((1 - CONFIDENCE) / 2) ** (1 / n))


def sums_interval(sums: Floats, statistic: Callable[[Floats], Floats]) -> Interval | None:
    """Return the 95 % interval of one statistic, from sums over prompts; see `sums_intervals`."""
    return sums_intervals(sums, lambda total: statistic(total)[:, None])[0]


def sums_intervals(sums: Floats, statistics: Callable[[Floats], Floats]) -> list[Interval | None]:
    """Return the 95 % intervals of statistics that depend on sums over prompts alone.

    Expanded percentile intervals as well. None below `FEWEST_PROMPTS`, and where fewer than nine
    resamples in ten have the statistic.

    Args:
        sums: One row a prompt.
        statistics: From added-up sums (resamples x columns) to values (resamples x statistics);
            NaN where undefined.
    """
    blocks = _blocks(sums)
    if len(sums) < FEWEST_PROMPTS:
        return [None] * statistics(sums.sum(axis=0, keepdims=True)).shape[1]
    values = statistics(_weights(len(blocks), SUM_RESAMPLES) @ blocks)
    return [_quantiles(column, len(blocks), SUM_RESAMPLES) for column in values.T]


def _quantiles(values: NDArray[np.floating], n: int, resamples: int) -> Interval | None:
    known = values[np.isfinite(values)]
    if len(known) < 0.9 * resamples:
        return None
    low, high = np.quantile(known, _expanded_tails(n))
    return Interval(float(low), float(high))


def _orientation(values: Floats) -> int:
    """Return 1 or -1 so that values and their negatives, multiplied by theirs, are the same."""
    ascending, mirrored = np.sort(values), np.sort(-values)
    apart = np.flatnonzero(ascending != mirrored)
    return -1 if len(apart) and ascending[apart[0]] > mirrored[apart[0]] else 1


def _expanded_tails(n: int) -> tuple[float, float]:
    from scipy.special import ndtr, stdtrit  # noqa: PLC0415 -- takes long to import

    tail = float(ndtr(np.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 - CONFIDENCE) / 2)))
    return tail, 1 - tail


def _blocks(sums: Floats) -> Floats:
    """Return the rows of `sums`, added up into `BLOCKS` at random where there are more."""
    if len(sums) <= BLOCKS:
        return sums
    block = np.random.default_rng(_SEED).permutation(len(sums)) % BLOCKS
    columns = [np.bincount(block, weights=column, minlength=BLOCKS) for column in sums.T]
    return np.column_stack(columns)


@lru_cache(maxsize=4)
def _weights(n: int, resamples: int) -> NDArray[np.float32]:
    """Return how often each of `n` rows is in each resample (resamples x n)."""
    random = np.random.default_rng(_SEED)
    weights = np.empty((resamples, n), dtype=np.float32)
    for start in range(0, resamples, _CHUNK):
        rows = weights[start : start + _CHUNK]
        drawn = random.integers(0, n, size=rows.shape, dtype=np.int32)
        drawn += n * np.arange(len(rows), dtype=np.int32)[:, None]
        rows[:] = np.bincount(drawn.ravel(), minlength=rows.size).reshape(rows.shape)
    return weights
