"""Gives a rater the next trial of a rating session, and tells when they have rated all of theirs.

Each function works inside a transaction that `rating.session` opens and commits. What is chosen
decides `plan`; how the answers come is `answers`'s.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from itertools import combinations
from typing import Any

from sqlalchemy.orm import Session

from db import (
    Assignment,
    Language,
    Rater,
    RatingSession,
    SessionState,
    Trial,
    TrialKind,
    TrialState,
    queries,
    session_queries,
    utc_now,
)
from db.session_queries import CellCount
from rating import record
from rating.assignment import pair_key, swapped
from rating.errors import BadPrompt, NothingToRate
from rating.prompt_sets import Prompt
from rating.sessions.plan import Cell, Count, Given, Next, Nothing, Plan, Rules
from rating.trial import move

TAKEN_MIN = 15
"""How long a trial that nothing happens in keeps its prompt from other raters."""

TOO_LONG = "too_long"
"""The flag of a trial that was given up since one of its models couldn't take the prompt."""


def current_session(session: Session, models: Collection[str]) -> RatingSession | None:
    """Return the session that visitors of an app with these models are in; None if there is none.

    Copies of the app on one database agree without a word: it is the newest open one that they can
    serve, which is one with a pack, or with just their models; without an open one, the newest that
    is paused.
    """
    for one in session_queries.ongoing_sessions(session):
        if one.pack_id is not None or set(one.models) == set(models):
            return one
    return None


def pairs_of(models: Sequence[str]) -> list[str]:
    """Return the keys of all pairs of these models."""
    return [pair_key(*pair) for pair in combinations(sorted(models), 2)]


def rules_of(session: Session, rating_session: RatingSession) -> Rules:
    """Return what the plan must know of the session."""
    left_out = session_queries.flagged_prompts(session, rating_session.id, TOO_LONG)
    prompts = rating_session.prompt_set.prompts
    return Rules(
        prompts=[p["id"] for p in prompts if not p.get("gold") and p["id"] not in left_out],
        gold=[p["id"] for p in prompts if p.get("gold")],
        pairs=pairs_of(rating_session.models),
        raters_per_prompt=rating_session.raters_per_prompt,
        repeat_share=rating_session.repeat_share,
        attention_share=rating_session.attention_share,
        seed=rating_session.seed,
    )


def plan_for(session: Session, rating_session: RatingSession, rater_id: str) -> Plan:
    """Return what the rater can still be given."""
    given = session_queries.given_to(session, rating_session.id, rater_id)
    since = utc_now() - timedelta(minutes=TAKEN_MIN)
    return Plan(
        rules=rules_of(session, rating_session),
        rater=rater_id,
        own=[_given(*one) for one in given if one[1].state in queries.FINAL],
        rated=counts_of(session_queries.rated_cells(session, rating_session.id)),
        taken=counts_of(session_queries.taken_cells(session, rating_session.id, rater_id, since)),
        shown=frozenset(
            assignment.prompt_id
            for assignment, trial in given
            if assignment.kind is TrialKind.ATTENTION and trial.state is TrialState.ABANDONED
        ),
    )


def counts_of(cells: Sequence[CellCount]) -> Mapping[Cell, Count]:
    """Add up what the database has counted."""
    counts: dict[Cell, Count] = {}
    for one in cells:
        cell = (one.prompt_id, one.pair)
        more = Count(0, one.count) if _is_swapped(one) else Count(one.count, 0)
        counts[cell] = counts.get(cell, Count()) + more
    return counts


def _is_swapped(trial: Trial | CellCount) -> bool:
    return trial.left_model != trial.pair.split("|")[0]


def _given(assignment: Assignment, trial: Trial) -> Given:
    return Given(
        trial.id,
        assignment.kind,
        assignment.prompt_id,
        trial.pair,
        _is_swapped(trial),
        assignment.repeat_of,
    )


def give(session: Session, session_id: str, rater_id: str, language: Language) -> Trial:
    """Begin the rater's next trial, or return the one that they are at.

    What they began without a session and haven't rated is left for it.

    Raises:
        NothingToRate: The session is paused or closed, or has nothing for them.
    """
    rater = queries.ensure_rater(session, rater_id, language)
    # Two raters who come at once are given one after the other.
    rating_session = session_queries.load_session(session, session_id, for_update=True)
    assert rating_session is not None  # sessions are never deleted
    before = queries.latest_trial(session, rater_id, for_update=True)
    if before is not None and before.rating is None:
        if before.assignment is not None and before.assignment.session_id == session_id:
            return before
        move(before, TrialState.ABANDONED)
    check_open(rating_session)
    plan = plan_for(session, rating_session, rater_id)

    def sides(pair: str) -> bool:
        return swapped(rater.side_seed, pair, queries.count_rated(session, rater_id, pair))

    match plan.next_trial(sides):
        case Nothing.DONE:
            raise NothingToRate("session_done", "There is nothing left for you to rate. Thank you!")
        case Nothing.TAKEN:
            raise NothingToRate(
                "session_taken",
                "Others are at what is left to rate. Look again in some minutes: "
                "you get what they leave.",
            )
        case Next() as chosen:
            return _begin(session, rating_session, rater, language, chosen)


