"""What may have moved the scores besides the models: sides, lengths, order, halo, guesses, repeats.

Describes and corrects nothing. Intervals are over prompts, as everywhere; they speak of these
raters, not of others.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd

from db import Side
from rating.statistics.agreement import agreement
from rating.statistics.bootstrap import Floats, sums_interval
from rating.statistics.figures import BiasFigures, Estimate
from rating.statistics.paired import (
    DIMENSIONS,
    Booleans,
    Paired,
    mean_over,
    pair_up,
    straight_lined,
    sums_by_prompt,
)
from rating.statistics.shares import share_of


def bias_figures(frame: pd.DataFrame, trials: Paired, repeated: pd.DataFrame) -> BiasFigures:
    """Return everything that is known of bias.

    Args:
        frame: The ratings frame of the trials that count.
        trials: The same trials by model.
        repeated: A ratings frame of the same pair that holds repeats and what they repeat.
    """
    return BiasFigures(
        left_right=left_right(trials),
        length=length(frame, trials),
        order=order(frame, trials),
        halo=halo(trials),
        straight_lined=share_of(straight_lined(frame), trials.prompt),
        guessed_right=guessed_right(frame, trials),
        retest=retest(repeated, trials.models),
    )


def left_right(trials: Paired) -> Estimate | None:
    """Return how much higher an answer is scored for being on the left.

    The mean of both ways round, so a better model that was on the left more often moves nothing.
    """
    difference = mean_over(trials.differences)
    known, left = ~np.isnan(difference), trials.second_left
    filled = np.where(known, difference, 0.0)
    terms = np.column_stack([filled * left, known & left, filled * ~left, known & ~left])

    def statistic(sums: Floats) -> Floats:
        return np.asarray(_ratio(sums[:, 0], sums[:, 1]) - _ratio(sums[:, 2], sums[:, 3])) / 2

    return _estimate(terms, trials, statistic, int(known.sum()))


def length(frame: pd.DataFrame, trials: Paired) -> Estimate | None:
    """Return how the difference in length goes with that in scores, second minus first model.

    Spearman's correlation, from ranks given once. A model that is both longer and better on every
    prompt alike adds nothing to it.
    """
    left, right = (frame[f"{side.value}_chars"].to_numpy(dtype=float) for side in Side)
    longer = np.log1p(left) - np.log1p(right)
    longer = np.where(trials.second_left, longer, -longer)
    difference = mean_over(trials.differences)
    known = ~np.isnan(longer) & ~np.isnan(difference)
    return _correlation(longer, difference, known, trials)


def order(frame: pd.DataFrame, trials: Paired) -> Estimate | None:
    """Return how much raters' mean scores change from their first to their last trial.

    The slope of a trial's mean score on its place among the rater's, 0 to 1, within raters.
    """
    score = mean_over(np.hstack([trials.first, trials.second]))
    data = frame[["rater", "rated_at"]].assign(score=score)
    grouped = data.groupby("rater")
    size = grouped["score"].transform("size").to_numpy()
    known = ~np.isnan(score) & (size > 1)
    place = (grouped["rated_at"].rank(method="first").to_numpy() - 1) / np.maximum(size - 1, 1)
    if not known.any():
        return None
    inside = data[known].assign(place=place[known])
    centred = inside[["place", "score"]] - inside.groupby("rater")[["place", "score"]].transform(
        "mean"
    )
    terms = np.zeros((len(frame), 2))
    terms[known, 0] = centred["place"] * centred["score"]
    terms[known, 1] = np.square(centred["place"])
    return _estimate(terms, trials, lambda sums: _ratio(sums[:, 0], sums[:, 1]), int(known.sum()))


def halo(trials: Paired) -> Estimate | None:
    """Return the mean correlation between dimensions, over both sides, within models."""
    scores = np.vstack([_centred(trials.first), _centred(trials.second)])
    prompt = np.tile(trials.prompt, 2)
    pairs = combinations(range(len(DIMENSIONS)), 2)
    terms = (_products(scores[:, i], scores[:, j]) for i, j in pairs)
    sums = np.hstack([sums_by_prompt(prompt, trials.n_prompts, each) for each in terms])

    def statistic(sums: Floats) -> Floats:
        each = _pearson(sums.reshape(len(sums), -1, 6))
        known = ~np.isnan(each)
        return _ratio(np.where(known, each, 0.0).sum(axis=1), known.sum(axis=1))

    return _estimate_of_sums(sums, statistic, int(((~np.isnan(scores)).sum(axis=1) > 1).sum()))


def guessed_right(frame: pd.DataFrame, trials: Paired) -> Estimate | None:
    """Return the share of guesses that named the first model's side, of those who guessed."""
    guess = frame["guess"].to_numpy(dtype=object)
    left, right = guess == Side.LEFT.value, guess == Side.RIGHT.value
    asked: Booleans = np.asarray(left | right, dtype=bool)
    hits = np.where(trials.second_left, right, left).astype(bool)
    return share_of(hits[asked], trials.prompt[asked])


