"""Rating sessions as their operator sees them: made, listed, paused, gone on with, closed.

Who the operator is, is the page's to know; what raters are given is `giving`'s.
"""

import math
import secrets
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from db import (
    AnswerPack,
    Database,
    PromptSet,
    RatingSession,
    ResultsRule,
    SessionState,
    TrialKind,
    pack_queries,
    session_queries,
    utc_now,
)
from rating.entries import clean_text
from rating.errors import BadSession
from rating.sessions.giving import current_session, pairs_of, rules_of
from rating.sessions.plan import Cell

NAME_LIMIT = 200
RATERS_LIMIT = 1_000

_MAY_BECOME: Mapping[SessionState, frozenset[SessionState]] = {
    SessionState.OPEN: frozenset({SessionState.PAUSED, SessionState.CLOSED}),
    SessionState.PAUSED: frozenset({SessionState.OPEN, SessionState.CLOSED}),
    SessionState.CLOSED: frozenset(),
}


@dataclass(frozen=True)
class Draft:
    """A session to be made, as an operator describes it; nothing in it has been checked.

    Attributes:
        pack_id: None where the running models answer.
        models: Their keys; all pairs of them are rated.
        repeat_share: 0 to 1 of a rater's regular trials; so is `attention_share`.
        at_once: Whether the pack's answers are shown whole, without any pace.
    """

    name: str
    prompt_set_id: str
    pack_id: str | None
    models: Sequence[str]
    raters_per_prompt: int
    blind: bool = True
    results: ResultsRule = ResultsRule.OWN_DONE
    repeat_share: float = 0.05
    attention_share: float = 0.05
    asks_guess: bool = False
    at_once: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a prompt is: its ratings and how many there are to be, over all pairs."""

    prompt_id: str
    rated: int
    wanted: int


@dataclass(frozen=True)
class Overview:
    """A session and how far it is.

    Attributes:
        pack: The name of its pack.
        rated: Regular trials that count, none beyond what was wanted.
        wanted: So many are to be.
        checks: Rated repeats and attention items.
        left_out: Prompts that were too long for a model.
        current: Whether it is what visitors of this app are in.
    """

    id: str
    name: str
    state: SessionState
    prompt_set: str
    pack: str | None
    models: tuple[str, ...]
    raters_per_prompt: int
    blind: bool
    results: ResultsRule
    repeat_share: float
    attention_share: float
    asks_guess: bool
    at_once: bool
    created_at: datetime
    closed_at: datetime | None
    raters: int
    rated: int
    wanted: int
    checks: Mapping[TrialKind, int]
    prompts: tuple[Progress, ...]
    left_out: int
    current: bool


class Sessions:
    """The rating sessions of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, draft: Draft, running: Collection[str]) -> str:
        """Make a session, open at once; return its id.

        Args:
            draft: What it is to be.
            running: The keys of the models that this app asks.

        Raises:
            BadSession: It can't be so, or another session is open; says why.
        """
        with self._database.write() as session:
            made = _checked(session, draft, running)
            _refuse_second(session, made, running)
            session.add(made)
            session.flush()
            return made.id

    def overviews(self, running: Collection[str]) -> list[Overview]:
        """Return all sessions, the newest first, and how far each is."""
        with self._database.read() as session:
            current = current_session(session, running)
            current_id = current.id if current else None
            return [
                _overview(session, one, current=one.id == current_id)
                for one in session_queries.all_sessions(session)
            ]

    def pause(self, session_id: str) -> None:
        """Give out no more trials until it is resumed; those that were begun can be rated."""
        self._become(session_id, SessionState.PAUSED, ())

    def resume(self, session_id: str, running: Collection[str]) -> None:
        """Go on with a paused session. Raises BadSession, as the others do."""
        self._become(session_id, SessionState.OPEN, running)

    def close(self, session_id: str) -> None:
        """End it for good; its raters then learn who was who in what they have rated."""
        self._become(session_id, SessionState.CLOSED, ())

    def _become(self, session_id: str, state: SessionState, running: Collection[str]) -> None:
        with self._database.write() as session:
            found = session_queries.load_session(session, session_id, for_update=True)
            if found is None:
                raise BadSession("session_not_found", "There is no such session.")
            if found.state is state:
                return  # said twice
            if state not in _MAY_BECOME[found.state]:
                raise BadSession("session_is_closed", "A closed session can't be opened again.")
            if state is SessionState.OPEN:
                _refuse_second(session, found, running)
            found.state = state
            found.closed_at = utc_now() if state is SessionState.CLOSED else None


# --- checks ---------------------------------------------------------------------------------------


