"""How sure the mean of a few values is: an interval that is honest with few of them, too.

Works on plain numbers and knows nothing of prompts, scores or seconds. What the values are means of
is the caller's: they must be independent of each other, or the interval is too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
FEWEST_VALUES = 6
"""With fewer no interval of that confidence exists: 5 values of one sign are chance once in 16."""

_TAIL = (1 - CONFIDENCE) / 2
_ALL_SUBSETS_UP_TO = 13
_SUBSETS = 9_999
_CELLS = 10_000_000
_SEED = 20_260_228
_DIGITS = 9  # sums of floats that should be 0 are 1e-17


@dataclass(frozen=True)
class Mean:
    """The mean of `n` values with its interval; `low` and `high` are None with too few values."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def sign(self) -> int:
        """1 or -1 where the interval excludes zero on that side, else 0: nothing is decided."""
        if self.low is None or self.high is None:
            return 0
        return int(self.low > 0) - int(self.high < 0)

    def __neg__(self) -> "Mean":
        """Return the same seen from the other side, as a difference can be."""
        if self.low is None or self.high is None:
            return Mean(-self.mean, None, None, self.n)
        return Mean(-self.mean, -self.high, -self.low, self.n)


def mean_of(values: Sequence[float]) -> Mean | None:
    """Return the mean of independent values with its 95 % interval; None of no values.

    The interval is that of J. A. Hartigan, "Using Subsample Values as Typical Values", JASA 64
    (1969), 1303-1317: the means of all N subsets of the values, or of N random ones, part the line
    into N + 1 stretches, and the true centre is in each with the same probability, as long as each
    value is as likely to lie above it as below by the same amount. So the interval excludes zero
    exactly where the sign-flip test rejects it. It assumes no normal distribution and needs no
    variance: values that happen to be equal make it no surer than their number allows.

    Args:
        values: In an order that does not depend on what they are, since from 14 on the subsets
            are drawn by place, from one seed.
    """
    if not values:
        return None
    data = np.asarray(values, dtype=float)
    mean = round(float(data.mean()), _DIGITS)
    typical = _subset_means(data)
    cut = int(_TAIL * (len(typical) + 1))
    if not cut:
        return Mean(mean, None, None, len(data))
    return Mean(mean, float(typical[cut - 1]), float(typical[-cut]), len(data))


def _subset_means(data: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means of subsets of `data`, ascending."""
    masks = _masks(len(data))
    return np.sort(np.round(masks @ data / masks.sum(axis=1), _DIGITS))


def _masks(n: int) -> NDArray[np.int8]:
    """Return subsets of `n` values, one a row: all that are not empty, or as many random ones."""
    if n <= _ALL_SUBSETS_UP_TO:
        numbers = np.arange(1, 2**n)[:, None]
        return (numbers >> np.arange(n) & 1).astype(np.int8)
    random = np.random.default_rng(_SEED)
    masks = random.integers(0, 2, size=(min(_SUBSETS, _CELLS // n), n), dtype=np.int8)
    return masks[masks.any(axis=1)]
