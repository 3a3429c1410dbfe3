import math
from collections.abc import Sequence

import pandas as pd
import pytest

from rating.statistics.descriptive import (
    DimensionFigures,
    PreferenceCounts,
    dimension_figures,
    preference_counts,
)

MODELS = ("one", "two")
NA = math.nan
Scored = tuple[str, str, str, float]


def figures(*scores: Scored) -> DimensionFigures:
    """The figures of rows (trial, prompt, model, score)."""
    frame = pd.DataFrame(list(scores), columns=["trial", "prompt", "model", "score"])
    return dimension_figures(frame.astype({"score": float}), MODELS)


def counts(*trials: Sequence[str]) -> PreferenceCounts:
    """The counts of rows (left model, right model, preference)."""
    columns = ["left_model", "right_model", "preference"]
    return preference_counts(pd.DataFrame(list(trials), columns=columns), MODELS)


def test_means_and_numbers_are_by_model() -> None:
    found = figures(
        ("t1", "p", "one", 2), ("t1", "p", "two", 5), ("t2", "q", "two", 4), ("t2", "q", "one", 3)
    )
    assert found.mean == {"one": 2.5, "two": 4.5}
    assert found.n == {"one": 2, "two": 2}
    assert (found.n_ratings, found.n_prompts, found.difference) == (2, 2, 2.0)


def test_the_difference_is_the_second_model_minus_the_first() -> None:
    assert figures(("t", "p", "two", 1), ("t", "p", "one", 5)).difference == -4.0


def test_a_side_without_a_score_counts_for_the_other_ones_mean_but_not_for_the_difference() -> None:
    found = figures(
        *(("t1", "p", "one", NA), ("t1", "p", "two", 5)),
        *(("t2", "q", "one", 3), ("t2", "q", "two", 4)),
    )
    assert found.mean == {"one": 3.0, "two": 4.5}
    assert found.n == {"one": 1, "two": 2}
    assert (found.n_ratings, found.n_prompts, found.difference) == (1, 1, 1.0)


def test_where_no_trial_has_both_scores_there_is_no_difference() -> None:
    found = figures(("t1", "p", "one", 1), ("t1", "p", "two", NA), ("t2", "p", "two", 2))
    assert found.mean == {"one": 1.0, "two": 2.0}
    assert (found.n_ratings, found.n_prompts, found.difference) == (0, 0, None)


def test_where_nothing_applies_there_is_no_mean() -> None:
    found = figures(("t1", "p", "one", NA), ("t1", "p", "two", NA))
    assert found == DimensionFigures({"one": 0, "two": 0}, {"one": None, "two": None}, 0, 0, None)


def test_without_ratings_there_are_no_figures() -> None:
    assert figures() == DimensionFigures(
        {"one": 0, "two": 0}, {"one": None, "two": None}, 0, 0, None
    )
    assert counts() == PreferenceCounts(0, 0, 0, 0)


def test_the_same_prompt_in_two_trials_is_one_prompt_and_two_ratings() -> None:
    found = figures(
        *(("t1", "p", "one", 1), ("t1", "p", "two", 2)),
        *(("t2", "p", "one", 3), ("t2", "p", "two", 3)),
    )
    assert (found.n_ratings, found.n_prompts, found.difference) == (2, 1, 0.5)


def test_a_preference_is_counted_for_the_model_whatever_its_side() -> None:
    found = counts(
        *(("one", "two", "left"), ("two", "one", "right"), ("two", "one", "left")),
        *(("one", "two", "tie"), ("two", "one", "both_bad"), ("one", "two", "tie")),
    )
    assert found == PreferenceCounts(a=2, b=1, tie=2, both_bad=1)


@pytest.mark.parametrize("key", ["left", "right", "tie", "both_bad"])
def test_a_model_of_an_unlucky_name_is_counted_as_a_model(key: str) -> None:
    """Model keys come from folder names."""
    frame = pd.DataFrame(
        [(key, "z", "left"), ("z", key, "left"), ("z", key, "tie")],
        columns=["left_model", "right_model", "preference"],
    )
    assert preference_counts(frame, (key, "z")) == PreferenceCounts(1, 1, 1, 0)


def test_counting_changes_nothing_in_what_is_counted() -> None:
    columns = ["left_model", "right_model", "preference"]
    frame = pd.DataFrame([("one", "two", "left")], columns=columns)
    before = frame.copy()
    preference_counts(frame, MODELS)
    pd.testing.assert_frame_equal(frame, before)
