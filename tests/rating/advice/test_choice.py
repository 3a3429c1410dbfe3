from dataclasses import replace
from itertools import combinations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.advice.candidates import Candidate
from rating.advice.choice import (
    LIMITED,
    Advice,
    BadLimit,
    Limits,
    State,
    advise,
    limits_from,
    scatter,
)
from rating.advice.reasons import Reason
from rating.advice.standing import Figure, figure_of
from rating.errors import TrialError
from rating.statistics.intervals import Mean
from tests.rating.advice.candidates import CHATGLM, QWEN, RUNS, article_pair, candidate, rated

CLEAR = [0.7, 0.8, 0.6, 0.9, 0.5, 0.7, 0.8]
"""Differences by prompt, all for the same model."""

UNCLEAR = [0.7, -0.8, 0.6, -0.9, 0.5, -0.4, 0.2]


def codes(advice: Advice) -> list[str]:
    return [reason.code for reason in advice.reasons]


def verdict(advice: Advice) -> str:
    return advice.reasons[0].code


def reason(advice: Advice, code: str) -> Reason:
    """The only reason of that code."""
    (found,) = (reason for reason in advice.reasons if reason.code == code)
    return found


def states(advice: Advice) -> dict[str, State]:
    return {row.candidate.model_key: row.state for row in advice.rows}


# --- limits ---------------------------------------------------------------------------------------


def test_a_model_that_breaks_a_limit_is_out_with_its_figure() -> None:
    advice = advise(article_pair(), Limits(memory_bytes=4e9))
    assert advice.choice == QWEN
    assert verdict(advice) == "take_only_fitting"
    assert states(advice) == {QWEN: State.FITS, CHATGLM: State.OUT}
    assert reason(advice, "over").details == {
        "model": CHATGLM,
        "figure": "memory",
        "limit_bytes": 4e9,
        "took_bytes": 6_500_000_000,
        "low_bytes": pytest.approx(6.175e9),
        "high_bytes": pytest.approx(6.825e9),
        "over_share": pytest.approx(0.625),
    }


@pytest.mark.parametrize(
    ("limits", "figure"),
    [
        (Limits(memory_bytes=3e9), Figure.MEMORY),
        (Limits(first_token_s=2.0), Figure.FIRST_TOKEN),
        (Limits(answer_s=5.0), Figure.ANSWER),
    ],
)
def test_each_limit_is_held_against_its_own_figure(limits: Limits, figure: Figure) -> None:
    advice = advise(article_pair(), limits)
    assert advice.choice == QWEN
    assert reason(advice, "over").details["figure"] == figure
    assert reason(advice, "within").details["figure"] == figure


def test_a_mean_below_the_limit_with_single_answers_above_keeps_to_it_narrowly() -> None:
    one = candidate("alpha", answer_s=4.0, spread=0.2)
    advice = advise([one], Limits(answer_s=4.2))
    assert advice.choice == "alpha"
    near = reason(advice, "near").details
    assert near["took_s"] == pytest.approx(4.0)
    assert near["high_s"] == max(one.answer_s.values())
    assert float(near["high_s"]) > 4.2


def test_a_mean_above_the_limit_with_single_answers_below_is_out_narrowly() -> None:
    advice = advise([candidate("alpha", answer_s=4.0, spread=0.2)], Limits(answer_s=3.9))
    assert advice.choice is None
    assert states(advice) == {"alpha": State.OUT}
    assert float(reason(advice, "over_narrowly").details["low_s"]) < 3.9


def test_memory_within_the_meters_error_of_the_limit_is_near_it() -> None:
    (above,) = advise([candidate("a", peak_bytes=2_050_000_000)], Limits(memory_bytes=2e9)).rows
    (below,) = advise([candidate("a", peak_bytes=1_950_000_000)], Limits(memory_bytes=2e9)).rows
    assert (above.state, above.reasons[0].code) == (State.OUT, "over_narrowly")
    assert (below.state, below.reasons[0].code) == (State.FITS, "near")


