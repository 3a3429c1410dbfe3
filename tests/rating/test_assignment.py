from itertools import accumulate, pairwise

import pytest

from rating.assignment import pair_key, swapped

PAIR = "one|two"


def sides(seed: int, length: int, pair: str = PAIR) -> list[bool]:
    return [swapped(seed, pair, rated_before) for rated_before in range(length)]


def test_a_pair_has_one_key_whatever_the_order() -> None:
    assert pair_key("two", "one") == pair_key("one", "two") == PAIR


def test_a_raters_sides_are_the_same_again_after_a_restart() -> None:
    assert sides(7, 40) == sides(7, 40)


def test_raters_and_pairs_have_orders_of_their_own() -> None:
    orders = {tuple(sides(seed, 24)) for seed in range(50)}
    assert len(orders) == 50
    assert tuple(sides(7, 24, "one|three")) not in orders


def test_sides_are_exactly_balanced_at_least_every_eight_trials() -> None:
    for seed in range(200):
        lead = list(accumulate(1 if side else -1 for side in sides(seed, 80)))
        assert max(map(abs, lead)) <= 4
        balanced = [-1, *(n for n, value in enumerate(lead) if value == 0)]
        assert max(b - a for a, b in pairwise(balanced)) <= 8
        assert len(lead) - 1 - balanced[-1] < 8


def test_raters_together_have_each_model_on_each_side_alike() -> None:
    first = sum(swapped(seed, PAIR, 0) for seed in range(2_000))
    assert 900 < first < 1_100  # fixed seeds: always the same number


@pytest.mark.parametrize("length", [4, 6, 8])
def test_no_block_length_foretells_the_next_side(length: int) -> None:
    """Who took each block for that long, and its last side for what balances it, is often wrong."""
    right = wrong = 0
    for seed in range(500):
        order = sides(seed, 4 * length)
        for start in range(0, len(order), length):
            block = order[start : start + length]
            lead = sum(1 if side else -1 for side in block[:-1])
            if abs(lead) == 1:
                foretold = lead < 0
                right += block[-1] == foretold
                wrong += block[-1] != foretold
    assert wrong > 0.2 * (right + wrong)


def test_after_any_three_sides_the_next_one_may_be_either() -> None:
    seen: dict[tuple[bool, ...], set[bool]] = {}
    for seed in range(2_000):
        *three, following = sides(seed, 4)
        seen.setdefault(tuple(three), set()).add(following)
    assert len(seen) == 8
    assert all(following == {True, False} for following in seen.values())
