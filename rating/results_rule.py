"""Who may see what a rating session has found so far; the one rule for pages, API and exports.

A session's `ResultsRule` binds its raters and every other visitor; the operator may always look.
Whatever the rule, raters who may not know yet who was who don't see the session: what their own
rating changes in its figures would tell.
Trials that a rater began by themselves belong to no session and are open to everybody. What a rater
must not see while a blind trial of their own is open is the panel's (`Panel.is_blinded`).
"""

from dataclasses import replace

from sqlalchemy.orm import Session

from db import Database, RatingSession, ResultsRule, SessionState, queries, session_queries
from db.queries import Filters
from db.rating_queries import rating_sessions
from rating.sessions import giving


def may_see(rule: ResultsRule, state: SessionState, *, operator: bool, own_done: bool) -> bool:
    """Whether somebody may see a session's results.

    Args:
        rule: The session's.
        state: The session's.
        operator: Whether the operator asks.
        own_done: Whether who asks is one of its raters and has nothing left to rate in it.
    """
    if operator or rule is ResultsRule.ALWAYS:
        return True
    if rule is ResultsRule.OWN_DONE:
        return own_done
    return rule is ResultsRule.CLOSED and state is SessionState.CLOSED


def visible_to(
    database: Database, filters: Filters, rater_id: str | None, *, operator: bool
) -> Filters:
    """Return the filters without the sessions whose results must stay hidden.

    Args:
        database: Where the sessions are.
        filters: What is asked for.
        operator: Whether the operator asks.
        rater_id: Who asks, by the secret of their cookie; None is nobody who has rated.
    """
    if operator:
        return filters
    with database.read() as session:
        hidden = {
            one.id
            for one in rating_sessions(session)
            if not may_see(
                one.results,
                one.state,
                operator=False,
                own_done=one.results is ResultsRule.OWN_DONE and own_done(session, one, rater_id),
            )
        }
        if rater_id is not None:
            hidden |= _withheld(session, rater_id)
    return replace(filters, hidden_sessions=filters.hidden_sessions | hidden)


def _withheld(session: Session, rater_id: str) -> set[str]:
    """Return the sessions in which the rater must not know yet who was who in what they rated."""
    return {
        one.id
        for one in session_queries.unrevealed_sessions(session, rater_id)
        if one.blind and not giving.is_over(session, one, rater_id)
    }


def own_done(session: Session, rated: RatingSession, rater_id: str | None) -> bool:
    """Whether the rater has rated in the session and has nothing left to rate in it."""
    if rater_id is None:
        return False
    took_part = any(
        trial.state in queries.FINAL
        for _, trial in session_queries.given_to(session, rated.id, rater_id)
    )
    return took_part and giving.is_over(session, rated, rater_id)