def test_what_takes_exactly_the_limit_keeps_to_it() -> None:
    one = candidate("alpha", spread=0.0, answer_s=4.0, peak_bytes=2_000_000_000)
    assert advise([one], Limits(memory_bytes=2e9, answer_s=4.0)).choice == "alpha"


def test_a_limit_that_can_not_be_checked_is_said_and_never_counts_as_kept() -> None:
    known, unknown = candidate("alpha"), candidate("beta", peak_bytes=None, answer_s=0.1)
    advice = advise([known, unknown], Limits(memory_bytes=4e9))
    assert advice.choice == "alpha"
    assert states(advice)["beta"] is State.UNCHECKED
    assert reason(advice, "unchecked").details["model"] == "beta"


def test_where_no_limit_could_be_checked_nothing_is_advised() -> None:
    advice = advise([candidate("alpha", peak_bytes=None)], Limits(memory_bytes=4e9))
    assert (advice.choice, verdict(advice)) == (None, "only_unchecked")


def test_without_that_limit_the_missing_figure_does_no_harm() -> None:
    advice = advise([candidate("alpha", peak_bytes=None)], Limits(answer_s=60.0))
    assert advice.choice == "alpha"


def test_a_model_at_another_address_takes_no_memory_here() -> None:
    remote = candidate("alpha@host", remote=True, peak_bytes=None)
    advice = advise([remote, candidate("beta")], Limits(memory_bytes=1e9))
    assert advice.choice == "alpha@host"
    assert reason(advice, "elsewhere").details == {"model": "alpha@host"}


def test_the_times_of_a_model_at_another_address_count_as_any_others() -> None:
    remote = candidate("alpha@host", remote=True, first_token_s={})
    advice = advise([remote], Limits(first_token_s=2.0))
    assert (advice.choice, verdict(advice)) == (None, "only_unchecked")


def test_where_nothing_fits_the_nearest_is_named_with_the_limit_it_breaks_most() -> None:
    advice = advise(article_pair(), Limits(memory_bytes=1.9e9, first_token_s=0.3))
    assert advice.choice is None
    assert verdict(advice) == "nothing_fits"
    details = advice.reasons[0].details
    assert (details["model"], details["figure"]) == (QWEN, "first_token")
    assert details["over_share"] == pytest.approx(2.0)


@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), float("inf")])
def test_a_limit_that_nothing_could_keep_to_is_refused(limit: float) -> None:
    with pytest.raises(BadLimit, match="above 0"):
        Limits(answer_s=limit)


@pytest.mark.parametrize("entered", ["fast", "2,5", "-1", "nan", "1e400", True, [], "0"])
def test_an_entry_that_is_no_limit_is_refused_with_what_to_write(entered: object) -> None:
    with pytest.raises(TrialError, match=r"such as 2\.5") as caught:
        limits_from(answer_s=entered)
    assert caught.value.code == "bad_limit"


def test_entries_are_gigabytes_and_seconds_and_empty_is_no_limit() -> None:
    assert limits_from(memory_gb="2.5", first_token_s=1, answer_s=" ") == Limits(2.5e9, 1.0, None)
    assert limits_from() == limits_from(memory_gb="", first_token_s=None) == Limits()


# --- what decides between those that fit ----------------------------------------------------------


def test_ratings_that_are_sure_decide_whatever_it_costs() -> None:
    small, large = article_pair()
    advice = advise(rated(large, small, CLEAR))
    assert advice.choice == CHATGLM
    assert verdict(advice) == "take_better_rated"
    details = reason(advice, "better_rated").details
    assert (details["model"], details["other"], details["prompts"]) == (CHATGLM, QWEN, 7)
    assert float(details["low_points"]) > 0
    costs = [r.details["figure"] for r in advice.reasons if r.code == "less"]
    assert costs == list(LIMITED)


