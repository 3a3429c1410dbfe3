"""What a session gives to whom, whatever the prompts, pairs, raters, shares and seeds."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from db import Side, TrialKind
from rating.assignment import swapped
from rating.sessions.plan import (
    REPEAT_GAP,
    Cell,
    Count,
    Given,
    Next,
    Nothing,
    Plan,
    Rules,
)

MOST_UNEVEN = 4  # half of the longest block

REGULAR, REPEAT, ATTENTION = TrialKind.REGULAR, TrialKind.REPEAT, TrialKind.ATTENTION


@dataclass
class Room:
    """Raters in one session, without a database: who has rated what, and who is at what."""

    rules: Rules
    rated: dict[str, list[Given]] = field(default_factory=lambda: defaultdict(list))
    at: dict[str, Next] = field(default_factory=dict)
    better: list[Side] = field(default_factory=list)

    def plan(self, rater: str) -> Plan:
        others = [at for who, at in self.at.items() if who != rater]
        return Plan(
            self.rules,
            rater,
            self.rated[rater],
            counts([one for own in self.rated.values() for one in own]),
            counts(others),
        )

    def give(self, rater: str) -> Next | Nothing:
        def sides(pair: str) -> bool:
            before = [g for g in self.rated[rater] if g.kind is REGULAR and g.pair == pair]
            return swapped(hash_of(rater), pair, len(before))

        given = self.plan(rater).next_trial(sides)
        if isinstance(given, Next):
            self.at[rater] = given
        return given

    def rate(self, rater: str) -> None:
        at = self.at.pop(rater)
        trial = f"{rater}-{len(self.rated[rater])}"
        self.rated[rater].append(
            Given(trial, at.kind, at.prompt, at.pair, at.swapped, at.repeat_of)
        )
        if at.better is not None:
            self.better.append(at.better)

    def rate_everything(self, rater: str) -> list[Given]:
        while isinstance(self.give(rater), Next):
            self.rate(rater)
        return self.rated[rater]

    def regular(self, rater: str) -> list[Given]:
        return [one for one in self.rated[rater] if one.kind is REGULAR]


def hash_of(rater: str) -> int:
    return random.Random(rater).getrandbits(63)


def counts(trials: Sequence[Given | Next]) -> dict[Cell, Count]:
    found: dict[Cell, Count] = defaultdict(Count)
    for one in trials:
        if one.kind is REGULAR:
            found[one.prompt, one.pair] += Count(not one.swapped, one.swapped)
    return found


@st.composite
def rules(draw: st.DrawFn, *, most_prompts: int = 12, checks: bool = True) -> Rules:
    share = st.sampled_from([0.0, 0.05, 0.1, 0.3, 1.0]) if checks else st.just(0.0)
    return Rules(
        prompts=[f"p{number}" for number in range(draw(st.integers(1, most_prompts)))],
        gold=[f"g{number}" for number in range(draw(st.integers(0, 4)))],
        pairs=draw(st.sampled_from([["a|b"], ["a|b", "a|c", "b|c"]])),
        raters_per_prompt=draw(st.integers(1, 4)),
        repeat_share=draw(share),
        attention_share=draw(share),
        seed=draw(st.integers(0, 2**63 - 1)),
    )


def shuffled_visits(room: Room, raters: Sequence[str], source: random.Random) -> None:
    """Let raters come, rate and linger in any order until nobody gets anything any more."""
    idle = 0
    while idle < 20 * len(raters):
        rater = source.choice(raters)
        if rater in room.at:
            room.rate(rater)
            idle = 0
        elif not isinstance(room.give(rater), Next):
            idle += 1


@settings(max_examples=12, deadline=None)
@given(rules(), st.integers(1, 5), st.randoms(use_true_random=False))
def test_every_cell_gets_as_many_ratings_as_there_are_raters_for_it_and_none_more(
    rule: Rules, raters: int, source: random.Random
) -> None:
    room = Room(rule)
    names = [f"rater{number}" for number in range(raters)]
    shuffled_visits(room, names, source)
    rated = counts([one for own in room.rated.values() for one in own])
    wanted = min(raters, rule.raters_per_prompt)
    for prompt in rule.prompts:
        for pair in rule.pairs:
            assert rated[prompt, pair].total == wanted
    for name in names:
        cells = [(one.prompt, one.pair) for one in room.regular(name)]
        assert len(set(cells)) == len(cells)
        assert room.plan(name).left == 0


@settings(max_examples=12, deadline=None)
@given(rules(), st.integers(2, 4), st.randoms(use_true_random=False))
def test_at_every_moment_a_raters_sides_are_balanced_to_within_half_a_block(
    rule: Rules, raters: int, source: random.Random
) -> None:
    room = Room(rule)
    shuffled_visits(room, [f"rater{number}" for number in range(raters)], source)
    for name in room.rated:
        lean = Counter[str]()
        for one in room.regular(name):
            lean[one.pair] += 1 if one.swapped else -1
            assert abs(lean[one.pair]) <= MOST_UNEVEN


@settings(max_examples=12, deadline=None)
@given(rules(most_prompts=25, checks=False))
def test_two_raters_of_everything_have_mirrored_sides_but_for_what_blocks_leave_open(
    rule: Rules,
) -> None:
    room = Room(rule)
    first, second = room.rate_everything("first"), room.rate_everything("second")
    if rule.raters_per_prompt < 2:
        assert second == []
        return
    for pair in rule.pairs:
        one = {g.prompt: g.swapped for g in first if g.pair == pair}
        other = {g.prompt: g.swapped for g in second if g.pair == pair}
        same = sum(one[prompt] == other[prompt] for prompt in rule.prompts)
        assert same <= MOST_UNEVEN


@settings(max_examples=12, deadline=None)
@given(rules(checks=False), st.integers(2, 5))
def test_the_least_rated_come_first(rule: Rules, raters: int) -> None:
    room = Room(rule)
    for number in range(raters):
        rater = f"rater{number}"
        while isinstance(given := room.give(rater), Next):
            unseen = room.plan(rater)._unseen
            rated = counts([one for own in room.rated.values() for one in own])
            assert rated[given.prompt, given.pair].total == min(rated[c].total for c in unseen)
            room.rate(rater)


def test_two_raters_at_once_are_never_given_the_same() -> None:
    room = Room(Rules(["p1", "p2"], [], ["a|b"], 1, 0.0, 0.0, 5))
    given = {room.give("ann"), room.give("bob")}
    assert {one.prompt for one in given if isinstance(one, Next)} == {"p1", "p2"}
    assert room.give("cyd") is Nothing.TAKEN
    room.rate("ann")
    room.rate("bob")
    assert room.give("cyd") is Nothing.DONE


@settings(max_examples=20, deadline=None)
@given(rules(most_prompts=25))
def test_repeats_show_each_own_trial_once_swapped_and_some_trials_later(rule: Rules) -> None:
    own = Room(rule).rate_everything("ann")
    by_id = {one.trial: (place, one) for place, one in enumerate(own)}
    repeats = [(place, one) for place, one in enumerate(own) if one.kind is REPEAT]
    assert len({one.repeat_of for _, one in repeats}) == len(repeats)
    for place, one in repeats:
        once_place, once = by_id[str(one.repeat_of)]
        assert once.kind is REGULAR
        assert (once.prompt, once.pair, once.swapped) == (one.prompt, one.pair, not one.swapped)
        assert place - once_place > REPEAT_GAP


@settings(max_examples=20, deadline=None)
@given(rules(most_prompts=25))
def test_attention_items_come_once_each_never_first_and_spread(rule: Rules) -> None:
    own = Room(rule).rate_everything("ann")
    items = [one.prompt for one in own if one.kind is ATTENTION]
    assert len(set(items)) == len(items)
    assert own[0].kind is not ATTENTION
    regular = 0
    given_so_far = 0
    for one in own:
        regular += one.kind is REGULAR
        given_so_far += one.kind is ATTENTION
        assert given_so_far < rule.attention_share * regular + 1


def test_the_shares_are_those_of_the_regular_trials() -> None:
    prompts = [f"p{number}" for number in range(60)]
    rule = Rules(prompts, [f"g{number}" for number in range(9)], ["a|b"], 3, 0.1, 0.05, 11)
    for rater in ("ann", "bob", "cyd"):
        kinds = Counter(one.kind for one in Room(rule).rate_everything(rater))
        assert kinds == {REGULAR: 60, REPEAT: 6, ATTENTION: 3}


def test_the_better_answer_is_on_either_side() -> None:
    room = Room(Rules(["p"], ["g1", "g2", "g3"], ["a|b"], 40, 0.0, 1.0, 3))
    for number in range(40):
        room.rate_everything(f"rater{number}")
    assert set(room.better) == set(Side)


@settings(max_examples=12, deadline=None)
@given(rules())
def test_what_is_left_to_rate_counts_down_to_nothing(rule: Rules) -> None:
    room = Room(rule)
    left = [room.plan("ann").left]
    while isinstance(room.give("ann"), Next):
        room.rate("ann")
        left.append(room.plan("ann").left)
    assert left == list(range(len(left) - 1, -1, -1))


@settings(max_examples=5, deadline=None)
@given(rules())
def test_the_same_seed_and_rater_give_the_same_again(
    rule: Rules,
) -> None:
    assert Room(rule).rate_everything("ann") == Room(rule).rate_everything("ann")


def test_raters_begin_at_different_prompts() -> None:
    rule = Rules([f"p{number}" for number in range(50)], [], ["a|b"], 9, 0.0, 0.0, 7)
    firsts = {room_first(rule, f"rater{number}") for number in range(8)}
    assert len(firsts) > 3


def room_first(rule: Rules, rater: str) -> str:
    given = Room(rule).give(rater)
    assert isinstance(given, Next)
    return given.prompt
