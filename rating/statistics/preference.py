"""Which model raters prefer overall, of one pair. Scores are none of its concern."""

import numpy as np
import pandas as pd

from db import Preference
from rating.statistics.figures import PreferenceFigures
from rating.statistics.paired import Integers, Paired
from rating.statistics.shares import share_of


def preference_figures(frame: pd.DataFrame, trials: Paired) -> PreferenceFigures:
    """Return counts, the second model's share of the clear preferences, and the sign test.

    Args:
        frame: The ratings frame that `trials` was made of.
        trials: The same trials by model.
    """
    clear = trials.won != 0
    rate = share_of(trials.won[clear] > 0, trials.prompt[clear])
    return PreferenceFigures(
        a=int((trials.won < 0).sum()),
        b=int((trials.won > 0).sum()),
        tie=int((frame["preference"] == Preference.TIE.value).sum()),
        both_bad=int((frame["preference"] == Preference.BOTH_BAD.value).sum()),
        win_rate=None if rate is None else rate.value,
        interval=None if rate is None else rate.interval,
        p=_sign_test(trials.won, trials.prompt),
    )


def _sign_test(won: Integers, prompt: Integers) -> float | None:
    """Return the p of as many prompts with a majority for one model; None without any."""
    from scipy.special import bdtr  # noqa: PLC0415 -- takes long to import

    majority = np.bincount(prompt, weights=won) if len(won) else np.zeros(0)
    for_second, for_first = int((majority > 0).sum()), int((majority < 0).sum())
    prompts = for_second + for_first
    if not prompts:
        return None
    return min(1.0, 2 * float(bdtr(min(for_second, for_first), prompts, 0.5)))
