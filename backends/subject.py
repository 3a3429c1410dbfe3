"""One model that is being measured: started, asked and metered, and what that has shown so far.

Doesn't say what is measured when; that is `measure`'s, whose docstring says what the figures mean.
"""

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import replace

from backends import page_cache
from backends.backend import Backend, Patience, State
from backends.catalog import Model
from backends.client import (
    BackendError,
    BadAnswer,
    Finish,
    Message,
    ModelUnavailable,
    Piece,
    Sampling,
    stream_answer,
)
from backends.cores import threads_per_server, usable_cores
from backends.measurement import Plan, Resources, TimedAnswer
from backends.meter import Meter, ProcessGone, Reading, cpu_share
from backends.other_load import busy_s, share_of_others
from backends.page_cache import StillCached
from backends.single import (
    Failure,
    ServerSettings,
    check_memory,
    make_backend,
    until_ready,
    why,
)
from backends.supervisor import ModelServer

logger = logging.getLogger(__name__)

_HELLO = "你好"
_SHORT = Sampling(temperature=0.0, top_k=None, max_tokens=16)
# Half of it is how wrong a start's time is. What it costs what is loading can't be measured.
_POLL_S = 0.01
# A server that dies is to stay dead: a new one in its place would spoil the figures unseen.
_NEVER_S = 1e9
_DEATH_SHOWS_S = 1.0


