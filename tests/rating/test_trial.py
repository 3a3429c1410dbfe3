from dataclasses import replace
from itertools import product

import pytest

from db import Dimension, FinishReason, Preference, Side, Trial, TrialState, utc_now
from rating.errors import WrongState
from rating.trial import (
    AnswerStatus,
    AnswerView,
    Timing,
    TrialView,
    TurnView,
    latest,
    move,
    self_naming_flag,
    view_of,
)
from tests.db import rows

S = TrialState
ALLOWED = {
    *((S.DRAFTING, S.ANSWERING), (S.DRAFTING, S.ABANDONED)),
    *((S.ANSWERING, S.RATEABLE), (S.ANSWERING, S.DRAFTING), (S.ANSWERING, S.ABANDONED)),
    *((S.RATEABLE, S.ANSWERING), (S.RATEABLE, S.RATED), (S.RATEABLE, S.ABANDONED)),
    (S.RATED, S.REVEALED),
}


def trial_of(state: TrialState, *, blind: bool = True) -> Trial:
    """A trial of one turn: "tiny-qwen" on the left, masked, and "tiny-chatglm" on the right."""
    trial = rows.trial(state=state, blind=blind, flags=["self_naming_left"], draft=None)
    turn = rows.turn(trial=trial)
    rows.answer(
        turn=turn,
        attempt=1,
        finish_reason=FinishReason.FAILED,
        error="busy",
        text="旧",
        raw_text="",
    )
    rows.answer(turn=turn, attempt=2, text="我是█████", raw_text="我是Qwen", error=None)
    rows.answer(
        turn=turn,
        side=Side.RIGHT,
        model_key="tiny-chatglm",
        model_revision="2",
        precision="int4",
        error=None,
    )
    if state in (S.RATED, S.REVEALED):
        rows.rating(trial=trial)
    return trial


def view(state: TrialState, left: AnswerStatus, right: AnswerStatus) -> TrialView:
    answers = {Side.LEFT: AnswerView("左", left), Side.RIGHT: AnswerView("右", right)}
    return TrialView("x", state, blind=True, turns=(TurnView("你好", answers),))


@pytest.mark.parametrize(("before", "after"), sorted(ALLOWED))
def test_a_trial_may_go_forward(before: TrialState, after: TrialState) -> None:
    trial = rows.trial(state=before)
    move(trial, after)
    assert trial.state is after


@pytest.mark.parametrize(("before", "after"), sorted(set(product(S, S)) - ALLOWED))
def test_a_trial_may_go_nowhere_else(before: TrialState, after: TrialState) -> None:
    trial = rows.trial(state=before)
    with pytest.raises(WrongState) as caught:
        move(trial, after)
    assert caught.value.code == f"not_{after.value}"
    assert trial.state is before


@pytest.mark.parametrize("state", [S.ANSWERING, S.RATEABLE, S.RATED, S.ABANDONED])
def test_a_blind_trial_that_is_not_revealed_tells_nothing(state: TrialState) -> None:
    seen = view_of(trial_of(state))
    assert seen.reveal is None
    left, right = (seen.turns[0].answers[side] for side in Side)
    assert (left.timing, right.timing) == (None, None)
    assert left.text == "我是█████"


def test_a_revealed_trial_tells_everything() -> None:
    seen = view_of(trial_of(S.REVEALED))
    assert seen.reveal is not None
    left, right = (seen.reveal[side] for side in Side)
    assert (left.model_key, left.revision, left.precision, left.masked) == (
        *("tiny-qwen", "1", "float32"),
        True,
    )
    assert (right.model_key, right.revision, right.precision, right.masked) == (
        *("tiny-chatglm", "2", "int4"),
        False,
    )
    answer = seen.turns[0].answers[Side.LEFT]
    assert answer.text == "我是Qwen"
    assert answer.timing == Timing(0.25, 0.5, 12, 3)


def test_an_open_trial_tells_everything_from_the_start() -> None:
    seen = view_of(trial_of(S.ANSWERING, blind=False))
    assert seen.reveal is not None
    assert seen.turns[0].answers[Side.RIGHT].timing is not None


def test_an_empty_open_trial_already_tells_its_models() -> None:
    seen = view_of(rows.trial(state=S.DRAFTING, blind=False, flags=[]))
    assert seen.reveal is not None
    assert seen.reveal[Side.LEFT].model_key == "tiny-qwen"
    assert seen.reveal[Side.LEFT].revision == ""


