from typing import Any

import pandas as pd
import pytest

from db import Language
from rating import quality
from rating.quality import WORDINGS, Flag, counted, excluded, flags_of
from tests.rating.statistics.frames import frame, trial

NA = float("nan")


def flagged(ratings: pd.DataFrame) -> dict[str, tuple[Flag, ...]]:
    """The flags of each trial that has any."""
    flags = flags_of(ratings)
    return {name: own for name, own in zip(ratings["trial"], flags, strict=True) if own}


def read_in(seconds: float, characters: float, language: str = "en") -> dict[str, Any]:
    half = characters / 2
    return trial(rating_s=seconds, left_chars=half, right_chars=half, language=language)


def test_no_ratings_have_no_flags() -> None:
    assert len(flags_of(frame())) == 0
    assert len(counted(frame(), include_flagged=False)) == 0
    assert excluded(frame(), include_flagged=False) == {}


def test_a_flag_that_was_brought_along_counts_though_its_reason_is_not_here() -> None:
    ratings = frame(trial(flags=("too_fast", "self_naming_left")), trial(flags=()))
    assert flagged(ratings) == {"t0": (Flag.TOO_FAST,)}
    assert excluded(ratings, include_flagged=False) == {"too_fast": 1}


def test_careful_ratings_have_no_flags() -> None:
    times = {"rating_s": 120.0, "left_chars": 400.0, "right_chars": 400.0}
    assert flagged(frame(*(row | times for row in varied("r1", 20)))) == {}


@pytest.mark.parametrize(
    ("language", "characters", "needed_s"), [("en", 4_800, 100), ("zh", 1_100, 100)]
)
def test_too_fast_is_faster_than_twice_the_usual_reading_and_a_keystroke_an_entry(
    language: str, characters: int, needed_s: float
) -> None:
    """Ten scores and the preference are 11 entries, 2.2 seconds."""
    slow, fast = needed_s + 2.3, needed_s + 2.1
    assert flagged(frame(read_in(slow, characters, language))) == {}
    assert flagged(frame(read_in(fast, characters, language))) == {"t0": (Flag.TOO_FAST,)}


@pytest.mark.parametrize(("seconds", "characters"), [(NA, 500), (0.1, NA)])
def test_where_time_or_length_is_unknown_nobody_was_too_fast(
    seconds: float, characters: float
) -> None:
    assert flagged(frame(read_in(seconds, characters))) == {}


def straight(rater: str, count: int, score: float = 3, start: int = 0) -> list[dict[str, Any]]:
    """Trials with one score throughout."""
    return [
        trial(rater=rater, prompt=f"p{start + n}", left=score, right=score) for n in range(count)
    ]


def varied(rater: str, count: int, start: int = 0) -> list[dict[str, Any]]:
    """Trials whose sides differ."""
    return [trial(rater=rater, prompt=f"p{start + n}", left=2, right=4) for n in range(count)]


def raters_flagged(*rows: dict[str, Any]) -> set[str]:
    ratings = frame(*rows)
    hit = [Flag.STRAIGHT_LINED in own for own in flags_of(ratings)]
    return set(ratings["rater"][hit])


def test_some_straight_lined_trials_are_no_sign_of_anything() -> None:
    assert raters_flagged(*straight("r1", 4), *varied("r2", 20)) == set()
    assert raters_flagged(*straight("r1", 6), *varied("r1", 7, 6), *varied("r2", 20)) == set()


def test_a_habit_flags_all_trials_of_that_rater_and_nobody_elses() -> None:
    ratings = frame(*straight("r1", 8), *varied("r1", 3, 8), *varied("r2", 11))
    flags = flags_of(ratings)
    assert all(own == (Flag.STRAIGHT_LINED,) for own in flags[ratings["rater"] == "r1"])
    assert not any(flags[ratings["rater"] == "r2"])


def test_one_score_that_changes_from_trial_to_trial_is_no_habit() -> None:
    rows = [row for n in range(8) for row in straight("r1", 1, 1 + n % 4, n)]
    assert raters_flagged(*rows, *varied("r2", 20)) == set()


def test_where_everybody_straight_lines_the_answers_are_to_blame() -> None:
    rows = [row for n in range(4) for row in straight(f"r{n}", 10, score=1)]
    assert raters_flagged(*rows) == set()


def test_a_lone_rater_with_the_habit_is_flagged_too() -> None:
    assert raters_flagged(*straight("r1", 10)) == {"r1"}


def check(rater: str, *, passed: bool) -> dict[str, Any]:
    """An attention trial, its better answer on the left."""
    scores = {"left": 5, "right": 1, "preference": "left"}
    if not passed:
        scores = {"left": 3, "right": 4, "preference": "right"}
    return trial(rater=rater, kind="attention", better="left", prompt="gold", **scores)


