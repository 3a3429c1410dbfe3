"""One model run by itself for a while, as measuring and generating do: until it is ready to answer.

Doesn't say what it is asked, and doesn't stop it: whoever has made the backend does both.
"""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from backends import memory
from backends.backend import Backend, Patience, State
from backends.catalog import HUBS, Model
from backends.client import (
    BackendError,
    BadAnswer,
    ModelBusy,
    ModelUnavailable,
    PromptTooLong,
)
from backends.memory import DoesNotFit
from backends.precisions import precision_order
from backends.supervisor import ModelServer, RemoteModel, server_command

# Nothing loads here meanwhile: an endpoint that is there answers at once.
_REMOTE_PATIENCE_S = 60.0
_WHY = {
    ModelUnavailable: "The model couldn't be reached, or broke off",
    ModelBusy: "The model had too many other requests",
    PromptTooLong: "The prompt doesn't fit the model's context",
    BadAnswer: "The model gave no usable answer; the log says more",
}


@dataclass(frozen=True)
class ServerSettings:
    """How the models are run.

    Attributes:
        threads: Of each local server; None shares the cores out among the plan's, as the app does.
        precision: What they compute in, as the app's option; None leaves it to the weights.
        hubs: Where weights are fetched from that aren't here.
        force: Load what needs more memory than is free.
        api_key: For models that run elsewhere.
        command: What starts a server of a model with so many threads.
        running: Measured models as long as they run, for whoever meters the whole machine.
    """

    threads: int | None = None
    precision: str | None = None
    hubs: str = ",".join(HUBS)
    force: bool = False
    api_key: str = field(default="none", repr=False)
    command: Callable[[Model, int], list[str]] = server_command
    running: set[Backend] = field(default_factory=set, repr=False, compare=False)

    @property
    def options(self) -> list[str]:
        """What each local server is told beside its model and threads."""
        options = ["--hubs", self.hubs, "--cache-memory", "0", *(["--force"] if self.force else [])]
        return [*options, "--precision", self.precision] if self.precision else options

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that are wanted, the first choice first; empty: the models' own."""
        return precision_order(self.precision) if self.precision else ()


class Failure(Exception):  # noqa: N818 -- reads as what it is
    """A model can't be used any further; the message is for the user."""


def check_memory(models: Iterable[Model], settings: ServerSettings) -> None:
    """Weigh models, unless whatever is free is to do.

    Raises:
        Failure: They need more memory than is free.
    """
    if settings.force:
        return
    try:
        memory.fit(models, precisions=settings.precisions, cache_bytes=0).check()
    except DoesNotFit as error:
        raise Failure(str(error)) from error


def make_backend(
    model: Model, settings: ServerSettings, threads: int, patience: Patience | None = None
) -> Backend:
    """Return what runs or watches `model`, not started."""
    if not model.local:
        return RemoteModel(model, api_key=settings.api_key)
    return ModelServer(
        model,
        threads=settings.threads or threads,
        options=settings.options,
        command=settings.command,
        patience=patience,
    )


def why(error: BackendError) -> str:
    """Say for whoever runs the models why there is no answer."""
    return f"{_WHY.get(type(error), str(error).rstrip('.'))}."


async def until_ready(backend: Backend, patience_s: float) -> None:
    """Return when the model answers; as long as more of its weights arrives, that may take.

    Raises:
        Failure: It can't be started, or isn't ready after `patience_s`.
    """
    fetched = None
    if not backend.model.local:
        patience_s = min(patience_s, _REMOTE_PATIENCE_S)
    while True:
        with contextlib.suppress(ModelUnavailable):
            await backend.wait_ready(patience_s)
            return
        status = backend.status
        if status.state in (State.FAILED, State.RESTARTING):
            raise Failure(f"It can't be started: {status.detail.rstrip('.')}.")
        if status.download in (None, fetched):
            stage = status.detail or status.state
            raise Failure(f"It wasn't ready after {patience_s:g} s ({stage}).")
        fetched = status.download  # as long as more arrives, fetching isn't hanging
