"""How sure a share is, when several ratings are of the same prompt. Knows not what it is of."""

from math import sqrt

import numpy as np

from rating.statistics.figures import Estimate, Interval
from rating.statistics.paired import Booleans, Floats, Integers


def share_of(hits: Booleans, prompt: Integers) -> Estimate | None:
    """Return the share of `hits` with Wilson's 95 % interval; None of nothing.

    With one rating a prompt it is Wilson's interval as it stands. Ratings of one prompt that agree
    say less than as many of different prompts: then n is divided by the design effect, as in
    E. L. Korn and B. I. Graubard, "Confidence Intervals for Proportions with Small Expected Number
    of Positive Counts Estimated from Survey Data", Survey Methodology 24 (1998), 193-201.

    Args:
        hits: One a rating.
        prompt: The number of each rating's prompt.
    """
    n = len(hits)
    if not n:
        return None
    share = float(hits.mean())
    effective = _effective_number(hits.astype(float), prompt)
    return Estimate(share, _wilson(share, effective), n)


def _wilson(share: float, n: float) -> Interval:
    """Return Wilson's 95 % interval, also for an `n` that is not whole.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22
    (1927), 209-212. Not by statsmodels or scipy.stats, which take 0.5 s to import.
    """
    from scipy.special import ndtri  # noqa: PLC0415 -- slow to import

    z = float(ndtri(0.975))
    middle = share + z**2 / (2 * n)
    reach = z * sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    low, high = ((middle + way * reach) / (1 + z**2 / n) for way in (-1, 1))
    return Interval(max(0.0, low), min(1.0, high))


def _effective_number(hits: Floats, prompt: Integers) -> float:
    """Return how many independent ratings say as much as these."""
    from scipy.special import stdtrit  # noqa: PLC0415 -- slow to import

    n = len(hits)
    _, place = np.unique(prompt, return_inverse=True)
    prompts = int(place.max()) + 1
    if prompts in {1, n}:
        return float(prompts)
    share = hits.mean()
    if share in {0.0, 1.0}:
        return float(prompts)
    apart = np.bincount(place, weights=hits - share)
    clustered = float(np.square(apart).sum()) * prompts / (prompts - 1)
    design_effect = max(1.0, clustered / (n * share * (1 - share) * n / (n - 1)))
    student = float(stdtrit(n - 1, 0.975) / stdtrit(prompts - 1, 0.975))
    return max(1.0, float(n / design_effect * student**2))