class Subject:
    """One model that is measured: started, asked and metered; keeps what that shows.

    Attributes:
        failure: Why it can't be measured any further, if so.
    """

    def __init__(
        self, model: Model, plan: Plan, settings: ServerSettings, *, together: bool = False
    ) -> None:
        self.settings = settings
        self.failure: Failure | None = None
        self._plan = plan
        self._together = together
        self._backend = _backend(model, plan, settings)
        self._meter: Meter | None = None
        self._peak_bytes: int | None = None
        self._cold_start_s: float | None = None
        self._warm_start_s: float | None = None
        self._shares: list[tuple[float, float]] = []
        self._others_s = self._watched_s = 0.0
        self._asked = 0
        self._refusals: list[str] = []
        self._notes: list[str] = []

    @property
    def model(self) -> Model:
        """What is measured, with what its server has found out about it."""
        return self._backend.model

    def give_up(self, failure: Failure) -> None:
        """Remember why it can't be measured any further; the first reason counts."""
        if self.failure is None:
            self.failure = failure
            logger.warning("%s can't be measured any further: %s", self.model.key, failure)

    async def stop(self) -> None:
        """Stop it, if it runs."""
        self._meter = None
        try:
            await self._backend.stop()
        finally:
            self.settings.running.discard(self._backend)

    async def prepare(self) -> None:
        """See to it that it can run: fetch, convert and pack what is missing, or reach it.

        Raises:
            Failure: It can't.
        """
        check_memory([self.model], self.settings)
        await self.start()
        if self.model.local:
            await self.stop()

    async def start_cold(self) -> None:
        """Time a start with its files out of memory, and stop it; only note where that can't be.

        Raises:
            Failure: It can't be started.
        """
        try:
            certain = await asyncio.to_thread(_drop_files, self.model)
        except StillCached as error:
            self._notes.append(f"The cold start is missing: {error}.")
            return
        if not certain:
            self._notes.append(
                "Whether its files were out of memory at the cold start can't be told: they are "
                "another user's."
            )
        self._cold_start_s = await self.start()
        await self.stop()

    async def start_warm(self) -> None:
        """Time a start, and leave it running.

        Raises:
            Failure: It can't be started.
        """
        self._warm_start_s = await self.start()

    async def start(self) -> float:
        """Start it; return the seconds to the first piece of a short answer, where it runs here.

        Raises:
            Failure: It can't be started, or doesn't answer.
        """
        self.settings.running.add(self._backend)
        began_s = time.perf_counter()
        await self._backend.start()
        await until_ready(self._backend, self._plan.patience_s)
        if not isinstance(self._backend, ModelServer):  # its owner may count every question
            return time.perf_counter() - began_s
        first_s = await self._greet()
        with contextlib.suppress(ProcessGone):  # the next question will show it
            pid = self._backend.pid
            self._meter = None if pid is None else Meter(pid)
        self._read()
        return first_s - began_s

    async def ask(self, prompt: int, repeat: int) -> TimedAnswer:
        """Ask a prompt of the plan, both counted from 1; where it fails, the answer says why."""
        answer = TimedAnswer(self.model.key, prompt, repeat, self._together)
        sampling = replace(self.model.defaults, seed=repeat)
        self._asked += 1
        before, busy_before_s = self._read(), busy_s()
        try:
            async with asyncio.timeout(self._plan.patience_s):
                finish, characters = await self._answer(self._plan.prompts[prompt - 1], sampling)
        except (TimeoutError, BackendError) as error:
            self._refusals.append(await self._reason(error))
            return replace(answer, error=self._refusals[-1])
        self._note_share(before, self._read(), busy_s() - busy_before_s)
        if finish.first_token_s is None:
            self._refusals.append("The answer was empty.")
            return replace(answer, error=self._refusals[-1])
        return replace(
            answer,
            first_token_s=finish.first_token_s,
            total_s=finish.total_s,
            prompt_tokens=finish.prompt_tokens,
            completion_tokens=finish.completion_tokens,
            characters=characters,
        )

    def resources(self) -> Resources:
        """Return what it has taken so far, and why something of that is missing."""
        model, local = self.model, self.model.local
        return Resources(
            model.key,
            self._together,
            remote=not local,
            revision=model.revision,
            precision=self._backend.precision,
            threads=self._backend.threads,
            size_bytes=model.size_bytes or None,
            peak_bytes=self._peak_bytes,
            cold_start_s=self._cold_start_s,
            warm_start_s=self._warm_start_s,
            cpu_share=self._cpu_share(),
            others_share=self._others_share(),
            disk_free_bytes=_disk_free_bytes(model) if local else None,
            error=" ".join(self._reasons()),
        )

    def _reasons(self) -> Iterator[str]:
        if not self.model.local:
            yield "It runs elsewhere: only its latency can be known from here."
        yield from self._notes
        if self.failure is not None:
            yield str(self.failure)
        elif self._refusals:
            yield f"{len(self._refusals)} of {self._asked} answers failed. {self._refusals[0]}"

    async def _greet(self) -> float:
        """Ask for a short answer; return when it began, by `time.perf_counter()`."""
        try:
            async with (
                asyncio.timeout(self._plan.patience_s),
                aclosing(self._stream(_HELLO, _SHORT)) as items,
            ):
                await anext(items)
                first_s = time.perf_counter()
                async for _ in items:  # the next question mustn't find it busy with this one
                    pass
        except (TimeoutError, BackendError) as error:
            raise Failure(await self._reason(error)) from error
        return first_s

    async def _answer(self, prompt: str, sampling: Sampling) -> tuple[Finish, int]:
        """Return the end of an answer and its length in characters."""
        characters = 0
        async with aclosing(self._stream(prompt, sampling)) as items:
            async for item in items:
                if isinstance(item, Finish):
                    return item, characters
                characters += len(item.text)
        raise BadAnswer

    def _stream(self, prompt: str, sampling: Sampling) -> AsyncGenerator[Piece | Finish, None]:
        messages = [Message("user", prompt)]
        # Longer than the answer as a whole may take: one of both clocks is enough.
        longer_s = 2 * self._plan.patience_s
        return stream_answer(self._backend.endpoint, messages, sampling, piece_timeout_s=longer_s)

    async def _reason(self, error: TimeoutError | BackendError) -> str:
        """Say why there is no answer; after a death or a hang it isn't asked any more."""
        if isinstance(error, TimeoutError):
            words = f"It gave no whole answer within {self._plan.patience_s:g} s."
            self.give_up(Failure(words))
            return words
        if isinstance(error, ModelUnavailable):
            await self._until_death_shows()
        status = self._backend.status
        if status.state is State.READY:
            return why(error)
        what = "Its server" if self.model.local else "It can't be used any more:"
        words = f"{what} {status.detail}."
        self.give_up(Failure(words))
        return words

    async def _until_death_shows(self) -> None:
        """Wait a little: a dead server's connection ends before its death is noticed."""
        deadline_s = time.monotonic() + _DEATH_SHOWS_S
        while self._backend.status.state is State.READY and time.monotonic() < deadline_s:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)

    def _read(self) -> Reading | None:
        """Meter it; None where it doesn't run, or not here."""
        if self._meter is None:
            return None
        try:
            reading = self._meter.read()
        except ProcessGone:
            return None
        self._peak_bytes = reading.peak_bytes
        return reading

    def _note_share(self, before: Reading | None, after: Reading | None, busy_s: float) -> None:
        if before is not None and after is not None:
            share, took_s = cpu_share(before, after, usable_cores()), after.at_s - before.at_s
            self._shares.append((took_s, share))
            self._others_s += busy_s - (after.cpu_s - before.cpu_s)
            self._watched_s += took_s

    def _cpu_share(self) -> float | None:
        """Return the mean of the answers' shares, by the time that each took."""
        total_s = sum(took_s for took_s, _ in self._shares)
        if not total_s:
            return None
        return sum(took_s * share for took_s, share in self._shares) / total_s

    def _others_share(self) -> float | None:
        """Return what other programs took while it answered, summed up before it is cut at 0."""
        if self._together or not self._watched_s:
            return None
        return share_of_others(self._others_s, self._watched_s)


def _backend(model: Model, plan: Plan, settings: ServerSettings) -> Backend:
    patience = Patience(
        poll_s=_POLL_S,
        announce_s=_NEVER_S,  # `patience_s` of the plan says it
        first_backoff_s=_NEVER_S,
        longest_backoff_s=_NEVER_S,
        quick_deaths=1,
    )
    return make_backend(model, settings, threads_per_server(plan.models), patience)


def _drop_files(model: Model) -> bool:
    return page_cache.drop(page_cache.model_files(model))


def _disk_free_bytes(model: Model) -> int | None:
    try:
        return None if model.folder is None else shutil.disk_usage(model.folder).free
    except OSError as error:
        logger.warning("%s: what is left on its disk can't be told: %s", model.key, error)
        return None
