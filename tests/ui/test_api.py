"""A trial as plain data: what a client of the programming interface may know."""

from db import Side, TrialState
from rating.trial import AnswerStatus, AnswerView, Timing, TrialView, TurnView
from ui.api import as_plain


def test_whether_an_answer_came_from_the_cache_is_told_with_its_timing_and_not_before() -> None:
    known = AnswerView("好", AnswerStatus.COMPLETE, timing=Timing(0.5, 2.5, 7, 9), cached=True)
    hidden = AnswerView("好", AnswerStatus.COMPLETE)
    turn = TurnView("问", {Side.LEFT: known, Side.RIGHT: hidden})
    plain = as_plain(TrialView("a" * 32, TrialState.RATEABLE, blind=False, turns=(turn,)))
    assert plain["turns"][0]["left"]["cached"] is True
    assert plain["turns"][0]["left"]["timing"]["total_s"] == 2.5
    assert set(plain["turns"][0]["right"]) == {"text", "status", "error"}
