"""What can be counted and averaged in rated trials of one pair.

Works on the frames that `summary` makes, and knows neither trials nor texts. Means describe what
was rated; whether they prove a difference is not said here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from db import Preference, Side


@dataclass(frozen=True)
class DimensionFigures:
    """One dimension of one pair.

    Attributes:
        n: Number of scores of each model, by key.
        mean: Mean score of each model, 1 to 5; None without scores.
        n_ratings: Trials in which both models were scored.
        n_prompts: Different prompts among those trials.
        difference: Mean over those trials of the second model's score minus the first one's.
    """

    n: Mapping[str, int]
    mean: Mapping[str, float | None]
    n_ratings: int
    n_prompts: int
    difference: float | None


@dataclass(frozen=True)
class PreferenceCounts:
    """How often raters preferred the first model, the second, neither, or found both bad."""

    a: int
    b: int
    tie: int
    both_bad: int


def dimension_figures(scores: pd.DataFrame, models: tuple[str, str]) -> DimensionFigures:
    """Return the figures of one dimension.

    Args:
        scores: Columns `trial`, `prompt`, `model`, `score` (float, NaN is not applicable), one
            row for each side of each trial.
        models: The keys of the pair; the difference is the second one's minus the first one's.
    """
    scored = scores.dropna(subset=["score"])
    by_model = scored.groupby("model")["score"]
    means, counts = by_model.mean(), by_model.size()
    wide = scored.pivot(index=["trial", "prompt"], columns="model", values="score")
    paired = wide.reindex(columns=list(models)).dropna()
    differences = paired[models[1]] - paired[models[0]]
    return DimensionFigures(
        n={model: int(counts.get(model, 0)) for model in models},
        mean={model: float(means[model]) if model in means else None for model in models},
        n_ratings=len(paired),
        n_prompts=paired.index.get_level_values("prompt").nunique(),
        difference=float(differences.mean()) if len(paired) else None,
    )


def preference_counts(trials: pd.DataFrame, models: tuple[str, str]) -> PreferenceCounts:
    """Count preferences by model instead of by side.

    Args:
        trials: Columns `left_model`, `right_model`, `preference`, one row a trial.
        models: The keys of the pair, in the order of the counts.
    """
    preference = trials["preference"]

    def won(model: str) -> int:
        return sum(
            int(((preference == side.value) & (trials[f"{side}_model"] == model)).sum())
            for side in Side
        )

    return PreferenceCounts(
        a=won(models[0]),
        b=won(models[1]),
        tie=int((preference == Preference.TIE.value).sum()),
        both_bad=int((preference == Preference.BOTH_BAD.value).sum()),
    )
