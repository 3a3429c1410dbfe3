"""Answers to frequent questions, kept in the database and given again.

A question is the same one where the whole conversation, the model, its revision, its precision and
its sampling settings are. The seed is drawn anew for each turn, so it is no part of that: it is
kept with the answer, for whoever wants to make it again. What can't be told apart later is never
kept: a model behind an endpoint, since nobody says when its weights change, or one whose revision
or precision isn't known. Nor is an answer that failed or was stopped.

Knows no page and no trial. Which trials may be given such answers is `session`'s; a cache that
fails costs time at most, never an answer.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass

from db import CachedAnswer, Database, cache_queries
from rating.canonical import content_hash
from rating.recordings import WHOLE, Recording, play, recording_of, written_pieces
from rating.run import READY_TIMEOUT_S, Event, Outcome, Question, Recordable, ask_model

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheLimits:
    """How much is kept: answers, and bytes of their texts and times."""

    entries: int = 1_000
    size_bytes: int = 50_000_000


class AnswerCache:
    """Gives answers again that were given before, and keeps new ones."""

    def __init__(
        self,
        database: Database,
        limits: CacheLimits | None = None,
        *,
        blind: bool = False,
        at_once: bool = False,
    ) -> None:
        """Take what is set.

        Args:
            database: Where answers are kept.
            limits: What is over is deleted, the longest unused first.
            blind: Whether blind trials are given such answers too.
            at_once: Whether open trials get them at once instead of as fast as they came.
        """
        self._database = database
        self._limits = limits or CacheLimits()
        self._at_once = at_once
        self.blind = blind

    async def ask(self, question: Question, *, blind: bool) -> AsyncGenerator[Event, None]:
        """Give the recorded answer, or else the model's own: a `rating.run.Source`.

        In a blind trial a recorded answer always comes as fast as it once did: whatever tells it
        from one that is being written could tell the sides apart.
        """
        await question.chat_model.wait_ready(READY_TIMEOUT_S)  # till then it may not know itself
        known = identify(question)
        recording = None if known is None else await self.find(known.key)
        if recording is not None:
            stream = play(recording, at_once=self._at_once and not blind)
        else:
            stream = ask_model(question)
        async with aclosing(stream):
            async for event in stream:
                yield event
        # The model may have been started anew meanwhile, with other weights.
        if recording is None and known is not None and known == identify(question):
            yield known

    async def find(self, key: str) -> Recording | None:
        """Return what is kept under `key` and count that; None if nothing is, or can't be read."""
        try:
            return await asyncio.to_thread(self._look_up, key)
        except Exception:
            logger.exception("the answer cache can't be read; the model is asked")
            return None

    async def keep(self, outcomes: Iterable[Outcome]) -> None:
        """Keep the answers that are whole and were not given before."""
        try:
            answers = [answer for outcome in outcomes if (answer := self._to_keep(outcome))]
            if answers:
                await asyncio.to_thread(self._store, answers)
        except Exception:
            logger.exception("answers could not be kept in the answer cache")

    def empty(self) -> int:
        """Forget all answers; return how many there were."""
        with self._database.write() as session:
            return cache_queries.clear(session)

    def _to_keep(self, outcome: Outcome) -> CachedAnswer | None:
        if outcome.recordable is None or outcome.reason not in WHOLE:
            return None
        answer = _row_of(outcome, outcome.recordable)
        return answer if answer.size_bytes <= self._limits.size_bytes else None

    def _store(self, answers: Sequence[CachedAnswer]) -> None:
        with self._database.write() as session:
            cache_queries.store(
                session,
                answers,
                entries=self._limits.entries,
                size_bytes=self._limits.size_bytes,
            )

    def _look_up(self, key: str) -> Recording | None:
        with self._database.read() as session:
            answer = cache_queries.load(session, key)
        if answer is None:
            return None
        recording = recording_of(answer)
        with self._database.write() as session:
            cache_queries.count_hit(session, key)
        return recording


def identify(question: Question) -> Recordable | None:
    """Return the hash of all that the answer depends on, and the seed; None if that isn't known."""
    model, precision = question.chat_model.model, question.chat_model.precision
    seed = question.sampling.seed
    if not (model.local and model.revision and precision) or seed is None:
        return None
    settings = asdict(question.sampling)
    del settings["seed"]
    said = {
        "messages": [[message.role, message.content] for message in question.messages],
        "model": model.key,
        "revision": model.revision,
        "precision": precision,
        "settings": settings,
    }
    return Recordable(content_hash(said), seed)


# --- rows ---------------------------------------------------------------------------------------


def _row_of(outcome: Outcome, recordable: Recordable) -> CachedAnswer:
    pieces = written_pieces(outcome.pieces)
    timing = outcome.timing
    return CachedAnswer(
        key=recordable.key,
        text=outcome.raw_text,
        pieces=pieces,
        finish_reason=outcome.reason,
        seed=recordable.seed,
        prompt_tokens=timing.prompt_tokens,
        completion_tokens=timing.completion_tokens,
        first_token_s=timing.first_token_s,
        total_s=timing.total_s,
        size_bytes=len(outcome.raw_text.encode()) + len(json.dumps(pieces)),
    )
