import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from rating.statistics.figures import Rank
from rating.statistics.ranking import fit, ranking
from tests.rating.statistics.frames import frame, trial


def won(winner: str, loser: str, prompt: int, *, right: bool = False) -> dict[str, object]:
    """A trial in which `winner` was preferred, on the right if so wished."""
    left, other = (loser, winner) if right else (winner, loser)
    return trial(
        left_model=left,
        right_model=other,
        preference="right" if right else "left",
        prompt=f"p{prompt}",
    )


def ranked(*rows: dict[str, object]) -> dict[str, Rank]:
    return {rank.model: rank for rank in ranking(frame(*rows))}


def three(times: int = 12) -> list[dict[str, object]]:
    """A beats B 3 times in 4, B beats C 2 in 3, A beats C 5 in 6."""
    rows = []
    for n in range(times):
        rows.append(won("a", "b", n) if n % 4 else won("b", "a", n, right=True))
        rows.append(won("b", "c", n, right=True) if n % 3 else won("c", "b", n))
        rows.append(won("a", "c", n) if n % 6 else won("c", "a", n))
    return rows


def test_two_models_are_a_pair_and_no_ranking() -> None:
    assert ranking(frame(won("a", "b", 1))) == ()
    assert ranking(frame()) == ()


def test_strengths_are_those_of_a_logistic_regression() -> None:
    """Held against statsmodels, the imaginary tie of each model given as two half trials."""
    found = ranked(*three(24))
    games: list[tuple[str, str | None, float, float]] = [
        ("a", "b", 18, 6),
        ("b", "c", 16, 8),
        ("a", "c", 20, 4),
    ]
    games += [(model, None, 0.5, 0.5) for model in "abc"]
    rows, wins = [], []
    for one, other, ahead, behind in games:
        rows.append([(m == one) - (m == other) for m in "abc"])
        wins.append([ahead, behind])
    model = sm.GLM(np.array(wins), np.array(rows, dtype=float), family=sm.families.Binomial())
    expected = model.fit().params
    for name, strength in zip("abc", expected - expected.mean(), strict=True):
        assert found[name].strength == pytest.approx(strength, abs=1e-6)
    assert [rank.model for rank in ranking(frame(*three(24)))] == ["a", "b", "c"]
    assert found["a"].n == 48


def test_on_which_side_a_model_won_changes_nothing() -> None:
    rows = [won("a", "b", n) for n in range(3)] + [won("b", "c", n) for n in range(3)]
    turned = [won("a", "b", n, right=True) for n in range(3)]
    turned += [won("b", "c", n, right=True) for n in range(3)]
    assert ranked(*rows) == ranked(*turned)


def test_intervals_hold_the_strength_and_shrink_with_prompts() -> None:
    few, many = ranked(*three(12)), ranked(*three(120))
    for model in "abc":
        narrow, wide = many[model].interval, few[model].interval
        assert narrow is not None
        assert wide is not None
        assert wide.low < few[model].strength < wide.high
        assert narrow.high - narrow.low < (wide.high - wide.low) / 2


def test_of_fewer_than_six_prompts_there_are_no_intervals() -> None:
    assert all(rank.interval is None for rank in ranked(*three(5)).values())


def test_a_model_that_always_wins_is_first_with_a_finite_strength() -> None:
    rows = [won("a", other, n) for n in range(20) for other in "bc"]
    rows += [won("b", "c", n) for n in range(20)]
    found = ranking(frame(*rows))
    assert [rank.model for rank in found] == ["a", "b", "c"]
    assert all(math.isfinite(rank.strength) for rank in found)


def test_ties_and_both_bad_pull_models_together() -> None:
    even = trial(left_model="a", right_model="b", preference="both_bad", prompt="p1")
    tie = trial(left_model="b", right_model="c", preference="tie", prompt="p1")
    assert [rank.strength for rank in ranking(frame(even, tie))] == pytest.approx([0, 0, 0])


def test_models_that_never_met_the_others_are_left_out() -> None:
    rows = [*three(6), won("x", "y", 1)]
    assert set(ranked(*rows)) == {"a", "b", "c"}


def test_repeats_and_attention_trials_do_not_count() -> None:
    rows: list[dict[str, object]] = [won("c", "a", n) | {"kind": "attention"} for n in range(50)]
    assert ranked(*three(), *rows) == ranked(*three())


def test_strengths_have_mean_zero_for_many_resamples_at_once() -> None:
    random = np.random.default_rng(1)
    strengths = fit(random.integers(0, 9, size=(50, 16)).astype(float), 4)
    assert strengths.shape == (50, 4)
    assert strengths.mean(axis=1) == pytest.approx(np.zeros(50))


def test_frames_without_any_model_left_have_no_ranking() -> None:
    assert ranking(pd.DataFrame(frame(won("a", "b", 1))).iloc[:0]) == ()