def test_ratings_that_are_not_sure_leave_a_tie_break_that_is_called_one() -> None:
    small, large = article_pair()
    advice = advise(rated(large, small, UNCLEAR))
    assert advice.choice == QWEN
    assert verdict(advice) == "take_tie_break"
    undecided = reason(advice, "ratings_undecided").details
    assert float(undecided["low_points"]) <= 0 <= float(undecided["high_points"])


def test_five_prompts_decide_nothing_however_clear_they_look() -> None:
    small, large = article_pair()
    advice = advise(rated(large, small, [4.0] * 5))
    assert (advice.choice, verdict(advice)) == (QWEN, "take_tie_break")
    assert reason(advice, "ratings_too_few").details["needed"] == 6


def test_without_ratings_it_is_said_that_quality_is_unknown() -> None:
    advice = advise(article_pair())
    assert (advice.choice, verdict(advice)) == (QWEN, "take_by_resources")
    assert "no_ratings" in codes(advice)


def test_where_one_is_smaller_and_the_other_quicker_the_data_do_not_decide() -> None:
    small = candidate("small", peak_bytes=1_000_000_000, answer_s=8.0)
    quick = candidate("quick", peak_bytes=4_000_000_000, answer_s=2.0)
    advice = advise(rated(small, quick, UNCLEAR))
    assert (advice.choice, verdict(advice)) == (None, "undecided")
    assert advice.reasons[0].details["models"] == "quick / small"


def test_models_that_are_the_same_in_everything_are_not_told_apart() -> None:
    advice = advise([candidate("alpha"), candidate("beta")])
    assert (advice.choice, verdict(advice)) == (None, "undecided")
    assert codes(advice).count("not_apart") == len(LIMITED)


def test_quicker_on_average_alone_is_not_enough() -> None:
    """One slow answer of fifteen makes a mean, and no difference."""
    steady, shaky = candidate("steady", spread=0.0), candidate("shaky", spread=0.0)
    slow = {run: 3.9 if run != RUNS[0] else 60.0 for run in RUNS}
    advice = advise([steady, replace(shaky, answer_s=slow)])
    assert advice.choice is None
    assert {r.details["figure"] for r in advice.reasons if r.code == "less"} == set()


def test_a_difference_that_nobody_feels_does_not_decide() -> None:
    """Every run is a little quicker, so it is real; it is 2 % all the same."""
    quick = candidate("quick", answer_s=3.92, first_s=0.98)
    assert advise([quick, candidate("slow")]).choice is None
    quicker = candidate("quick", answer_s=3.2)
    assert advise([quicker, candidate("slow")]).choice == "quick"


def test_answers_measured_too_rarely_do_not_tell_who_is_quicker() -> None:
    once = RUNS[::5]
    quick, slow = (
        replace(
            candidate(key),
            first_token_s=dict.fromkeys(once, seconds),
            answer_s=dict.fromkeys(once, seconds),
        )
        for key, seconds in (("quick", 1.0), ("slow", 2.0))
    )
    assert advise([quick, slow]).choice is None


def test_of_three_the_one_that_loses_is_no_longer_looked_at() -> None:
    best, worst = rated(candidate("best"), candidate("worst", peak_bytes=10**8), CLEAR)
    unknown = candidate("unknown", peak_bytes=10**9)
    advice = advise([best, worst, unknown])
    assert advice.choice == "unknown"
    assert verdict(advice) == "take_by_resources"


def test_of_three_that_beat_each_other_in_a_circle_none_wins_by_ratings() -> None:
    one, two = rated(candidate("a"), candidate("b"), CLEAR)
    two, three = rated(two, candidate("c"), CLEAR)
    three, one = rated(three, one, CLEAR)
    advice = advise([one, two, three])
    assert (advice.choice, verdict(advice)) == (None, "undecided")


def test_a_better_model_that_is_out_is_named() -> None:
    small, large = article_pair()
    advice = advise(rated(large, small, CLEAR), Limits(memory_bytes=4e9))
    assert advice.choice == QWEN
    assert reason(advice, "better_but_out").details == {"model": CHATGLM, "other": QWEN}
    assert "better_rated" in codes(advice)


