"""Bradley-Terry: which of three or more models raters prefer, from their pairs together.

R. A. Bradley and M. E. Terry, "Rank Analysis of Incomplete Block Designs", Biometrika 39 (1952),
324-345. Ties and "both bad" are half a win for each. Every model also has one tie against an
imaginary model of strength 0, so that one which always wins (or loses) has a finite strength.
Knows no scores.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from db import Preference, TrialKind
from rating.statistics.bootstrap import Floats, sums_intervals
from rating.statistics.figures import Rank
from rating.statistics.paired import sums_by_prompt

_FEWEST_MODELS = 3
_STEPS = 50
_CLOSE = 1e-9


def ranking(frame: pd.DataFrame) -> Sequence[Rank]:
    """Return the models that comparisons connect, best first; nothing below three.

    Where comparisons fall into groups that never met, the group with most trials is ranked, and the
    others are left out. Intervals of the strengths (log odds of being preferred) are by bootstrap
    over prompts, 2,000 resamples.

    Args:
        frame: Ratings frames of several pairs, blind ones that count; others than regular trials
            are left out.
    """
    regular = frame[frame["kind"] == TrialKind.REGULAR.value]
    joined = _connected(regular)
    models = sorted({*joined["left_model"], *joined["right_model"]})
    if len(models) < _FEWEST_MODELS:
        return ()
    wins = _wins_by_prompt(joined, models)
    strengths = fit(wins.sum(axis=0, keepdims=True), len(models))[0]
    intervals = sums_intervals(wins, lambda sums: fit(sums, len(models)))
    counts = (
        joined["left_model"].value_counts().add(joined["right_model"].value_counts(), fill_value=0)
    )
    ranks = [
        Rank(model, float(strength), interval, int(counts[model]))
        for model, strength, interval in zip(models, strengths, intervals, strict=True)
    ]
    return sorted(ranks, key=lambda rank: -rank.strength)


def fit(wins: Floats, n_models: int) -> Floats:
    """Return the strengths (n x models), with mean 0, that make `wins` (n x models²) likeliest.

    Newton's method, for all rows at once; the likelihood has one peak, thanks to the imaginary tie.
    """
    won = wins.reshape(-1, n_models, n_models)
    games = won + won.transpose(0, 2, 1)
    scored = won.sum(axis=2) + 0.5
    strengths = np.zeros(scored.shape)
    diagonal = np.eye(n_models, dtype=bool)
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(strengths[:, None, :] - strengths[:, :, None]))
        alone = 1 / (1 + np.exp(-strengths))
        slope = scored - (games * chance).sum(axis=2) - alone
        bend = -games * chance * (1 - chance)
        bend[:, diagonal] = 0.0
        bend[:, diagonal] = alone * (1 - alone) - bend.sum(axis=2)
        step = np.linalg.solve(bend, slope[:, :, None])[:, :, 0]
        strengths += np.clip(step, -1, 1)
        if np.abs(step).max() < _CLOSE:
            break
    return np.asarray(strengths - strengths.mean(axis=1, keepdims=True))


def _connected(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials of the group of models that has most of them."""
    from scipy.sparse import coo_array  # noqa: PLC0415 -- takes long to import
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    if not len(trials):
        return trials
    left, right, models = _codes(trials)
    edges = coo_array((np.ones(len(left)), (left, right)), shape=(len(models), len(models)))
    group = connected_components(edges, directed=False)[1][left]
    return trials.loc[np.asarray(group == np.bincount(group).argmax())]


def _codes(trials: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Return the number of the model on each side, and the models in that order."""
    models = sorted({*trials["left_model"], *trials["right_model"]})
    index = pd.Index(models)
    left, right = (index.get_indexer(trials[f"{side}_model"]) for side in ("left", "right"))
    return left.astype(np.int64), right.astype(np.int64), models


def _wins_by_prompt(trials: pd.DataFrame, models: Sequence[str]) -> Floats:
    """Return how often each model was preferred to each other, by prompt (prompts x models²)."""
    left, right, _ = _codes(trials)
    preference = trials["preference"].to_numpy(dtype=object)
    for_left = np.where(preference == Preference.LEFT.value, 1.0, 0.5)
    for_left[preference == Preference.RIGHT.value] = 0.0
    terms = np.zeros((len(trials), len(models) ** 2))
    row = np.arange(len(trials))
    terms[row, left * len(models) + right] = for_left
    terms[row, right * len(models) + left] = 1 - for_left
    prompt, names = pd.factorize(trials["prompt"], sort=True)
    return sums_by_prompt(prompt.astype(np.int64), len(names), terms)