def retest(repeated: pd.DataFrame, models: tuple[str, str]) -> Estimate | None:
    """Return alpha between ratings and their repeats, all dimensions together.

    A unit is one model's answer in one dimension, in one rated trial and its repeat.
    """
    repeats = repeated[repeated["repeat_of"].notna()]
    both = repeats.merge(
        repeated, left_on="repeat_of", right_on="trial", suffixes=("_again", "_before")
    )
    if not len(both):
        return None
    again = pair_up(_columns_of(both, "_again"), models)
    before = pair_up(_columns_of(both, "_before"), models)
    scores = [np.hstack([trials.first, trials.second]) for trials in (before, again)]
    n_units = scores[0].size
    unit = np.tile(np.arange(n_units), 2)
    found = agreement(
        unit,
        np.concatenate([part.ravel() for part in scores]),
        np.repeat(before.prompt, scores[0].shape[1]),
    )
    return None if found is None else Estimate(found.alpha, found.interval, len(both))


def _estimate(
    terms: Floats, trials: Paired, statistic: Callable[[Floats], Floats], n: int
) -> Estimate | None:
    """Return a statistic of the sums of `terms` (trials x k)."""
    return _estimate_of_sums(
        sums_by_prompt(trials.prompt, trials.n_prompts, terms.astype(float)), statistic, n
    )


def _estimate_of_sums(
    sums: Floats, statistic: Callable[[Floats], Floats], n: int
) -> Estimate | None:
    value = float(statistic(sums.sum(axis=0, keepdims=True))[0])
    if np.isnan(value):
        return None
    return Estimate(value, sums_interval(sums[sums.any(axis=1)], statistic), n)


def _columns_of(both: pd.DataFrame, suffix: str) -> pd.DataFrame:
    chosen = both[[name for name in both.columns if str(name).endswith(suffix)]]
    return chosen.rename(columns=lambda name: str(name).removesuffix(suffix))


def _correlation(x: Floats, y: Floats, known: Booleans, trials: Paired) -> Estimate | None:
    if not known.any():
        return None
    ranks = np.full((2, len(x)), np.nan)
    ranks[0, known] = pd.Series(x[known]).rank()
    ranks[1, known] = pd.Series(y[known]).rank()
    ranks -= np.nanmean(ranks, axis=1, keepdims=True)
    terms = _products(ranks[0], ranks[1])
    return _estimate(terms, trials, lambda sums: _pearson(sums[:, None, :])[:, 0], int(known.sum()))


def _products(x: Floats, y: Floats) -> Floats:
    """Return the six terms whose sums a correlation needs; zeros where one is missing."""
    known = ~np.isnan(x) & ~np.isnan(y)
    x, y = np.where(known, x, 0.0), np.where(known, y, 0.0)
    return np.column_stack([known, x, y, x * x, y * y, x * y])


def _pearson(sums: Floats) -> Floats:
    """Return the correlation of each (..., 6) sums of `_products`; NaN without spread."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = (n * xx - x * x) * (n * yy - y * y)
    return _ratio(n * xy - x * y, np.sqrt(np.where(spread > 1e-9, spread, 0.0)))


def _ratio(above: Floats, below: Floats) -> Floats:
    """Return quotients; NaN where there is nothing to divide by."""
    out = np.full(np.shape(above), np.nan)
    return np.asarray(np.divide(above, below, out=out, where=below != 0), dtype=float)


def _centred(scores: Floats) -> Floats:
    """Return scores minus their column's mean."""
    known = ~np.isnan(scores)
    return scores - _ratio(np.where(known, scores, 0.0).sum(axis=0), known.sum(axis=0))