@pytest.mark.parametrize(
    ("failed", "passed", "careless"),
    [(1, 0, False), (1, 9, False), (2, 0, True), (2, 1, True), (2, 3, False), (3, 3, True)],
)
def test_a_rater_is_careless_who_fails_more_checks_than_by_slips(
    failed: int, passed: int, careless: bool
) -> None:
    rows = [check("r1", passed=False)] * failed + [check("r1", passed=True)] * passed
    flags = flagged(frame(trial(rater="r1"), trial(rater="r2"), *rows))
    assert ("t0" in flags) == careless
    assert "t1" not in flags
    assert flags["t2"] == (Flag.FAILED_ATTENTION,)


@pytest.mark.parametrize(
    ("values", "failed"),
    [
        ({"left": 4, "right": 2, "preference": "left"}, False),
        ({"left": 4, "right": 2, "preference": "tie"}, True),
        ({"left": 4, "right": 2, "preference": "right"}, True),
        ({"left": 4, "right": 4, "preference": "left"}, True),
        ({"left": NA, "right": NA, "preference": "left"}, False),
    ],
)
def test_a_check_is_failed_by_the_preference_or_by_the_scores(
    values: dict[str, Any], failed: bool
) -> None:
    ratings = frame(trial(kind="attention", better="left", **values))
    assert (flagged(ratings) != {}) == failed


def again(**values: Any) -> dict[str, Any]:
    """The repeat of trial t0, its sides swapped."""
    return trial(left_model="two", right_model="one", kind="repeat", repeat_of="t0", **values)


@pytest.mark.parametrize(
    ("values", "contradicts"),
    [
        ({"left": 4, "right": 2, "preference": "left"}, True),
        ({"left": 2, "right": 4, "preference": "right"}, False),
        ({"left": 4, "right": 2, "preference": "right"}, False),
        ({"left": 2, "right": 4, "preference": "left"}, False),
        ({"left": 4, "right": 2, "preference": "tie"}, False),
        ({"left": 3, "right": 3, "preference": "left"}, False),
    ],
)
def test_a_repeat_contradicts_only_where_preference_and_scores_both_turn_round(
    values: dict[str, Any], contradicts: bool
) -> None:
    ratings = frame(trial(left=4, right=2, preference="left"), again(**values), trial(prompt="q"))
    both = {"t0": (Flag.CONTRADICTED,), "t1": (Flag.CONTRADICTED,)}
    assert flagged(ratings) == (both if contradicts else {})


def test_a_repeat_of_a_trial_that_was_filtered_out_contradicts_nothing() -> None:
    assert flagged(frame(again(left=4, right=2, preference="left") | {"repeat_of": "gone"})) == {}


def mixed() -> pd.DataFrame:
    """One trial too fast, one contradicted and too fast, its repeat, and one in order."""
    fast = {"rating_s": 0.5, "left_chars": 300.0, "right_chars": 300.0}
    return frame(
        trial(left=4, right=2, preference="left", **fast),
        again(left=4, right=2, preference="left"),
        trial(prompt="q", **fast),
        trial(prompt="r", rating_s=500.0, left_chars=10.0, right_chars=10.0),
    )


def test_flagged_trials_are_left_out_and_counted_by_flag() -> None:
    ratings = mixed()
    assert list(counted(ratings, include_flagged=False)["trial"]) == ["t3"]
    assert excluded(ratings, include_flagged=False) == {"too_fast": 2, "contradicted": 1}


def test_flags_can_be_ignored_and_nothing_is_ever_changed() -> None:
    ratings = mixed()
    before = ratings.copy(deep=True)
    assert counted(ratings, include_flagged=True).equals(before)
    assert excluded(ratings, include_flagged=True) == {}
    counted(ratings, include_flagged=False)
    pd.testing.assert_frame_equal(ratings, before)


def test_flags_found_over_all_trials_serve_a_part_of_them() -> None:
    """A habit shows over all pairs; the figures of one pair take its flags from there."""
    ratings = mixed()
    flags = flags_of(ratings)
    part = ratings[ratings["prompt"] != "q"]
    assert list(counted(part, include_flagged=False, flags=flags)["trial"]) == ["t3"]
    assert excluded(part, include_flagged=False, flags=flags) == {
        "too_fast": 1,
        "contradicted": 1,
    }


def test_every_flag_has_words_in_both_languages() -> None:
    for flag in Flag:
        assert set(WORDINGS[flag]) == set(Language)
        assert all(quality.wording(flag, language) for language in Language)
