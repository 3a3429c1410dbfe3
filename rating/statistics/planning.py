"""How many prompts would decide: the plan behind "about n more prompts".

Works on a mean and a spread of differences between prompts. Promises nothing: what was seen of the
mean so far may be off, and the plan with it.
"""

import numpy as np
from numpy.typing import NDArray

from rating.statistics.bootstrap import CONFIDENCE, FEWEST_PROMPTS

POWER = 0.8
ALPHA = 0.05
"""Of the family of a pair's dimensions."""

SMALLEST_USEFUL = 0.5
"""Half a point of 1 to 5: a difference within it is of no use when choosing between two models."""

FEWEST_FOR_SAMENESS = 20
"""From so many prompts on, intervals were shown to cover what they claim."""

_LARGEST = 100_000


def prompts_needed(mean: float, spread: float, undecided: int) -> int | None:
    """Return how many prompts, in all, would decide with a chance of 80 %; None above 100,000.

    Args:
        mean: Of the differences between prompts, in points.
        spread: Their standard deviation.
        undecided: Dimensions in which no difference is proved yet, this one included: the first
            of them that Holm's procedure accepts is tested at 5 % / `undecided`.
    """
    counts = np.unique(np.geomspace(FEWEST_PROMPTS, _LARGEST, 500).astype(int))
    enough = np.flatnonzero(decided_chance(counts, mean, spread, undecided) >= POWER)
    return int(counts[enough[0]]) if len(enough) else None


def decided_chance(
    n: NDArray[np.int_], mean: float, spread: float, undecided: int
) -> NDArray[np.float64]:
    """Return the chance that n prompts decide, one way or the other, for each n.

    The mean of n prompts is taken as normal with standard error spread / sqrt(n). A difference is
    proved beyond t(n - 1) such errors at 5 % / `undecided`; that there is none of use, where the
    95 % interval lies within half a point of zero.
    """
    from scipy.special import ndtr, stdtrit  # noqa: PLC0415 -- takes long to import

    error = max(spread, 1e-9) / np.sqrt(n)
    differs = error * -stdtrit(n - 1, ALPHA / undecided / 2)
    same = SMALLEST_USEFUL - error * -stdtrit(n - 1, (1 - CONFIDENCE) / 2)
    same = np.where(n < FEWEST_FOR_SAMENESS, 0.0, np.maximum(same, 0.0))

    def within(bound: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(ndtr((bound - mean) / error) - ndtr((-bound - mean) / error))

    return np.asarray(1 - np.maximum(0.0, within(differs) - within(same)))