def test_a_better_model_whose_limits_are_unknown_is_not_called_out() -> None:
    small, large = rated(candidate("small"), candidate("large", peak_bytes=None), [-1.0] * 8)
    advice = advise([small, large], Limits(memory_bytes=4e9))
    assert advice.choice == "small"
    assert "better_but_out" not in codes(advice)


def test_a_single_model_is_nothing_to_choose_from() -> None:
    advice = advise([candidate("alpha")])
    assert (advice.choice, verdict(advice)) == ("alpha", "take_only_measured")


def test_nothing_measured_is_said() -> None:
    advice = advise([])
    assert (advice.choice, codes(advice)) == (None, ["nothing_measured"])


# --- trouble and caveats --------------------------------------------------------------------------


def test_a_model_that_died_is_out_with_its_reason() -> None:
    dead = Candidate(CHATGLM, error="killed: out of memory")
    advice = advise([article_pair()[0], dead])
    assert (advice.choice, verdict(advice)) == (QWEN, "take_only_fitting")
    assert reason(advice, "failed").details["error"] == "killed: out of memory"


def test_where_every_model_died_that_is_the_verdict() -> None:
    advice = advise([Candidate("alpha", error="dead"), Candidate("beta", n_failed=15)])
    assert (advice.choice, verdict(advice)) == (None, "nothing_runs")
    assert set(states(advice).values()) == {State.FAILED}
    assert codes(advice) == ["nothing_runs", "failed", "failed"]


def test_a_model_that_was_not_reached_yet_is_not_taken_for_one_that_answers() -> None:
    """Stop keeps what was measured until then."""
    advice = advise([candidate("alpha"), Candidate("beta", peak_bytes=10**8)])
    assert advice.choice == "alpha"
    assert states(advice)["beta"] is State.UNCHECKED
    assert "unmeasured" in codes(advice)


def test_failed_answers_of_a_model_that_goes_on_are_said() -> None:
    advice = advise([candidate("alpha", n_failed=2, error="timeout")])
    assert advice.choice == "alpha"
    assert reason(advice, "some_failed").details == {"model": "alpha", "failed": 2, "asked": 17}
    assert reason(advice, "partly").details["error"] == "timeout"


def test_built_in_models_are_called_no_measure_of_real_ones() -> None:
    advice = advise([candidate("tiny-qwen", builtin=True), candidate("alpha", peak_bytes=10**8)])
    assert reason(advice, "builtin").details == {"model": "tiny-qwen"}


def test_times_of_a_busy_machine_decide_nothing_and_that_is_said() -> None:
    quick, slow = candidate("a", answer_s=2.0, first_s=0.5), candidate("b")
    assert advise([quick, slow]).choice == "a"
    busy = advise([quick, replace(slow, others_share=0.3)])
    assert busy.choice is None
    assert "disturbed" in codes(busy)
    assert advise([quick, replace(slow, others_share=0.05)]).choice == "a"


def test_ratings_of_another_precision_are_said_to_be_that() -> None:
    same = candidate("alpha", precision="int8", rated_as=frozenset({("1", "int8")}))
    other = candidate("beta", precision="int8", rated_as=frozenset({("1", "float32")}))
    advice = advise([same, other])
    assert reason(advice, "rated_otherwise").details == {"model": "beta"}


def test_open_ratings_are_called_open() -> None:
    advice = advise(rated(*article_pair(), CLEAR, blind=False))
    assert verdict(advice) == "take_better_rated"
    assert "open_ratings" in codes(advice)


# --- the scatter ----------------------------------------------------------------------------------


