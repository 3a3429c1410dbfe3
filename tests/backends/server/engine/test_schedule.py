from hypothesis import given
from hypothesis import strategies as st

from backends.server.engine.schedule import Turns, share_out


@given(st.lists(st.integers(1, 3000), max_size=8), st.integers(1, 512))
def test_the_whole_budget_is_used_and_no_more(remaining: list[int], budget: int) -> None:
    shares = share_out(remaining, budget)
    assert sum(shares) == min(budget, sum(remaining))
    assert all(0 <= share <= left for share, left in zip(shares, remaining, strict=True))


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=8), st.integers(1, 512))
def test_the_one_that_came_first_gets_a_quarter_at_least(remaining: list[int], budget: int) -> None:
    assert share_out(remaining, budget)[0] >= min(remaining[0], max(1, budget // 4))


def test_a_short_prompt_is_not_stuck_behind_long_ones() -> None:
    assert share_out([2000, 1000, 30], 256) == [64, 162, 30]


def test_of_equally_long_prompts_the_first_comes_first() -> None:
    assert share_out([200, 200, 200], 256) == [200, 56, 0]


def test_a_long_prompt_is_computed_however_many_short_ones_keep_coming() -> None:
    left, steps = 2048, 0
    while left:
        left -= share_out([left, 100, 100, 100], 256)[0]
        steps += 1
    assert steps == 2048 / 64


def test_short_prompts_get_most_turns_and_the_first_every_fourth() -> None:
    turns = Turns()
    assert [turns.choose([1000, 20, 300]) for _ in range(8)] == [1, 1, 1, 0, 1, 1, 1, 0]


def test_of_equally_long_prompts_the_first_has_the_turn() -> None:
    turns = Turns()
    assert [turns.choose([20, 20]) for _ in range(8)] == [0] * 8
