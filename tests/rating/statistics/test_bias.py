from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr

from db import Dimension
from rating.statistics import bias
from rating.statistics.bias import bias_figures
from rating.statistics.figures import BiasFigures
from rating.statistics.paired import pair_up
from tests.rating.statistics.frames import MODELS, drawn, frame, trial

NA = float("nan")


def figures(ratings: pd.DataFrame) -> BiasFigures:
    return bias_figures(ratings, pair_up(ratings, MODELS), ratings)


def turned(**values: Any) -> dict[str, Any]:
    """A trial with the second model on the left."""
    return trial(left_model="two", right_model="one", **values)


def test_of_nothing_no_bias_is_known() -> None:
    assert figures(frame()) == BiasFigures()


def test_the_side_counts_apart_from_the_model_that_was_on_it() -> None:
    """Two is 1 better and the left half a point: seen on both sides, unevenly often."""
    rows = [turned(prompt=f"p{n}", left=4.5, right=3) for n in range(9)]
    rows += [trial(prompt=f"q{n}", left=3.5, right=4) for n in range(3)]
    found = figures(frame(*rows)).left_right
    assert found is not None
    assert found.value == pytest.approx(0.5)
    assert found.n == 12


def test_with_a_model_on_one_side_only_the_sides_are_not_told_apart() -> None:
    assert figures(frame(*(trial(prompt=f"p{n}", left=4) for n in range(8)))).left_right is None


def test_length_goes_with_scores_as_spearman_has_it() -> None:
    ratings = drawn(30, 1, 3)
    found = figures(ratings).length
    trials = pair_up(ratings, MODELS)
    longer = np.log1p(ratings["left_chars"]) - np.log1p(ratings["right_chars"])
    longer = np.where(trials.second_left, longer, -longer)
    assert found is not None
    assert found.value == pytest.approx(
        spearmanr(longer, trials.differences.mean(axis=1)).statistic
    )
    assert found.interval is not None
    assert found.interval.low < found.value < found.interval.high


def test_a_model_that_is_always_longer_and_better_is_no_bias_towards_length() -> None:
    rows = [
        trial(prompt=f"p{n}", left=2, right=2 + n % 3, left_chars=50, right_chars=500 + n // 3)
        for n in range(30)
    ]
    found = figures(frame(*rows)).length
    assert found is not None
    assert abs(found.value) < 0.1


def test_without_lengths_nothing_is_said_of_them() -> None:
    assert figures(frame(trial(), trial(prompt="q", right=5))).length is None


def test_order_is_the_change_from_a_raters_first_trial_to_the_last() -> None:
    """One rater falls from 5 to 3, another stays at 2: on average they lose a point."""
    falling = [trial(rater="r1", prompt=f"p{n}", left=5 - n / 2, right=5 - n / 2) for n in range(5)]
    level = [trial(rater="r2", prompt=f"p{n}", left=2, right=2) for n in range(5)]
    found = figures(frame(*falling, *level)).order
    assert found is not None
    assert found.value == pytest.approx(-1.0)
    assert found.n == 10


def test_raters_of_one_trial_say_nothing_of_order() -> None:
    assert figures(frame(trial(rater="r1"), trial(rater="r2", left=5))).order is None


def test_halo_is_the_mean_correlation_within_models() -> None:
    ratings = drawn(25, 2, 1)
    trials = pair_up(ratings, MODELS)
    centred = [scores - scores.mean(axis=0) for scores in (trials.first, trials.second)]
    scores = np.vstack(centred)
    pairs = [(i, j) for j in range(5) for i in range(j)]
    expected = np.mean([pearsonr(scores[:, i], scores[:, j]).statistic for i, j in pairs])
    found = figures(ratings).halo
    assert found is not None
    assert found.value == pytest.approx(expected)
    assert found.n == 100


def test_one_score_for_everything_is_a_perfect_halo_and_straight_lined() -> None:
    rows = [trial(prompt=f"p{n}", left=1 + n % 5, right=1 + n % 5) for n in range(10)]
    found = figures(frame(*rows))
    assert found.halo is not None
    assert found.halo.value == pytest.approx(1.0)
    assert found.straight_lined is not None
    assert found.straight_lined.value == 1.0


def test_a_different_score_on_the_other_side_is_not_straight_lined() -> None:
    rows = [trial(left=3, right=4), trial(left=[3, 3, NA, 3, 3], right=[3, 3, NA, 3, 3])]
    found = figures(frame(*rows)).straight_lined
    assert found is not None
    assert found.value == 0.5


def test_guesses_are_right_where_the_first_model_was() -> None:
    rows = [
        trial(guess="left"),
        trial(guess="right"),
        turned(guess="right"),
        turned(guess="right"),
        trial(guess=None),
    ]
    found = figures(frame(*rows)).guessed_right
    assert found is not None
    assert (found.value, found.n) == (0.75, 4)


def test_raters_who_repeat_themselves_agree_with_themselves_though_sides_are_swapped() -> None:
    rows, repeats = [], []
    for n in range(8):
        scores = {"left": 1.0 + n % 5, "right": 5.0 - n % 3}
        rows.append(trial(prompt=f"p{n}", **scores))
        repeats.append(
            turned(
                prompt=f"p{n}",
                left=scores["right"],
                right=scores["left"],
                kind="repeat",
                repeat_of=f"t{n}",
            )
        )
    found = bias.retest(frame(*rows, *repeats), MODELS)
    assert found is not None
    assert found.value == pytest.approx(1.0)
    assert found.n == 8
    assert found.interval is not None
    assert found.interval.low == pytest.approx(1.0)


def test_repeats_by_chance_agree_by_chance() -> None:
    random = np.random.default_rng(0)
    rows = [trial(prompt=f"p{n}", left=list(random.integers(1, 6, 5))) for n in range(40)]
    rows += [
        trial(prompt=f"p{n}", left=list(random.integers(1, 6, 5)), kind="repeat", repeat_of=f"t{n}")
        for n in range(40)
    ]
    for row in rows:
        for dimension in Dimension:
            row[f"right_{dimension.value}"] = float(random.integers(1, 6))
    found = bias.retest(frame(*rows), MODELS)
    assert found is not None
    assert abs(found.value) < 0.15


def test_a_repeat_of_a_trial_that_is_not_there_is_left_out() -> None:
    assert bias.retest(frame(trial(kind="repeat", repeat_of="gone")), MODELS) is None