def _checked(session: Session, draft: Draft, running: Collection[str]) -> RatingSession:
    name = clean_text(draft.name).strip()
    if not name or len(name) > NAME_LIMIT:
        raise BadSession(
            "session_name", f"Give a name of 1 to {NAME_LIMIT} characters.", limit=NAME_LIMIT
        )
    if not 1 <= draft.raters_per_prompt <= RATERS_LIMIT:
        raise BadSession(
            "session_raters",
            f"Raters for each prompt: a whole number from 1 to {RATERS_LIMIT}.",
            limit=RATERS_LIMIT,
        )
    prompt_set = pack_queries.load_prompt_set(session, draft.prompt_set_id)
    if prompt_set is None:
        raise BadSession("session_prompt_set", "Choose a prompt set.")
    pack = _checked_pack(session, draft)
    return RatingSession(
        name=name,
        prompt_set=prompt_set,
        pack=pack,
        models=_checked_models(draft, pack, running),
        raters_per_prompt=draft.raters_per_prompt,
        blind=draft.blind,
        results=draft.results,
        asks_guess=draft.asks_guess and draft.blind,
        at_once=draft.at_once,
        seed=secrets.randbits(63),
        **_checked_shares(draft, prompt_set),
    )


def _checked_pack(session: Session, draft: Draft) -> AnswerPack | None:
    if draft.pack_id is None:
        if draft.at_once:
            raise BadSession(
                "session_at_once", "Only the answers of a pack can be shown at once: choose one."
            )
        return None
    pack = pack_queries.load_pack(session, draft.pack_id)
    if pack is None:
        raise BadSession("session_pack", "There is no such answer pack. Choose another one.")
    if pack.prompt_set_id != draft.prompt_set_id:
        raise BadSession(
            "session_other_set", "The pack answers another prompt set. Choose that one."
        )
    return pack


def _checked_models(draft: Draft, pack: AnswerPack | None, running: Collection[str]) -> list[str]:
    models = sorted(set(draft.models))
    if len(models) < 2:
        raise BadSession("session_models", "Choose at least two models.")
    there = {model["key"] for model in pack.models} if pack else set(running)
    if pack is None and set(models) != there:
        raise BadSession(
            "session_not_running",
            "Without an answer pack a session has just the two models that are running: load those "
            "two, or choose a pack.",
        )
    if missing := sorted(set(models) - there):
        raise BadSession(
            "session_not_packed",
            f"The pack has no answers of {', '.join(missing)}.",
            models=", ".join(missing),
        )
    return models


def _checked_shares(draft: Draft, prompt_set: PromptSet) -> dict[str, float]:
    shares = {"repeat_share": draft.repeat_share, "attention_share": draft.attention_share}
    if not all(math.isfinite(share) and 0 <= share <= 1 for share in shares.values()):
        raise BadSession("session_shares", "A share is a number from 0 to 100 %.")
    gold = [prompt for prompt in prompt_set.prompts if prompt.get("gold")]
    if len(gold) == len(prompt_set.prompts):
        raise BadSession("session_no_prompts", "The prompt set has attention items alone.")
    if draft.attention_share and not gold:
        raise BadSession(
            "session_no_gold", "The prompt set has no attention items: set their share to 0 %."
        )
    if not draft.blind and any(shares.values()):
        raise BadSession(
            "session_open_checks",
            "In an open session everybody sees who is who, so repeats and attention items say "
            "nothing: set both shares to 0 %.",
        )
    return shares


def _refuse_second(
    session: Session, rating_session: RatingSession, running: Collection[str]
) -> None:
    """Raise BadSession if visitors of this app are in another open session."""
    other = current_session(session, running)
    if other is None or other.id == rating_session.id or other.state is not SessionState.OPEN:
        return
    raise BadSession(
        "session_is_open",
        f'The session "{other.name}" is open. Pause or close it first.',
        name=other.name,
    )


# --- how far --------------------------------------------------------------------------------------


def _overview(session: Session, one: RatingSession, *, current: bool) -> Overview:
    rules = rules_of(session, one)
    rated: dict[Cell, int] = defaultdict(int)
    for count in session_queries.rated_cells(session, one.id):
        rated[count.prompt_id, count.pair] += count.count
    pairs = pairs_of(one.models)
    wanted = one.raters_per_prompt * len(pairs)
    prompts = tuple(
        Progress(
            prompt, sum(min(rated[prompt, pair], one.raters_per_prompt) for pair in pairs), wanted
        )
        for prompt in rules.prompts
    )
    kinds = session_queries.count_given(session, one.id)
    regular: list[dict[str, Any]] = [p for p in one.prompt_set.prompts if not p.get("gold")]
    return Overview(
        id=one.id,
        name=one.name,
        state=one.state,
        prompt_set=one.prompt_set.name,
        pack=one.pack.name if one.pack else None,
        models=tuple(one.models),
        raters_per_prompt=one.raters_per_prompt,
        blind=one.blind,
        results=one.results,
        repeat_share=one.repeat_share,
        attention_share=one.attention_share,
        asks_guess=one.asks_guess,
        at_once=one.at_once,
        created_at=one.created_at,
        closed_at=one.closed_at,
        raters=session_queries.count_raters(session, one.id),
        rated=sum(prompt.rated for prompt in prompts),
        wanted=sum(prompt.wanted for prompt in prompts),
        checks={kind: n for kind, n in kinds.items() if kind is not TrialKind.REGULAR},
        prompts=prompts,
        left_out=len(regular) - len(prompts),
        current=current,
    )
