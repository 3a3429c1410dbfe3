"""Puts the trials of a file into a database: all that are new, or none if anything is wrong.

A trial that is there already must say the same; its flags may differ, since some are worked out
from all ratings, and stay as they are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db import (
    Answer,
    Assignment,
    Database,
    Rater,
    Rating,
    Score,
    Trial,
    TrialKind,
    Turn,
    exchange_queries,
)
from rating.assignment import pair_key
from rating.errors import BadImport
from rating.exchange.gathering import record_of
from rating.exchange.incoming import Contents, Incoming, Problem, refusal
from rating.exchange.long_form import LongRow, long_rows
from rating.exchange.records import AnswerRecord, RatingRecord, TrialRecord, TurnRecord

_AT_ONCE = 500


@dataclass(frozen=True)
class Imported:
    """How many trials were new, and how many of the file were there already."""

    new: int
    known: int


def store(database: Database, contents: Contents, name: str) -> Imported:
    """Store what is new of `contents`, in one transaction.

    Args:
        database: Where to.
        contents: What was read.
        name: The file's, for messages.

    Raises:
        BadImport: Something is wrong; says where. Nothing was stored.
    """
    try:
        with database.write() as session:
            known = {trial.id: trial for trial in _known(session, contents.trials)}
            problems = [*contents.problems, *_problems(session, contents.trials, known)]
            if problems:
                raise refusal(name, problems)
            new = [one.record for one in contents.trials if one.record.trial not in known]
            _add(session, new)
    except IntegrityError as error:
        raise BadImport(
            ["Nothing was imported: somebody else changed the same trials meanwhile. Try again."]
        ) from error
    return Imported(len(new), len(contents.trials) - len(new))


@dataclass(frozen=True)
class _Known:
    """A trial that is there; `record` is None where it has no rating yet."""

    id: str
    record: TrialRecord | None


def _known(session: Session, trials: Sequence[Incoming]) -> Iterator[_Known]:
    ids = [one.record.trial for one in trials]
    for trial in exchange_queries.known_trials(session, ids):
        yield _Known(trial.id, None if trial.rating is None else record_of(trial))


def _problems(
    session: Session, trials: Sequence[Incoming], known: dict[str, _Known]
) -> Iterator[Problem]:
    begun: dict[str, int] = {}
    for one in trials:
        trial_id = one.record.trial
        if trial_id in begun:
            reason = f"trial {trial_id} was on line {begun[trial_id]} already"
            yield Problem(one.line, "trial", reason)
        begun[trial_id] = one.line
        if trial_id in known and not _says_the_same(one, known[trial_id].record):
            yield Problem(
                one.line,
                "trial",
                f"the database has a trial {trial_id} with other content; if this is another one, "
                "give it another id",
            )
        if one.record.assignment and one.record.assignment.repeat_of == trial_id:
            yield Problem(one.line, "flags", f"trial {trial_id} can't repeat itself")
    repeats = {
        one.record.assignment.repeat_of: one.line
        for one in trials
        if one.record.assignment and one.record.kind is TrialKind.REPEAT
    }
    missing = [repeated for repeated in repeats if repeated and repeated not in begun]
    for repeated in set(missing) - exchange_queries.known_ids(session, missing):
        reason = f"repeats trial {repeated}, which is neither in this file nor in the database"
        yield Problem(repeats[repeated], "flags", reason)


def _says_the_same(one: Incoming, known: TrialRecord | None) -> bool:
    """Whether what the file says of a trial is what is known of it, but for its flags."""
    if known is None:
        return False
    if one.columns is None:
        return _without_flags(one.record) == _without_flags(known)
    if "flags" in one.columns and one.record.kind_marks != known.kind_marks:
        return False
    columns = one.columns - {"flags"}
    return all(
        _given(own, columns) == _given(other, columns)
        for own, other in zip(long_rows(one.record), long_rows(known), strict=True)
    )


def _without_flags(record: TrialRecord) -> TrialRecord:
    return record.model_copy(update={"flags": ()})


def _given(row: LongRow, columns: frozenset[str]) -> list[object]:
    return [getattr(row, name) for name in sorted(columns)]


def _add(session: Session, records: Sequence[TrialRecord]) -> None:
    """Add the trials a few hundred at a time; assignments last, they point to other trials."""
    raters = exchange_queries.raters_by_name(session)
    waiting = iter(records)
    while some := list(islice(waiting, _AT_ONCE)):
        for record in some:
            if record.rater not in raters:
                rater = Rater(pseudonym=record.rater, language=record.language)
                session.add(rater)
                session.flush()
                raters[record.rater] = rater.id
        session.add_all(_trial(record, raters[record.rater]) for record in some)
        session.flush()
        session.expunge_all()
    session.add_all(_assignments(records))


def _assignments(records: Sequence[TrialRecord]) -> Iterator[Assignment]:
    for record in records:
        if record.assignment is not None:
            yield Assignment(trial_id=record.trial, **dict(record.assignment))


def _trial(record: TrialRecord, rater_id: str) -> Trial:
    return Trial(
        id=record.trial,
        rater_id=rater_id,
        pair=pair_key(record.left_model, record.right_model),
        left_model=record.left_model,
        right_model=record.right_model,
        blind=record.blind,
        language=record.language,
        state=record.state,
        flags=list(record.flags),
        created_at=record.created_at,
        revealed_at=record.revealed_at,
        turns=[_turn(turn, position) for position, turn in enumerate(record.turns, start=1)],
        rating=_rating(record.rating, rater_id),
    )


def _turn(turn: TurnRecord, position: int) -> Turn:
    return Turn(
        position=position,
        prompt=turn.prompt,
        prompt_id=turn.prompt_id,
        created_at=turn.asked_at,
        answers=[_answer(answer) for answer in turn.answers],
    )


def _answer(answer: AnswerRecord) -> Answer:
    given = dict(answer)
    names = {"model": "model_key", "revision": "model_revision"}
    return Answer(**{names.get(name, name): value for name, value in given.items()})


def _rating(rating: RatingRecord, rater_id: str) -> Rating:
    return Rating(
        rater_id=rater_id,
        preference=rating.preference,
        comment=rating.comment,
        guess=rating.guess,
        rated_at=rating.rated_at,
        scores=[
            Score(side=side, dimension=dimension, score=score)
            for side, own in rating.scores.items()
            for dimension, score in own.items()
        ],
    )