def test_the_last_attempt_of_a_side_is_the_one_that_counts() -> None:
    turn = trial_of(S.RATEABLE).turns[0]
    assert latest(turn.answers, Side.LEFT).attempt == 2
    assert latest(list(reversed(turn.answers)), Side.LEFT).attempt == 2


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (None, AnswerStatus.STREAMING),
        (FinishReason.STOP, AnswerStatus.COMPLETE),
        (FinishReason.LENGTH, AnswerStatus.COMPLETE),
        (FinishReason.STOPPED, AnswerStatus.STOPPED),
        (FinishReason.FAILED, AnswerStatus.FAILED),
    ],
)
def test_how_an_answer_ended_is_its_status(
    reason: FinishReason | None, status: AnswerStatus
) -> None:
    trial = trial_of(S.ANSWERING)
    latest(trial.turns[0].answers, Side.RIGHT).finish_reason = reason
    assert view_of(trial).turns[0].answers[Side.RIGHT].status is status


def test_a_rating_is_seen_as_it_was_saved() -> None:
    seen = view_of(trial_of(S.RATED)).rating
    assert seen is not None
    assert seen.preference is Preference.RIGHT
    assert seen.scores == {(side, key): 4 for side in Side for key in Dimension}


@pytest.mark.parametrize("ended", [AnswerStatus.FAILED, AnswerStatus.STOPPED])
def test_the_sides_without_a_whole_answer_are_to_be_asked_again(ended: AnswerStatus) -> None:
    assert view(S.ANSWERING, ended, AnswerStatus.COMPLETE).to_retry == (Side.LEFT,)
    assert view(S.ANSWERING, AnswerStatus.STREAMING, ended).to_retry == (Side.RIGHT,)
    assert view(S.ANSWERING, ended, ended).to_retry == (Side.LEFT, Side.RIGHT)


@pytest.mark.parametrize("state", sorted(set(S) - {S.ANSWERING}))
def test_nothing_is_to_be_asked_again_in_another_state(state: TrialState) -> None:
    assert view(state, AnswerStatus.FAILED, AnswerStatus.FAILED).to_retry == ()
    assert TrialView("x", state, blind=True).to_retry == ()


def test_a_trial_streams_while_one_side_does() -> None:
    done, coming = AnswerStatus.COMPLETE, AnswerStatus.STREAMING
    assert view(S.ANSWERING, done, coming).streaming
    assert view(S.ANSWERING, coming, done).streaming
    assert not view(S.ANSWERING, AnswerStatus.FAILED, done).streaming
    assert not TrialView("x", S.DRAFTING, blind=True).streaming


def test_only_the_last_turn_can_stream() -> None:
    first = view(S.ANSWERING, AnswerStatus.STREAMING, AnswerStatus.STREAMING).turns[0]
    last = view(S.ANSWERING, AnswerStatus.COMPLETE, AnswerStatus.COMPLETE)
    assert not replace(last, turns=(first, *last.turns)).streaming


def test_live_answers_replace_those_of_the_last_turn_only() -> None:
    before = view(S.ANSWERING, AnswerStatus.COMPLETE, AnswerStatus.FAILED)
    before = replace(before, turns=before.turns * 2)
    live = AnswerView("新", AnswerStatus.STREAMING)
    after = before.with_last_answers({Side.RIGHT: live})
    assert after.turns[0] == before.turns[0]
    assert after.turns[1].answers == {
        Side.LEFT: before.turns[1].answers[Side.LEFT],
        Side.RIGHT: live,
    }


@pytest.mark.parametrize(
    ("timing", "rate"),
    [
        (Timing(1.0, 3.0, 5, 21), 10.0),
        (Timing(1.0, 1.0, 5, 1), None),
        (Timing(1.0, 1.0, 5, 9), None),
        (Timing(1.0, 2.0, 5, 1), 0.0),
        (Timing(None, 2.0, 5, 9), None),
        (Timing(1.0, None, 5, 9), None),
        (Timing(1.0, 2.0, 5, None), None),
        (Timing(1.0, 2.0, 5, 0), None),
    ],
)
def test_the_rate_is_that_of_the_tokens_after_the_first(timing: Timing, rate: float | None) -> None:
    assert timing.tokens_per_s == rate


def test_each_side_has_a_flag_of_its_own() -> None:
    assert [self_naming_flag(side) for side in Side] == ["self_naming_left", "self_naming_right"]


def test_a_draft_is_given_back() -> None:
    draft = {"comment": "半", "at": utc_now().isoformat()}
    assert view_of(rows.trial(state=S.RATEABLE, draft=draft, flags=[])).draft == draft
