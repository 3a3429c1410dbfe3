import random
from collections.abc import Iterator

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from backends.client import Message
from db import (
    Answer,
    Database,
    Dimension,
    FinishReason,
    Language,
    Preference,
    Rating,
    Score,
    Side,
    Trial,
    TrialState,
    Turn,
    queries,
)
from rating import record
from rating.assignment import swapped
from rating.blinding import Pace
from rating.errors import WrongState
from rating.trial import RatingView, latest
from tests.db import rows
from tests.rating.conftest import ANN, BOB, PAIR, outcome_of
from tests.rating.fake_models import FakeModel

FIVES = RatingView({(side, key): 5 for side in Side for key in Dimension}, Preference.LEFT, "好")


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """One transaction, written so far as the test goes."""
    with database.write() as session:
        yield session


def begin(
    session: Session,
    rater: str = ANN.id,
    pair: str = PAIR,
    *,
    blind: bool = True,
    draft: dict[str, str] | None = None,
) -> Trial:
    trial = record.begin_trial(session, rater, Language.ZH, pair, blind=blind)
    trial.draft = draft
    return trial


def answered(session: Session, trial: Trial, prompt: str = "你好") -> Turn:
    """Add a turn that both sides have answered."""
    turn = record.open_turn(trial, prompt, None)
    for side in Side:
        record.open_answer(turn, side, FakeModel(trial.model_on(side)), seed=1)
    session.flush()
    record.close_answers(session, [outcome_of(answer) for answer in turn.answers])
    return turn


def state_of(trial: Trial) -> TrialState:
    return trial.state


def rate(session: Session, trial: Trial) -> None:
    answered(session, trial)
    record.save_rating(trial, FIVES)
    session.flush()


# --- beginning ------------------------------------------------------------------------------------


def test_a_trial_has_both_models_of_the_pair_one_on_each_side(session: Session) -> None:
    trial = begin(session)
    assert sorted([trial.left_model, trial.right_model]) == PAIR.split("|")
    assert (trial.state, trial.blind, trial.pair) == (TrialState.DRAFTING, True, PAIR)


def test_an_empty_trial_is_taken_up_again_in_the_language_of_now(session: Session) -> None:
    first = begin(session)
    again = record.begin_trial(session, ANN.id, Language.EN, PAIR, blind=True)
    assert again is first
    assert first.language is Language.EN


@pytest.mark.parametrize(("pair", "blind"), [("alpha@x|beta@x", True), (PAIR, False)])
def test_an_empty_trial_of_another_kind_is_left(session: Session, pair: str, blind: bool) -> None:
    first = begin(session)
    second = begin(session, pair=pair, blind=blind)
    assert second.id != first.id
    assert first.state is TrialState.ABANDONED
    assert (second.pair, second.blind) == (pair, blind)


def test_an_unrated_trial_is_left_for_a_new_one(session: Session) -> None:
    first = begin(session)
    answered(session, first)
    assert begin(session).id != first.id
    assert first.state is TrialState.ABANDONED


def test_a_rated_trial_is_never_left(session: Session) -> None:
    first = begin(session)
    rate(session, first)
    begin(session)
    assert first.state is TrialState.RATED


def test_another_raters_trial_is_left_alone(session: Session) -> None:
    first = begin(session)
    answered(session, first)
    assert begin(session, BOB.id).id != first.id
    assert first.state is TrialState.RATEABLE


def test_sides_follow_the_raters_order_over_rated_trials_alone(session: Session) -> None:
    """Abandoned trials repeat their sides, so that they can't unbalance the rated ones."""
    chance = random.Random(5)
    firsts, rated = [], 0
    while rated < 32:
        trial = begin(session)
        rater = queries.ensure_rater(session, ANN.id, Language.ZH)
        wanted = PAIR.split("|")[1 if swapped(rater.side_seed, PAIR, rated) else 0]
        assert trial.left_model == wanted
        if chance.random() < 0.4:
            answered(session, trial)
            continue
        rate(session, trial)
        rated += 1
        firsts.append(trial.left_model)
    lead = [0]
    for model in firsts:
        lead.append(lead[-1] + (1 if model == "tiny-qwen" else -1))
    assert max(map(abs, lead)) <= 4
    assert 0 in lead[-8:]


def test_each_pair_is_balanced_by_itself(session: Session) -> None:
    for pair in (PAIR, "alpha@x|beta@x", PAIR):
        trial = begin(session, pair=pair)
        assert sorted([trial.left_model, trial.right_model]) == pair.split("|")
        rate(session, trial)
    rater = queries.ensure_rater(session, ANN.id, Language.ZH)
    trial = begin(session)
    assert trial.left_model == PAIR.split("|")[1 if swapped(rater.side_seed, PAIR, 2) else 0]


# --- turns and answers ----------------------------------------------------------------------------


