"""How far a rater is in a rating session, and at its end who was who: what the page may show.

Counts all of the rater's trials alike. Of repeats and attention items it never says anything: the
answers of the latter are no model's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from db import (
    Preference,
    RatingSession,
    SessionState,
    Side,
    Trial,
    TrialState,
    queries,
    session_queries,
)
from rating.sessions.giving import plan_for
from rating.trial import Scores, view_of

Titles = Callable[[RatingSession, str], str]
"""Gives the title of a session's model by its key."""


@dataclass(frozen=True)
class Revealed:
    """One rated trial as its rater may see it at the end: `models` are titles."""

    prompts: tuple[str, ...]
    models: Mapping[Side, str]
    scores: Scores
    preference: Preference


@dataclass(frozen=True)
class Standing:
    """How far a rater is.

    Attributes:
        done: Trials that they have rated.
        left: Those that they can still get, the one included that they are at.
        waits: Whether others are at all that is left.
        finished: Whether they are through, or the session is closed; then `revealed` has their
            trials.
    """

    session: str
    name: str
    state: SessionState
    blind: bool
    done: int
    left: int
    waits: bool
    finished: bool
    revealed: tuple[Revealed, ...] = ()

    @property
    def total(self) -> int:
        """All that they rate, as far as that can be known now."""
        return self.done + self.left


def standing_of(
    session: Session, rating_session: RatingSession, rater_id: str, titles: Titles
) -> Standing:
    """Return how far the rater is in the session."""
    plan = plan_for(session, rating_session, rater_id)
    closed = rating_session.state is SessionState.CLOSED
    latest = queries.latest_trial(session, rater_id)
    busy = (
        latest is not None
        and latest.rating is None
        and (bool(latest.turns) or not closed)
        and latest.assignment is not None
        and latest.assignment.session_id == rating_session.id
    )
    left = max(0 if closed else plan.left, int(busy))
    finished = left == 0
    return Standing(
        session=rating_session.id,
        name=rating_session.name,
        state=rating_session.state,
        blind=rating_session.blind,
        done=len(plan.own),
        left=left,
        waits=not busy and left > 0 and plan.waits,
        finished=finished,
        revealed=_revealed(session, rating_session, rater_id, titles) if finished else (),
    )


def _revealed(
    session: Session, rating_session: RatingSession, rater_id: str, titles: Titles
) -> tuple[Revealed, ...]:
    trials = session_queries.rated_regular_trials(session, rating_session.id, rater_id)
    return tuple(
        _reveal(trial, lambda key: titles(rating_session, key))
        for trial in trials
        if trial.state is TrialState.REVEALED
    )


def _reveal(trial: Trial, title: Callable[[str], str]) -> Revealed:
    rating = view_of(trial).rating
    assert rating is not None  # only rated trials are asked for
    return Revealed(
        tuple(turn.prompt for turn in trial.turns),
        {side: title(trial.model_on(side)) for side in Side},
        rating.scores,
        rating.preference,
    )
