"""Which verdict a dimension's figures allow. Puts nothing into words (that is `verdicts`')."""

import numpy as np

from rating.statistics.bootstrap import FEWEST_PROMPTS, Floats, unseen_share
from rating.statistics.figures import Interval, Verdict, VerdictKind
from rating.statistics.planning import (
    ALPHA,
    FEWEST_FOR_SAMENESS,
    SMALLEST_USEFUL,
    prompts_needed,
)
from rating.statistics.signed_rank import SignedRank


def decide(
    differences: Floats,
    interval: Interval | None,
    test: SignedRank | None,
    p_holm: float | None,
    undecided: int,
) -> Verdict:
    """Return what the differences of one dimension prove.

    Better is who is so by the test, at 5 % over all dimensions, and by the mean as well. No
    difference is one whose interval lies within half a point of zero, from 20 prompts on.

    Args:
        differences: One a prompt, the second model's minus the first's.
        interval: Of their mean.
        test: Over them; None of no differences.
        p_holm: Its p, adjusted.
        undecided: Dimensions in which no difference is proved, for the plan.
    """
    if test is None or p_holm is None:
        return Verdict(VerdictKind.NO_DATA)
    if interval is None:
        return Verdict(VerdictKind.UNDECIDED)
    mean = float(differences.mean())
    if proves_difference(differences, p_holm) and test.effect * mean > 0:
        return Verdict(VerdictKind.SECOND_BETTER if mean > 0 else VerdictKind.FIRST_BETTER)
    margin = margin_of(interval, len(differences))
    if margin <= SMALLEST_USEFUL and len(differences) >= FEWEST_FOR_SAMENESS:
        return Verdict(VerdictKind.NO_DIFFERENCE, margin=margin)
    needed = prompts_needed(mean, float(differences.std(ddof=1)), max(1, undecided))
    more = None if needed is None else max(1, needed - len(differences))
    return Verdict(VerdictKind.UNDECIDED, more_prompts=more)


def proves_difference(differences: Floats, p_holm: float | None) -> bool:
    """Whether the test has rejected "no difference", with prompts enough to say so."""
    return p_holm is not None and p_holm < ALPHA and len(differences) >= FEWEST_PROMPTS


def margin_of(interval: Interval, n: int) -> float:
    """Return the largest difference, in points, that is still possible, whatever its sign.

    Never less than a point on as many prompts as may be missing among so few.
    """
    return float(np.max([abs(interval.low), abs(interval.high), unseen_share(n)]))
