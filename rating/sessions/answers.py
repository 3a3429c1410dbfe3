"""Where the answers of a session's trial come from, and under which conditions they are shown.

A regular trial is answered by the models that are running, or from the session's pack. A repeat
gives the answers of an earlier trial again, an attention item those that its prompt set has for it;
both at a pace that the session's models had, as soon as these could have answered, masked like
any other: what reaches the browser is the same in each case.
"""

import secrets
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy.orm import Session

from backends.client import Finish, Piece
from db import (
    Answer,
    Assignment,
    FinishReason,
    RatingSession,
    Side,
    Trial,
    TrialKind,
    Turn,
    pack_queries,
    queries,
    session_queries,
)
from rating import record
from rating.blinding import Pace
from rating.errors import WrongState
from rating.packs.pack import ModelEntry
from rating.packs.replay import packed_model, written_recording
from rating.recordings import Recording, play, recording_of
from rating.run import READY_TIMEOUT_S, ChatModel, Event, Question, Replay
from rating.sessions.giving import prompt_of
from rating.trial import latest

GOLD = "prompt set"
"""Stands where an answer's model does, of one that no model gave."""

_PIECE_CHARS = 2
_UNKNOWN_PACE = Pace(first_s=0.5, chars_per_s=20.0)


@dataclass(frozen=True)
class Conditions:
    """How the answers of one turn are shown.

    Attributes:
        names: Hidden in a blind trial: those of all models of the session.
        reference: The usual pace of the slowest; see `rating.run.TurnRun`.
    """

    names: Sequence[str]
    reference: Pace | None
    at_once: bool = False


def packed_models(rating_session: RatingSession) -> dict[str, ChatModel]:
    """Return the models of the session's pack by their keys; none where it has no pack."""
    if rating_session.pack is None:
        return {}
    entries = map(ModelEntry.model_validate, rating_session.pack.models)
    return {entry.key: packed_model(entry) for entry in entries}


def conditions_of(
    session: Session, rating_session: RatingSession, running: Mapping[str, ChatModel]
) -> Conditions:
    """Return how answers of this session are shown."""
    models = packed_models(rating_session) or running
    taking_part = [models[key] for key in rating_session.models if key in models]
    names = {name for one in taking_part for name in one.model.names}
    timings = [_timings(session, rating_session, key) for key in rating_session.models]
    return Conditions(sorted(names), record.slowest_pace(timings), rating_session.at_once)


def _seed(turn: Turn, side: Side) -> int:
    """Return a new seed, or that of the answer that was stopped.

    Checks come again word for word: so must what a model answers, or a stop would tell them apart.
    """
    before = [answer for answer in turn.answers if answer.side is side]
    if before and before[-1].finish_reason is FinishReason.STOPPED:
        return before[-1].seed
    return secrets.randbits(31)


def questions_of(
    session: Session, turn: Turn, sides: Iterable[Side], running: Mapping[str, ChatModel]
) -> list[Question]:
    """Open the answers of a turn of a session's trial, and say where each comes from.

    Raises:
        WrongState: The trial was begun with other models than those that are running.
    """
    assignment = turn.trial.assignment
    assert assignment is not None
    assert assignment.session is not None
    models = packed_models(assignment.session) or running
    questions = []
    for side in sides:
        key, seed = turn.trial.model_on(side), _seed(turn, side)
        if key not in models:
            raise WrongState("other_pair", "This trial was begun with other models.")
        answer = record.open_answer(turn, side, models[key], seed)
        recording = _recorded(session, assignment, answer)
        session.flush()
        question = Question(
            side=side,
            answer_id=answer.id,
            chat_model=models[key],
            messages=record.history(turn.trial, side),
            sampling=replace(models[key].model.defaults, seed=seed),
        )
        if recording is not None:
            source = partial(_when_ready, recording, at_once=assignment.session.at_once)
            question = replace(question, source=source)
        questions.append(question)
    return questions


async def _when_ready(
    recording: Recording, question: Question, *, at_once: bool
) -> AsyncGenerator[Event, None]:
    """Give an answer again, not before the model could have begun its own."""
    await question.chat_model.wait_ready(READY_TIMEOUT_S)
    async with aclosing(play(recording, at_once=at_once)) as stream:
        async for event in stream:
            yield event


def _recorded(session: Session, assignment: Assignment, answer: Answer) -> Recording | None:
    """Return what is given again as this answer, which is made to tell whose it was."""
    if assignment.kind is TrialKind.ATTENTION:
        return _gold(session, assignment, answer)
    if assignment.kind is TrialKind.REPEAT:
        return _repeated(session, assignment, answer)
    if assignment.session is None or assignment.session.pack_id is None:
        return None
    packed = pack_queries.load_answer(
        session,
        assignment.session.pack_id,
        assignment.prompt_id,
        answer.turn.position,
        answer.model_key,
    )
    return None if packed is None else recording_of(packed)


def _gold(session: Session, assignment: Assignment, answer: Answer) -> Recording:
    prompt, rating_session = prompt_of(assignment.trial), assignment.session
    assert prompt.gold is not None
    assert rating_session is not None
    texts = prompt.gold.better if answer.side == assignment.better else prompt.gold.worse
    pace = _some_pace(session, rating_session, answer.model_key)
    answer.model_key, answer.model_revision = GOLD, rating_session.prompt_set_id
    answer.precision, answer.settings = "", {}
    return written_recording(
        texts[answer.turn.position - 1], first_s=pace.first_s, chars_per_s=pace.chars_per_s
    )


def _some_pace(session: Session, rating_session: RatingSession, model_key: str) -> Pace:
    """Return the pace of one of the model's answers by chance: they are never all as fast."""
    timings = [one for one in _timings(session, rating_session, model_key) if one[0] > 0]
    if not timings:
        return _UNKNOWN_PACE
    return record.pace_of(*secrets.choice(timings))


def _timings(
    session: Session, rating_session: RatingSession, model_key: str
) -> list[tuple[int, float, float]]:
    if rating_session.pack_id is None:
        return queries.recent_timings(session, model_key, record.TIMED_ANSWERS)
    return session_queries.packed_timings(
        session, rating_session.pack_id, model_key, record.TIMED_ANSWERS
    )


def _repeated(session: Session, assignment: Assignment, answer: Answer) -> Recording:
    once = session.get_one(Trial, assignment.repeat_of)
    turn = next(turn for turn in once.turns if turn.position == answer.turn.position)
    side = next(side for side in Side if side is not answer.side)
    given = latest(turn.answers, side)
    answer.model_key, answer.model_revision = given.model_key, given.model_revision
    answer.precision, answer.settings = given.precision, dict(given.settings)
    return _as_it_came(given)


def _as_it_came(answer: Answer) -> Recording:
    """Return an answer as a recording, in pieces of one size: how they came wasn't kept."""
    text, first_s = answer.raw_text, answer.first_token_s or 0.0
    total_s = max(answer.total_s or 0.0, first_s)
    starts = range(0, len(text), _PIECE_CHARS)
    step_s = (total_s - first_s) / max(len(starts) - 1, 1)
    pieces = [
        Piece(text[start : start + _PIECE_CHARS], first_s + number * step_s)
        for number, start in enumerate(starts)
    ]
    finish = Finish(
        reason="length" if answer.finish_reason is FinishReason.LENGTH else "stop",
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        first_token_s=answer.first_token_s,
        total_s=total_s,
    )
    return Recording(Replay(finish, answer.seed), pieces)