def check_open(rating_session: RatingSession) -> None:
    """Raise NothingToRate unless the session gives out trials."""
    if rating_session.state is SessionState.PAUSED:
        raise NothingToRate(
            "session_paused",
            "The session is paused. What you have rated is kept; come back later.",
        )
    if rating_session.state is SessionState.CLOSED:
        raise NothingToRate("session_closed", "The session is closed: nothing more is given.")


def _begin(
    session: Session,
    rating_session: RatingSession,
    rater: Rater,
    language: Language,
    chosen: Next,
) -> Trial:
    left, right = chosen.pair.split("|")
    if chosen.swapped:
        left, right = right, left
    trial = Trial(
        rater_id=rater.id,
        pair=chosen.pair,
        left_model=left,
        right_model=right,
        blind=rating_session.blind,
        language=language,
        turns=[],
        rating=None,
        assignment=Assignment(
            session=rating_session,
            prompt_id=chosen.prompt,
            kind=chosen.kind,
            repeat_of=chosen.repeat_of,
            better=chosen.better,
        ),
    )
    session.add(trial)
    session.flush()
    return trial


# --- the script of a trial ------------------------------------------------------------------------


def prompt_of(trial: Trial) -> Prompt:
    """Return the prompt of a trial that a session gave."""
    assert trial.assignment is not None
    assert trial.assignment.session is not None
    prompts: list[dict[str, Any]] = trial.assignment.session.prompt_set.prompts
    found = next(p for p in prompts if p["id"] == trial.assignment.prompt_id)
    return Prompt.model_validate(found)


def due_turn(trial: Trial) -> str | None:
    """Return what has to be asked next in a trial that a session gave; None after the last turn."""
    turns = prompt_of(trial).turns
    return turns[len(trial.turns)] if len(trial.turns) < len(turns) else None


def check_turn(trial: Trial, entered: str) -> str:
    """Return what has to be asked now.

    Raises:
        NothingToRate: The session has been paused or closed before the first turn.
        BadPrompt: There is another prompt entered than the session's, or no turn is left.
    """
    assert trial.assignment is not None
    assert trial.assignment.session is not None
    if not trial.turns:
        check_open(trial.assignment.session)
    due = due_turn(trial)
    if due is None:
        raise BadPrompt("script_over", "All of this prompt has been asked. Rate it.")
    if entered and entered != due.strip():
        raise prompt_is_given()
    return due


def prompt_is_given() -> BadPrompt:
    """Return what refuses a rater's own prompt."""
    return BadPrompt(
        "prompt_given",
        "A rating session is on, in which the prompts are given: yours can't be asked now.",
    )


def give_up(trial: Trial) -> None:
    """End a trial whose prompt doesn't fit one of the models; it is given to nobody again."""
    if trial.state is not TrialState.ABANDONED:  # its rater may have left it meanwhile
        move(trial, TrialState.ABANDONED)
    trial.flags.append(TOO_LONG)


# --- the end --------------------------------------------------------------------------------------


def is_over(session: Session, rating_session: RatingSession, rater_id: str) -> bool:
    """Whether the rater has nothing more to rate in the session, and so may learn who was who.

    Once that is so it stays so: neither do ratings go, nor prompts come.
    """
    closed = rating_session.state is SessionState.CLOSED
    to_rate = queries.ANSWERED if closed else session_queries.UNRATED
    given = session_queries.given_to(session, rating_session.id, rater_id)
    if any(trial.state in to_rate for _, trial in given):
        return False
    return closed or plan_for(session, rating_session, rater_id).left == 0


def to_reveal(session: Session, rater_id: str) -> list[RatingSession]:
    """Return the sessions in which the rater may learn who was who, and hasn't yet."""
    unrevealed = session_queries.unrevealed_sessions(session, rater_id)
    return [one for one in unrevealed if is_over(session, one, rater_id)]


def reveal_all(session: Session, rater_id: str) -> None:
    """Let who was who in the trials of each session that is over for the rater be known.

    From here on nothing in them changes. What each of them tells is `standing`'s: of repeats and
    attention items nothing.
    """
    for rating_session in to_reveal(session, rater_id):
        for _, trial in session_queries.given_to(session, rating_session.id, rater_id):
            record.reveal(trial)
