"""How far raters agree: Krippendorff's alpha for ordered scores, with an interval over prompts.

K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011). Works on counts of scores by
unit (what was rated more than once), and knows neither raters nor models.
"""

import numpy as np

from rating.dimensions import HIGHEST, LOWEST
from rating.statistics.bootstrap import Floats, sums_interval
from rating.statistics.figures import Agreement
from rating.statistics.paired import Integers, sums_by_prompt

_SCORES = HIGHEST - LOWEST + 1


def agreement(unit: Integers, score: Floats, prompt_of_unit: Integers) -> Agreement | None:
    """Return alpha; None where nothing was rated twice, or everything alike.

    The interval is by bootstrap over prompts, 2,000 resamples, each prompt with all its units; more
    than 500 prompts are drawn in 500 random blocks.

    Args:
        unit: What each score is of, as a number from 0.
        score: Each score, 1 to 5; NaN is left out.
        prompt_of_unit: The number of each unit's prompt.
    """
    import krippendorff  # noqa: PLC0415 -- only where it is needed

    counts = _counts(unit, score, len(prompt_of_unit))
    shared = counts.sum(axis=1) > 1
    counts, prompts = counts[shared], np.unique(prompt_of_unit[shared], return_inverse=True)[1]
    if (counts.sum(axis=0) > 0).sum() < 2:
        return None
    alpha = krippendorff.alpha(value_counts=counts, level_of_measurement="ordinal")
    sums = sums_by_prompt(prompts, int(prompts.max()) + 1, _coincidences(counts))
    return Agreement(float(alpha), sums_interval(sums, alphas))


def alphas(sums: Floats) -> Floats:
    """Return the alpha of each row of summed coincidences (n x 25); NaN where all are alike."""
    coincidences = sums.reshape(-1, _SCORES, _SCORES)
    totals = coincidences.sum(axis=1)
    middles = totals.cumsum(axis=1) - totals / 2
    distances = np.square(middles[:, :, None] - middles[:, None, :])
    seen = (coincidences * distances).sum(axis=(1, 2))
    chance = (totals[:, :, None] * totals[:, None, :] * distances).sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1 - seen * (totals.sum(axis=1) - 1) / chance)


def _counts(unit: Integers, score: Floats, n_units: int) -> Integers:
    """Return how many times each unit has each score (units x 5)."""
    known = ~np.isnan(score)
    place = unit[known] * _SCORES + score[known].astype(np.int64) - LOWEST
    return np.bincount(place, minlength=n_units * _SCORES).reshape(n_units, _SCORES)


def _coincidences(counts: Integers) -> Floats:
    """Return each unit's pairs of scores, weighted by its number of scores (units x 25)."""
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(_SCORES)
    return np.asarray((pairs / (counts.sum(axis=1) - 1)[:, None, None]).reshape(len(counts), -1))