def test_the_scatter_has_a_point_for_each_model_with_answers_and_ratings() -> None:
    quality = Mean(4.5, 4.0, 4.8, 9)
    rated_one = candidate("alpha", quality=quality, answer_s=4.0)
    remote = candidate("beta", quality=Mean(3.0, None, None, 2), remote=True, peak_bytes=None)
    advice = advise([rated_one, remote, candidate("unrated"), Candidate("gone", quality=quality)])
    first, second = scatter(advice)
    assert first.model_key == "alpha"
    assert first.answer_s.mean == pytest.approx(4.0)
    assert first.answer_s.n == len(RUNS)
    assert (first.score, first.low, first.high, first.n_prompts) == (4.5, 4.0, 4.8, 9)
    assert first.peak_bytes == rated_one.peak_bytes
    assert (second.model_key, second.low, second.peak_bytes) == ("beta", None, None)


# --- what holds of any models and limits ----------------------------------------------------------

amounts = st.sampled_from([0.5, 0.9, 1.0, 1.02, 1.1, 2.0, 3.0])
maybe = st.none() | amounts
unhurried = settings(max_examples=50)
limits = st.builds(
    Limits,
    memory_bytes=maybe.map(lambda gb: gb and gb * 1e9),
    first_token_s=maybe,
    answer_s=maybe,
)


@st.composite
def some_candidates(draw: st.DrawFn) -> list[Candidate]:
    """Up to four models, measured or not, rated beside each other or not."""
    found = []
    for key in "abcd"[: draw(st.integers(0, 4))]:
        one = candidate(
            key,
            first_s=draw(amounts),
            answer_s=draw(amounts),
            spread=draw(st.sampled_from([0.0, 0.1])),
            peak_bytes=draw(st.none() | amounts.map(lambda gb: int(gb * 1e9))),
            remote=draw(st.booleans()),
        )
        if draw(st.integers(0, 4)) == 0:
            one = replace(one, answer_s={}, error=draw(st.sampled_from(["", "dead"])))
        found.append(one)
    for i, j in combinations(range(len(found)), 2):
        differences = draw(st.none() | st.sampled_from([CLEAR, UNCLEAR, CLEAR[:4]]))
        if differences is not None:
            way = draw(st.sampled_from([1, -1]))
            found[i], found[j] = rated(found[i], found[j], [way * d for d in differences])
    return found


@unhurried
@given(some_candidates(), limits)
def test_the_choice_never_breaks_a_limit(measured: list[Candidate], limits: Limits) -> None:
    advice = advise(measured, limits)
    chosen = [one for one in measured if one.model_key == advice.choice]
    assert len(chosen) == (advice.choice is not None)
    for one in chosen:
        assert not one.failed
        for figure in LIMITED:
            limit, took = limits.of(figure), figure_of(one, figure)
            if limit is not None:
                assert took is not None or (figure is Figure.MEMORY and one.remote)
                assert took is None or took <= limit


@unhurried
@given(some_candidates(), limits, st.sampled_from(LIMITED), st.floats(0.1, 1.0))
def test_a_tighter_limit_never_brings_a_model_back(
    measured: list[Candidate], limits: Limits, figure: Figure, share: float
) -> None:
    name = "memory_bytes" if figure is Figure.MEMORY else f"{figure.value}_s"
    loose = limits.of(figure)
    tight = replace(limits, **{name: share * (1e10 if loose is None else loose)})
    before, after = states(advise(measured, limits)), states(advise(measured, tight))
    for key, state in before.items():
        if state is not State.FITS:
            assert after[key] is not State.FITS
        if state is State.OUT:
            assert after[key] is State.OUT


@unhurried
@given(some_candidates(), limits, st.randoms())
def test_the_order_of_the_models_changes_nothing(
    measured: list[Candidate], limits: Limits, random: Random
) -> None:
    shuffled = list(measured)
    random.shuffle(shuffled)
    assert advise(shuffled, limits) == advise(measured, limits)


@unhurried
@given(some_candidates(), limits)
def test_taking_away_a_model_that_does_not_fit_leaves_the_choice(
    measured: list[Candidate], limits: Limits
) -> None:
    advice = advise(measured, limits)
    fitting = [row.candidate for row in advice.rows if row.state is State.FITS]
    assert advise(fitting, limits).choice == advice.choice
