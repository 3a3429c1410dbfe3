"""Who may see what a rating session has found so far; the one rule for pages, API and exports.

A session's `ResultsRule` binds its raters and every other visitor; the operator may always look.
Trials that a rater began by themselves belong to no session and are open to everybody. What a rater
must not see while a blind trial of their own is open is the panel's (`Panel.is_blinded`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from sqlalchemy.orm import Session

from db import Database, PromptSet, RatingSession, ResultsRule, SessionState
from db.queries import Filters
from db.rating_queries import Share, rating_sessions, shares_of
from rating.assignment import pair_key


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
    return replace(filters, hidden_sessions=filters.hidden_sessions | hidden)


def own_done(session: Session, rated: RatingSession, rater_id: str | None) -> bool:
    """Whether the rater took part and nothing is left that the session could give to them.

    Left is a trial of theirs that is not rated yet, and each prompt of each pair that they have
    not rated while fewer raters than the session wants have; in a closed session nothing is.
    """
    if rater_id is None:
        return False
    shares = shares_of(session, rated.id, rater_id)
    if not any(share.own_rated for share in shares):
        return False
    if rated.state is SessionState.CLOSED:
        return True
    if any(share.own_open for share in shares):
        return False
    return not _left(rated, session.get_one(PromptSet, rated.prompt_set_id).prompts, shares)


def _left(
    rated: RatingSession, prompts: Sequence[Mapping[str, Any]], shares: Collection[Share]
) -> bool:
    done = {
        (share.prompt_id, share.pair)
        for share in shares
        if share.own_rated or share.raters >= rated.raters_per_prompt
    }
    pairs = [pair_key(*two) for two in combinations(rated.models, 2)]
    regular = [str(prompt["id"]) for prompt in prompts if not prompt.get("gold")]
    return any((prompt, pair) not in done for prompt in regular for pair in pairs)
