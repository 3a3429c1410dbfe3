"""The estimate of how long a measurement takes yet."""

from backends.measurement import Step
from rating.measuring.time_left import TimeLeft

KINDS = [
    *(("prepare", "a"), ("cold_start", "a"), ("warm_start", "a"), ("answer", "a"), ("answer", "a")),
    *(("prepare", "b"), ("cold_start", "b"), ("warm_start", "b"), ("answer", "b"), ("answer", "b")),
    *(("prepare", ""), ("together", ""), ("together", "")),
]
STEPS = [Step(number, len(KINDS), *kind) for number, kind in enumerate(KINDS, 1)]


def followed(*took_s: float) -> TimeLeft:
    """As many steps ended, each after so many seconds, and the next one began."""
    left, at_s = TimeLeft(STEPS), 0.0
    left.begins(STEPS[0], at_s)
    for step, seconds in zip(STEPS[1:], took_s, strict=False):
        at_s += seconds
        left.begins(step, at_s)
    return left


def test_nothing_is_said_before_something_was_answered() -> None:
    assert TimeLeft(STEPS).seconds() is None
    assert followed().seconds() is None
    assert followed(9, 3, 3).seconds() is None


def test_starts_to_come_are_like_starts_and_answers_like_answers() -> None:
    # One more answer, three starts and two answers of the other, then all at once.
    assert followed(9, 4, 2, 1).seconds() == 1 + (9 + 4 + 2) + 2 * 1 + 9 + 2 * 1


def test_a_models_own_steps_count_more_than_others() -> None:
    left = followed(9, 4, 2, 1, 1, 9, 4, 2, 11)
    assert left.seconds() == 11 + 9 + 2 * 11


def test_steps_that_are_left_out_are_not_waited_for() -> None:
    left = followed(9, 4, 2, 1)
    left.begins(STEPS[10], 30.0)  # the other model could not be started
    assert left.seconds() == 9 + 2 * 7.5
