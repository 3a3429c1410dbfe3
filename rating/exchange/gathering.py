"""The rated trials of a database as records, in the order in which files have them.

Says nothing about formats, and leaves nothing out but what the filters don't want.
"""

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy.orm import Session

from db import Dimension, Side, Trial, exchange_queries
from db.queries import Filters
from db.tables import Answer, Rating, Turn
from rating.exchange.records import (
    AnswerRecord,
    AssignmentRecord,
    RatingRecord,
    TrialRecord,
    TurnRecord,
)
from rating.sessions.naming import session_id

Flags = Mapping[str, Sequence[str]]
"""Flags that are not stored with a trial, by its id: signs of careless rating."""


def gather(
    session: Session, filters: Filters, *, rating_session: str | None = None, flags: Flags
) -> Iterator[TrialRecord]:
    """Yield the rated trials that fit, oldest rating first.

    Args:
        session: Must stay open until the last one.
        filters: Which are meant.
        rating_session: Only those of the rating session of this id or name.
        flags: What they get beside their own.

    Raises:
        BadFilter: There is no such rating session, or there are several.
    """
    only = None if rating_session is None else session_id(session, rating_session)
    for trial in exchange_queries.rated_in_order(session, filters, only):
        yield record_of(trial, flags.get(trial.id, ()))


def record_of(trial: Trial, more_flags: Sequence[str] = ()) -> TrialRecord:
    """Return a rated trial as it stands in files. All that belongs to it must be loaded."""
    assert trial.rating is not None
    added = sorted(set(more_flags).difference(trial.flags))
    return TrialRecord(
        trial=trial.id,
        rater=trial.rater.public_name,
        language=trial.language,
        blind=trial.blind,
        left_model=trial.left_model,
        right_model=trial.right_model,
        state=trial.state,  # type: ignore[arg-type]  # a rated one; checked where it is made
        created_at=trial.created_at,
        revealed_at=trial.revealed_at,
        flags=(*trial.flags, *added),
        assignment=_assignment(trial),
        turns=tuple(_turn(turn) for turn in trial.turns),
        rating=_rating(trial.rating),
    )


def _assignment(trial: Trial) -> AssignmentRecord | None:
    given = trial.assignment
    if given is None:
        return None
    return AssignmentRecord(
        prompt_id=given.prompt_id,
        kind=given.kind,
        repeat_of=given.repeat_of,
        better=None if given.better is None else Side(given.better),
    )


def _turn(turn: Turn) -> TurnRecord:
    return TurnRecord(
        prompt=turn.prompt,
        prompt_id=turn.prompt_id,
        asked_at=turn.created_at,
        answers=tuple(_answer(answer) for answer in turn.answers),
    )


def _answer(answer: Answer) -> AnswerRecord:
    return AnswerRecord(
        side=answer.side,
        attempt=answer.attempt,
        model=answer.model_key,
        revision=answer.model_revision,
        precision=answer.precision,
        raw_text=answer.raw_text,
        text=answer.text,
        finish_reason=answer.finish_reason,
        error=answer.error,
        seed=answer.seed,
        settings=answer.settings,
        cached=answer.cached,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        first_token_s=answer.first_token_s,
        total_s=answer.total_s,
        started_at=answer.started_at,
        finished_at=answer.finished_at,
    )


def _rating(rating: Rating) -> RatingRecord:
    scores = {(score.side, score.dimension): score.score for score in rating.scores}
    return RatingRecord(
        preference=rating.preference,
        comment=rating.comment,
        guess=rating.guess,
        rated_at=rating.rated_at,
        scores={side: {key: scores.get((side, key)) for key in Dimension} for side in Side},
    )
