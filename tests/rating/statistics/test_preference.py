import numpy as np
import pytest
from scipy.stats import binomtest

from rating.statistics.figures import PreferenceFigures
from rating.statistics.paired import pair_up
from rating.statistics.preference import preference_figures
from tests.rating.statistics.frames import MODELS, frame, trial


def figures(*rows: dict[str, object]) -> PreferenceFigures:
    ratings = frame(*rows)
    return preference_figures(ratings, pair_up(ratings, MODELS))


def on_left(preference: str, prompt: object = "p", **values: object) -> dict[str, object]:
    """A trial with the first model on the left."""
    return trial(preference=preference, prompt=f"{prompt}", **values)


def on_right(preference: str, prompt: object = "p") -> dict[str, object]:
    """A trial with the first model on the right."""
    return trial(preference=preference, prompt=f"{prompt}", left_model="two", right_model="one")


def test_without_ratings_nothing_is_known() -> None:
    assert figures() == PreferenceFigures(0, 0, 0, 0, None, None, None)


def test_sides_are_turned_into_models() -> None:
    found = figures(
        on_left("left"), on_right("right"), on_left("right"), on_left("tie"), on_right("both_bad")
    )
    assert (found.a, found.b, found.tie, found.both_bad) == (2, 1, 1, 1)
    assert found.win_rate == pytest.approx(1 / 3)


def test_ties_alone_give_no_rate_and_no_test() -> None:
    found = figures(on_left("tie"), on_left("both_bad"))
    assert (found.win_rate, found.interval, found.p) == (None, None, None)


def test_the_sign_test_counts_each_prompt_once() -> None:
    """Two is preferred on 7 prompts, each by three raters; one on 1; another is even."""
    rows = [on_left("right", n) for n in range(7) for _ in range(3)]
    rows += [on_left("left", 7)] * 4 + [on_left("left", 8), on_left("right", 8)]
    assert figures(*rows).p == pytest.approx(binomtest(7, 8).pvalue)


@pytest.mark.parametrize(("first", "second"), [(1, 0), (2, 2), (0, 9), (30, 52)])
def test_the_sign_test_is_scipys(first: int, second: int) -> None:
    rows = [on_left("left" if n < first else "right", n) for n in range(first + second)]
    assert figures(*rows).p == pytest.approx(binomtest(second, first + second).pvalue)


def test_more_raters_of_the_same_prompts_are_no_proof() -> None:
    few = figures(*(on_left("right", n) for n in range(4)))
    many = figures(*(on_left("right", n) for n in range(4) for _ in range(20)))
    assert many.p == few.p
    assert many.interval == few.interval
    assert np.isclose(many.win_rate or 0, 1)