def test_turns_and_attempts_are_counted_from_one(session: Session) -> None:
    trial = begin(session)
    first = answered(session, trial)
    second = answered(session, trial)
    again = record.open_answer(second, Side.LEFT, FakeModel("tiny-qwen"), seed=2)
    session.flush()
    assert (first.position, second.position) == (1, 2)
    assert [a.attempt for a in second.answers if a.side is Side.LEFT] == [1, 2]
    assert latest(second.answers, Side.LEFT) is again


def test_an_answer_says_what_is_to_answer_and_how(session: Session) -> None:
    turn = record.open_turn(begin(session), "你好", "hello")
    answer = record.open_answer(turn, Side.RIGHT, FakeModel("tiny-chatglm"), seed=7)
    session.flush()
    assert turn.prompt_id == "hello"
    assert answer.model_key == "tiny-chatglm"
    assert answer.model_revision == "revision-of-tiny-chatglm"
    assert answer.precision == "precision-of-tiny-chatglm"
    assert answer.settings["seed"] == answer.seed == 7
    assert {"temperature", "top_p", "top_k", "max_tokens"} <= set(answer.settings)
    assert answer.finish_reason is None


def test_a_model_knows_its_own_words_unmasked_and_no_others(session: Session) -> None:
    trial = begin(session)
    answered(session, trial, "一")
    answered(session, trial, "二")
    record.open_turn(trial, "三", None)
    for side in Side:
        own = f"我是{trial.model_on(side)}"
        assert record.history(trial, side) == [
            *(Message("user", "一"), Message("assistant", own)),
            *(Message("user", "二"), Message("assistant", own)),
            Message("user", "三"),
        ]


def test_a_trial_is_rateable_once_both_sides_are_complete(session: Session) -> None:
    trial = begin(session)
    turn = record.open_turn(trial, "你好", None)
    left, right = (record.open_answer(turn, side, FakeModel("tiny-qwen"), seed=1) for side in Side)
    session.flush()
    failed = outcome_of(right, FinishReason.FAILED, error="busy")
    record.close_answers(session, [outcome_of(left, FinishReason.LENGTH), failed])
    assert state_of(trial) is TrialState.ANSWERING
    again = record.open_answer(turn, Side.RIGHT, FakeModel("tiny-qwen"), seed=2)
    session.flush()
    record.close_answers(session, [outcome_of(again)])
    assert state_of(trial) is TrialState.RATEABLE
    assert (right.finish_reason, right.error) == (FinishReason.FAILED, "busy")


def test_what_was_measured_is_written_down(session: Session) -> None:
    trial = begin(session)
    answer = answered(session, trial).answers[0]
    assert (answer.text, answer.raw_text) == ("我是█████", f"我是{answer.model_key}")
    assert (answer.prompt_tokens, answer.completion_tokens) == (7, 9)
    assert (answer.first_token_s, answer.total_s) == (0.5, 2.5)
    assert answer.finished_at is not None


def test_a_side_that_named_itself_flags_the_trial_once(session: Session) -> None:
    trial = begin(session)
    for _ in range(2):
        turn = record.open_turn(trial, "你是谁？", None)
        for side in Side:
            record.open_answer(turn, side, FakeModel("tiny-qwen"), seed=1)
        session.flush()
        outcomes = [outcome_of(answer, masked=answer.side is Side.RIGHT) for answer in turn.answers]
        record.close_answers(session, outcomes)
    session.flush()
    session.refresh(trial)
    assert trial.flags == ["self_naming_right"]


def test_answers_of_a_trial_that_was_left_dont_bring_it_back(session: Session) -> None:
    trial = begin(session)
    turn = record.open_turn(trial, "你好", None)
    for side in Side:
        record.open_answer(turn, side, FakeModel("tiny-qwen"), seed=1)
    session.flush()
    begin(session)
    record.close_answers(session, [outcome_of(answer) for answer in turn.answers])
    assert trial.state is TrialState.ABANDONED
    assert turn.answers[0].raw_text


@pytest.mark.parametrize(("turns", "state"), [(0, TrialState.DRAFTING), (2, TrialState.RATEABLE)])
def test_a_withdrawn_turn_leaves_the_trial_as_it_was(
    session: Session, turns: int, state: TrialState
) -> None:
    trial = begin(session)
    for _ in range(turns):
        answered(session, trial)
    turn = record.open_turn(trial, "长" * 20_000, None)
    for side in Side:
        record.open_answer(turn, side, FakeModel("tiny-qwen"), seed=1)
    session.flush()
    record.withdraw(session, [outcome_of(answer) for answer in turn.answers])
    session.flush()
    session.refresh(trial)
    assert (trial.state, len(trial.turns)) == (state, turns)
    assert session.scalar(select(func.count()).select_from(Answer)) == 2 * turns
    assert answered(session, trial).position == turns + 1


