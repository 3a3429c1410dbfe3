import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db import Dimension
from rating.statistics.analysis import analyse
from rating.statistics.figures import DimensionFigures, PairFigures, VerdictKind
from tests.rating.statistics.frames import MODELS, drawn, frame, renamed, swapped, trial

NA = float("nan")


def figures(ratings: pd.DataFrame) -> PairFigures:
    return analyse(ratings, MODELS, blind=True)


def understanding(ratings: pd.DataFrame) -> DimensionFigures:
    return figures(ratings).dimensions[Dimension.UNDERSTANDING]


def test_an_empty_frame_gives_figures_without_data() -> None:
    found = figures(frame())
    assert (found.n_trials, found.n_prompts, found.n_raters) == (0, 0, 0)
    for each in found.dimensions.values():
        assert each.verdict.kind is VerdictKind.NO_DATA
        assert (each.difference, each.interval, each.p, each.effect) == (None,) * 4
        assert each.mean == {"one": None, "two": None}
        assert each.agreement is None
    assert found.bias.left_right is None
    assert found.excluded == {}


def test_raters_of_a_prompt_are_averaged_before_prompts_are() -> None:
    """By hand: prompt p is +1 (three raters: 0, 1, 2), q is -3 (one rater); the mean is -1."""
    found = understanding(
        frame(
            trial(prompt="p", rater="r1", left=2, right=2),
            trial(prompt="p", rater="r2", left=2, right=3),
            trial(prompt="p", rater="r3", left=1, right=3),
            trial(prompt="q", left=5, right=2),
        )
    )
    assert found.difference == pytest.approx(-1.0)
    assert found.mean == pytest.approx({"one": (5 / 3 + 5) / 2, "two": (8 / 3 + 2) / 2})
    assert (found.n_prompts, found.n_ratings) == (2, 4)


def test_a_side_without_a_score_takes_its_trial_out_of_that_dimension_alone() -> None:
    found = figures(
        frame(
            trial(prompt="p", left=[1, 1, NA, 1, 1], right=[2, 2, 5, 2, 2]),
            trial(prompt="q", left=1, right=4),
        )
    )
    memory = found.dimensions[Dimension.MEMORY]
    assert (memory.n_prompts, memory.n_ratings, memory.difference) == (1, 1, 3.0)
    assert found.dimensions[Dimension.COHERENCE].difference == 2.0


def test_attention_trials_and_repeats_never_count() -> None:
    ratings = frame(
        trial(left=1, right=3),
        trial(left=5, right=1, kind="repeat", repeat_of="t0"),
        trial(left=5, right=1, kind="attention", better="left", prompt="gold"),
    )
    found = figures(ratings)
    assert (found.n_trials, found.n_prompts) == (1, 1)
    assert found.dimensions[Dimension.REASONING].difference == 2.0
    assert found.bias.retest is not None


def test_what_was_left_out_is_handed_on() -> None:
    found = analyse(frame(trial()), MODELS, blind=False, excluded={"too_fast": 3})
    assert found.excluded == {"too_fast": 3}
    assert not found.blind


def test_of_five_prompts_nothing_is_decided_and_of_ten_clear_ones_everything() -> None:
    five = understanding(frame(*(trial(prompt=f"p{n}", left=1, right=5) for n in range(5))))
    assert (five.interval, five.verdict.kind) == (None, VerdictKind.UNDECIDED)
    ten = understanding(frame(*(trial(prompt=f"p{n}", left=1 + n % 2, right=5) for n in range(10))))
    assert ten.verdict.kind is VerdictKind.SECOND_BETTER
    assert ten.p == pytest.approx(2 / 2**10)
    assert ten.p_holm == pytest.approx(5 * 2 / 2**10)
    assert ten.effect == 1.0


@given(st.integers(0, 10_000))
@settings(max_examples=5)
def test_on_which_side_a_model_was_changes_nothing(seed: int) -> None:
    ratings = drawn(12, 2, seed)
    here, there = figures(ratings), figures(swapped(ratings))
    assert there.dimensions == here.dimensions
    assert there.preference == here.preference
    assert here.bias.length == there.bias.length
    assert here.bias.guessed_right == there.bias.guessed_right
    assert here.bias.left_right is not None
    assert there.bias.left_right is not None
    assert there.bias.left_right.value == pytest.approx(-here.bias.left_right.value)


@given(st.integers(0, 10_000))
@settings(max_examples=5)
def test_with_the_models_names_exchanged_every_difference_is_its_negative(seed: int) -> None:
    ratings = drawn(12, 2, seed)
    here, there = figures(ratings), figures(renamed(ratings))
    for dimension in Dimension:
        one, other = here.dimensions[dimension], there.dimensions[dimension]
        assert other.difference == pytest.approx(-(one.difference or 0))
        assert one.interval is not None
        assert other.interval is not None
        assert other.interval.low == pytest.approx(-one.interval.high)
        assert other.p == pytest.approx(one.p)
        assert other.effect == pytest.approx(-(one.effect or 0))
        assert other.mean == {"one": one.mean["two"], "two": one.mean["one"]}
        assert other.agreement == one.agreement
    assert (here.preference.a, here.preference.b) == (there.preference.b, there.preference.a)
    assert here.preference.p == there.preference.p


def test_the_order_of_rows_changes_nothing() -> None:
    ratings = drawn(15, 3)
    shuffled = ratings.sample(frac=1, random_state=1)
    assert figures(shuffled).dimensions == figures(ratings).dimensions
    assert figures(shuffled).preference == figures(ratings).preference


def test_the_same_ratings_twice_make_nothing_surer_but_new_prompts_do() -> None:
    ratings = drawn(20, 1)
    once = understanding(ratings)
    again = understanding(pd.concat([ratings, ratings.assign(trial=ratings["trial"] + "again")]))
    assert (again.interval, again.p, again.n_prompts) == (once.interval, once.p, 20)
    assert again.n_ratings == 2 * once.n_ratings
    new = understanding(pd.concat([ratings, ratings.assign(prompt=ratings["prompt"] + "new")]))
    assert once.interval is not None
    assert new.interval is not None
    assert new.interval.high - new.interval.low == pytest.approx(
        (once.interval.high - once.interval.low) / np.sqrt(2), rel=0.1
    )


def test_a_rater_who_rates_a_prompt_again_does_not_agree_with_themselves() -> None:
    ratings = drawn(10, 1)
    again = ratings.assign(trial=ratings["trial"] + "again")
    assert understanding(pd.concat([ratings, again])).agreement is None


def test_raters_who_agree_have_a_higher_alpha() -> None:
    near, far = (understanding(drawn(30, 3, noise=noise)).agreement for noise in (0.3, 1.5))
    assert near is not None
    assert far is not None
    assert near.alpha > 0.5 > far.alpha
    assert near.interval is not None
    assert near.interval.low < near.alpha < near.interval.high
