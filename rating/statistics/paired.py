"""Rated trials of one pair as arrays: who was scored how, and which trials share a prompt.

Turns sides into models: everything here is by the pair's first and second model, whichever side
each was on. Averages and tests nothing beyond the mean over raters of one prompt.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from db import Dimension, Preference, Side

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

DIMENSIONS = tuple(Dimension)


@dataclass(frozen=True)
class Paired:
    """Trials of one pair, one row each.

    Attributes:
        models: The pair's keys, sorted.
        prompt: Number of each trial's prompt, from 0 in the order of the prompts' names.
        n_prompts: Different prompts.
        rater: Number of each trial's rater.
        first: Scores of the first model, one column a dimension (order of `DIMENSIONS`); NaN is
            not applicable.
        second: Scores of the second model.
        second_left: Whether the second model was on the left.
        won: Of the preference: 1 the second model, -1 the first, 0 neither.
    """

    models: tuple[str, str]
    prompt: Integers
    n_prompts: int
    rater: Integers
    first: Floats
    second: Floats
    second_left: Booleans
    won: Integers

    @property
    def differences(self) -> Floats:
        """The second model's scores minus the first's; NaN where one of them is missing."""
        return self.second - self.first


@dataclass(frozen=True)
class PromptMeans:
    """One dimension by prompt, raters averaged; only prompts on which both models were scored."""

    first: Floats
    second: Floats
    n_ratings: int

    @property
    def differences(self) -> Floats:
        """One value a prompt: the second model's mean minus the first's, free of float dust."""
        return np.round(self.second - self.first, 9)


def pair_up(frame: pd.DataFrame, models: tuple[str, str]) -> Paired:
    """Return the trials of a ratings frame that holds one pair only."""
    codes, names = pd.factorize(frame["prompt"], sort=True)
    second_left = (frame["left_model"] == models[1]).to_numpy(dtype=bool)
    left, right = (side_scores(frame, side) for side in Side)
    aside = second_left[:, None]
    preference = frame["preference"].to_numpy(dtype=object)
    right_won = (preference == Preference.RIGHT.value).astype(np.int64)
    right_won -= preference == Preference.LEFT.value
    return Paired(
        models=models,
        prompt=codes.astype(np.int64),
        n_prompts=len(names),
        rater=pd.factorize(frame["rater"])[0].astype(np.int64),
        first=np.where(aside, right, left),
        second=np.where(aside, left, right),
        second_left=second_left,
        won=np.where(second_left, -right_won, right_won),
    )


def side_scores(frame: pd.DataFrame, side: Side) -> Floats:
    """Return the scores of one side, one column a dimension; NaN is not applicable."""
    return frame[score_columns(side)].to_numpy(dtype=float)


def score_columns(side: Side) -> list[str]:
    """Return the names of one side's columns of scores, in the order of `DIMENSIONS`."""
    return [f"{side.value}_{dimension.value}" for dimension in DIMENSIONS]


def straight_lined(frame: pd.DataFrame) -> Booleans:
    """Return which trials have one score throughout, on both sides, in two dimensions or more."""
    sides = [side_scores(frame, side) for side in Side]
    scores = np.hstack(sides)
    least = np.where(np.isnan(scores), np.inf, scores).min(axis=1, initial=np.inf)
    most = np.where(np.isnan(scores), -np.inf, scores).max(axis=1, initial=-np.inf)
    enough = np.all([(~np.isnan(side)).sum(axis=1) > 1 for side in sides], axis=0)
    return np.asarray((least == most) & enough, dtype=bool)


def mean_over(scores: Floats) -> Floats:
    """Return the mean of each row, leaving out what is missing; NaN where all is."""
    known = ~np.isnan(scores)
    count = known.sum(axis=1)
    total = np.where(known, scores, 0.0).sum(axis=1)
    means = np.divide(total, count, out=np.full(len(scores), np.nan), where=count > 0)
    return np.asarray(means, dtype=float)


def prompt_means(trials: Paired, dimension: Dimension) -> PromptMeans:
    """Return the means over raters of each prompt, from trials in which both sides are scored."""
    column = DIMENSIONS.index(dimension)
    first, second = trials.first[:, column], trials.second[:, column]
    both = ~np.isnan(first) & ~np.isnan(second)
    prompt = trials.prompt[both]
    count = np.bincount(prompt, minlength=trials.n_prompts)
    rated = count > 0

    def mean(scores: Floats) -> Floats:
        sums = np.bincount(prompt, weights=scores[both], minlength=trials.n_prompts)
        return np.asarray(sums[rated] / count[rated], dtype=float)

    return PromptMeans(mean(first), mean(second), int(both.sum()))


def sums_by_prompt(prompt: Integers, n_prompts: int, values: Floats) -> Floats:
    """Return the sums of the columns of `values` (trials x k) over each prompt (prompts x k)."""
    sums = np.zeros((n_prompts, values.shape[1]))
    for column in range(values.shape[1]):
        sums[:, column] = np.bincount(prompt, weights=values[:, column], minlength=n_prompts)
    return sums
