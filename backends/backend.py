"""What a watched model is to those above, wherever it runs: a status, and an endpoint once ready.

Holds what local servers and remote endpoints share; starts and probes nothing itself.
"""

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum

from backends.catalog import Model
from backends.client import Endpoint, ModelUnavailable
from backends.hub import Download

logger = logging.getLogger(__name__)


class State(StrEnum):
    """What a backend is doing."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Status:
    """What a backend is doing, for those who run the panel: `detail` may name the model.

    Attributes:
        progress: Share of the loading that is done, 0 to 1; None while nobody knows.
        restarts: How often it was started again since `start()`.
        detail: The stage of loading, or the reason of a restart or failure; else "".
        download: How far the weights are fetched, while they are.
    """

    state: State
    progress: float | None = None
    restarts: int = 0
    detail: str = ""
    download: Download | None = None


@dataclass(frozen=True)
class Patience:
    """How long a backend waits for what, in seconds."""

    poll_s: float = 0.25
    announce_s: float = 120.0  # importing torch from a cold disk takes its time
    first_backoff_s: float = 0.5
    longest_backoff_s: float = 30.0
    healthy_s: float = 60.0  # after so long a death counts as the first again
    quick_deaths: int = 5
    kill_after_s: float = 3.0
    probe_s: float = 10.0  # how often a remote endpoint is asked whether it is there


_STILL_LOADING = "This side's model is still loading. Wait a little, then ask it again."
_NOT_READY = {
    State.STARTING: _STILL_LOADING,
    State.LOADING: _STILL_LOADING,
    State.RESTARTING: "This side's model has stopped and is being started again. Wait a little, "
    "then ask it again.",
    State.FAILED: "This side's model can't be started. Tell whoever runs this panel.",
    State.STOPPED: "This side's model has been stopped. Tell whoever runs this panel.",
}


class Backend(ABC):
    """A model that is being watched. All calls belong to one event loop."""

    def __init__(self, model: Model, patience: Patience | None = None) -> None:
        self.model = model
        self._patience = patience or Patience()
        self._status = Status(State.STOPPED)
        self._precision = ""
        self._settled = asyncio.Event()  # ready, failed or stopped: nothing to wait for
        self._settled.set()
        self._watch: asyncio.Task[None] | None = None

    @property
    def status(self) -> Status:
        """What the backend is doing now."""
        return self._status

    @property
    def precision(self) -> str:
        """How the weights are kept while it runs, such as float32; "" where nobody says."""
        return self._precision

    @property
    def threads(self) -> int | None:
        """With how many threads of this machine it computes; None where it runs elsewhere."""
        return None

    @property
    def endpoint(self) -> Endpoint:
        """Where the model answers.

        Raises:
            ModelUnavailable: It isn't ready.
        """
        if self._status.state is not State.READY:
            raise ModelUnavailable(_NOT_READY[self._status.state])
        return self._endpoint()

    async def start(self) -> None:
        """Begin to start the backend and return at once; if it is running, do nothing."""
        if self._watch is not None and not self._watch.done():
            return
        self._status = Status(State.STOPPED)
        self._become(State.STARTING)
        self._watch = asyncio.create_task(self._keep_up(), name=f"watch {self.model.key}")
        self._watch.add_done_callback(self._watch_ended)

    async def stop(self) -> None:
        """Stop the backend and return when nothing of it is left."""
        if self._watch is not None and not self._watch.done():
            self._watch.cancel()
            await asyncio.wait([self._watch])
        self._become(State.STOPPED)

    async def wait_ready(self, timeout: float) -> None:
        """Wait until the backend is ready.

        Raises:
            ModelUnavailable: It failed, was stopped, or isn't ready after `timeout` seconds.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), timeout)
        _ = self.endpoint

    def _become(
        self,
        state: State,
        *,
        progress: float | None = None,
        restarts: int = 0,
        detail: str = "",
        download: Download | None = None,
    ) -> None:
        """Change the status; `restarts` is added to those so far."""
        before = self._status
        self._status = Status(state, progress, before.restarts + restarts, detail, download)
        if state in (State.READY, State.FAILED, State.STOPPED):
            self._settled.set()
        else:
            self._settled.clear()
        if state is not before.state:
            bad = state in (State.RESTARTING, State.FAILED)
            level = logging.WARNING if bad else logging.INFO
            logger.log(level, "%s: %s%s", self.model.key, state, detail and f", {detail}")

    def _watch_ended(self, watch: asyncio.Task[None]) -> None:
        if not watch.cancelled() and (error := watch.exception()) is not None:
            logger.error("%s: watching it failed", self.model.key, exc_info=error)
            self._become(State.FAILED, detail=f"watching it failed: {error!r}")

    @abstractmethod
    async def _keep_up(self) -> None:
        """Keep the backend up and its status true, until cancelled or failed."""

    @abstractmethod
    def _endpoint(self) -> Endpoint:
        """Say where the model answers when it is ready."""