def test_only_answers_that_nobody_finished_are_interrupted(session: Session) -> None:
    trial = begin(session)
    record.close_interrupted(trial)  # no turn, nothing to do
    turn = answered(session, trial)
    again = record.open_answer(turn, Side.LEFT, FakeModel("tiny-qwen"), seed=2)
    session.flush()
    record.close_interrupted(trial)
    assert (again.finish_reason, again.error) == (FinishReason.FAILED, "interrupted")
    assert again.finished_at is not None
    assert [a.finish_reason for a in turn.answers[:2]] == [FinishReason.STOP] * 2


# --- ratings --------------------------------------------------------------------------------------


def test_a_rating_is_stored_with_every_score(session: Session) -> None:
    trial = begin(session, draft={"comment": "好"})
    rate(session, trial)
    assert (trial.state, trial.draft) == (TrialState.RATED, None)
    assert session.scalar(select(func.count()).select_from(Score)) == 10
    rating = session.scalars(select(Rating)).one()
    assert (rating.rater_id, rating.preference, rating.comment) == (ANN.id, Preference.LEFT, "好")


def test_the_same_rating_again_changes_nothing(session: Session) -> None:
    trial = begin(session)
    rate(session, trial)
    record.save_rating(trial, FIVES)
    record.reveal(trial)
    record.save_rating(trial, FIVES)
    session.flush()
    assert session.scalar(select(func.count()).select_from(Rating)) == 1
    assert trial.state is TrialState.REVEALED


@pytest.mark.parametrize(
    "other",
    [
        RatingView(FIVES.scores, Preference.RIGHT, "好"),
        RatingView(FIVES.scores, Preference.LEFT, "坏"),
        RatingView({**FIVES.scores, (Side.LEFT, Dimension.MEMORY): None}, Preference.LEFT, "好"),
    ],
)
def test_another_rating_afterwards_is_refused(session: Session, other: RatingView) -> None:
    trial = begin(session)
    rate(session, trial)
    with pytest.raises(WrongState) as caught:
        record.save_rating(trial, other)
    assert caught.value.code == "already_final"


def test_a_trial_is_revealed_once_and_only_after_its_rating(session: Session) -> None:
    trial = begin(session)
    record.reveal(trial)
    assert (trial.state, trial.revealed_at) == (TrialState.DRAFTING, None)
    rate(session, trial)
    record.reveal(trial)
    revealed_at = trial.revealed_at
    record.reveal(trial)
    assert trial.state is TrialState.REVEALED
    assert trial.revealed_at == revealed_at is not None


# --- the usual pace -------------------------------------------------------------------------------


def timed(session: Session, key: str, *times: tuple[int, float, float], **changes: object) -> None:
    """Store answers of a model: (characters, first_token_s, total_s)."""
    trial = rows.trial(rater=queries.ensure_rater(session, ANN.id, Language.ZH))
    for position, (chars, first_s, total_s) in enumerate(times, 1):
        turn = rows.turn(trial=trial, position=position)
        rows.answer(
            turn=turn,
            **{
                "model_key": key,
                "raw_text": "字" * chars,
                "first_token_s": first_s,
                "total_s": total_s,
                **changes,
            },
        )
    session.add(trial)
    session.flush()


def test_the_usual_pace_is_the_slower_models(session: Session) -> None:
    timed(session, "fast", (100, 0.1, 1.1), (90, 0.3, 1.3), (500, 0.2, 1.2))
    timed(session, "slow", (40, 2.0, 6.0), (50, 3.0, 8.0), (10, 1.0, 11.0))
    assert record.usual_pace(session, ["fast", "slow"]) == Pace(first_s=2.0, chars_per_s=10.0)


def test_without_a_timed_answer_of_both_models_no_pace_is_known(session: Session) -> None:
    assert record.usual_pace(session, ["fast", "slow"]) is None
    timed(session, "fast", (100, 0.1, 1.1))
    assert record.usual_pace(session, ["fast", "slow"]) is None


def test_answers_that_are_not_whole_dont_count(session: Session) -> None:
    timed(session, "fast", (100, 0.1, 1.1))
    timed(session, "slow", (9, 1.0, 2.0), finish_reason=FinishReason.STOPPED)
    timed(session, "slow", (9, 1.0, 2.0), finish_reason=FinishReason.FAILED, error="busy")
    timed(session, "slow", (9, 1.0, 2.0), finish_reason=None, finished_at=None)
    timed(session, "slow", (9, 1.0, 2.0), first_token_s=None)
    assert record.usual_pace(session, ["fast", "slow"]) is None


def test_an_answer_that_came_at_once_has_a_finite_pace(session: Session) -> None:
    timed(session, "one", (5, 1.0, 1.0))
    assert record.usual_pace(session, ["one"]) == Pace(1.0, 50.0)


def test_only_the_last_answers_make_the_usual_pace(session: Session) -> None:
    timed(session, "one", *[(10, 9.0, 10.0)] * 40)
    timed(session, "one", *[(20, 1.0, 2.0)] * 20)
    assert record.usual_pace(session, ["one"]) == Pace(1.0, 20.0)
