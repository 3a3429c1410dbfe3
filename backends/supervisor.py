"""Starts, watches, restarts and stops one local model server.

Doesn't meter, doesn't download (the server does), and doesn't notice a server that hangs once it is
ready. Its `RemoteModel` is the same for an endpoint that others run.
"""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import httpx2
from pydantic import BaseModel, Field, ValidationError

from backends.backend import Backend, Patience, State, Status
from backends.catalog import Model
from backends.checkpoint import Checkpoint
from backends.client import Endpoint
from backends.connection import open_client
from backends.hub import Download
from backends.process import ServerProcess
from backends.remote import RemoteModel

__all__ = ["Backend", "ModelServer", "Patience", "RemoteModel", "State", "Status"]

logger = logging.getLogger(__name__)

_HEALTH_TIMEOUT_S = 5.0


def server_command(model: Model, threads: int) -> list[str]:
    """Return the command that serves `model` until its stdin ends."""
    options = ("--model", model.spec, "--port", "0", "--threads", str(threads), "--watch-parent")
    return [sys.executable, "-m", "backends.server", *options]


@dataclass(frozen=True)
class _End:
    """Why a server process is no more, or must be ended."""

    reason: str
    ready_s: float = 0.0
    final: bool = False  # trying again would end the same way


class _Defaults(BaseModel):
    """How a model server draws tokens unless told otherwise: the checkpoint's own settings."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None


class _Health(BaseModel):
    """What `GET /health` of a model server says; see `backends.server`."""

    status: Literal["loading", "ready", "failed"]
    progress: float | None = Field(default=None, ge=0, le=1)
    stage: str = ""
    download: Download | None = None
    error: str = ""
    precision: str = ""
    defaults: _Defaults = _Defaults()
    checkpoint: Checkpoint | None = None


class ModelServer(Backend):
    """One local model in a process of its own, started again when it dies."""

    def __init__(
        self,
        model: Model,
        *,
        threads: int = 1,
        options: Sequence[str] = (),
        command: Callable[[Model, int], list[str]] = server_command,
        patience: Patience | None = None,
    ) -> None:
        """`options` are more of the server's own, such as `--force`."""
        super().__init__(model, patience)
        self._command = [*command(model, threads), *options]
        self._threads = threads
        self._was_ready = False
        self._process: ServerProcess | None = None
        self._port = 0

    @property
    def pid(self) -> int | None:
        """The id of the server's process; None while there is none."""
        return self._process.pid if self._process else None

    @property
    def command(self) -> Sequence[str]:
        """What starts its process."""
        return self._command

    @property
    def threads(self) -> int:
        """With how many threads it computes."""
        return self._threads

    def _endpoint(self) -> Endpoint:
        return Endpoint(f"http://127.0.0.1:{self._port}/v1", self.model.key)

    async def _keep_up(self) -> None:
        patience = self._patience
        backoff_s, deaths = patience.first_backoff_s, 0
        while True:
            end = await self._serve_once()
            if end.ready_s >= patience.healthy_s:
                backoff_s = patience.first_backoff_s
            # One that has been ready can be ready again: only loading is given up at last.
            deaths = 0 if end.ready_s else deaths + 1
            if end.final or deaths >= patience.quick_deaths:
                self._become(State.FAILED, detail=end.reason)
                return
            self._become(State.RESTARTING, detail=end.reason)
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, patience.longest_backoff_s)
            self._become(State.STARTING, restarts=1)

    async def _serve_once(self) -> _End:
        """Start the server and return when it is no more."""
        try:
            # What has run before was weighed before: it isn't given up where memory is short now.
            again = ["--force"] if self._was_ready and "--force" not in self._command else []
            process = await ServerProcess.start(self.model.key, [*self._command, *again])
        except OSError as error:
            return _End(f"can't be started: {error}")
        self._process = process
        loading = asyncio.create_task(self._load(process))
        try:
            return await self._attend(process, loading)
        finally:
            loading.cancel()
            self._process = None
            await process.end(self._patience.kill_after_s)

    async def _attend(self, process: ServerProcess, loading: asyncio.Task[_End | None]) -> _End:
        death = asyncio.create_task(process.wait())
        try:
            await asyncio.wait({loading, death}, return_when=asyncio.FIRST_COMPLETED)
            if loading.done() and (end := loading.result()) is not None:
                return end
            began_s = time.monotonic()
            if loading.done():
                process.log_level = logging.DEBUG  # from now on its lines could quote a prompt
                self._was_ready = True
                self._become(State.READY)
            code = await death
            was_ready = loading.done()
            # What a server writes once it is ready may quote a prompt.
            reason = _exit_reason(code, "" if was_ready else await process.last_words())
            ready_s = time.monotonic() - began_s if was_ready else 0.0
            self._become(State.RESTARTING, detail=reason)  # at once: cleaning up takes time
            return _End(reason, ready_s)
        finally:
            death.cancel()

    async def _load(self, process: ServerProcess) -> _End | None:
        """Follow the loading; return None when the model is ready, else why it never will be."""
        try:
            self._port = await asyncio.wait_for(process.port(), self._patience.announce_s)
        except TimeoutError:
            return _End(f"said no port within {self._patience.announce_s:g} s")
        async with open_client(
            f"http://127.0.0.1:{self._port}", timeout_s=_HEALTH_TIMEOUT_S
        ) as client:
            self._become(State.LOADING)
            while True:
                health = await _ask_health(client)
                if health is not None and health.status == "ready":
                    self._learn(health)
                    return None
                if health is not None and health.status == "failed":
                    return _End(health.error or "loading failed", final=True)
                if health is not None:
                    self._become(
                        State.LOADING,
                        progress=health.progress,
                        detail=health.stage,
                        download=health.download,
                    )
                await asyncio.sleep(self._patience.poll_s)

    def _learn(self, health: _Health) -> None:
        """Take over what only the loaded model knows, so that each answer's record is complete."""
        self._precision = health.precision
        known = health.defaults.model_dump(exclude_none=True)
        model = replace(self.model, defaults=replace(self.model.defaults, **known))
        if health.checkpoint is not None:
            model = replace(model, **vars(health.checkpoint))
        self.model = model


async def _ask_health(client: httpx2.AsyncClient) -> _Health | None:
    """Return what the server says, None while it says nothing."""
    try:
        return _Health.model_validate_json((await client.get("/health")).content)
    except httpx2.HTTPError as error:
        logger.debug("No health from %s: %r", client.base_url, error)
        return None
    except ValidationError as error:
        logger.warning("The health of %s can't be understood: %s", client.base_url, error)
        return _Health(status="failed", error="what the model server says can't be understood")


def _exit_reason(code: int, last_words: str) -> str:
    """Say in words why a process has ended."""
    if code >= 0:
        reason = f"exited with code {code}"
    else:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        reason = f"was ended by {name}"
    if code == -signal.SIGKILL:
        reason += " (the system does so when memory runs out)"
    return f"{reason}: {last_words}" if last_words and code else reason
