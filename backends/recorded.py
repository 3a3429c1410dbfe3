"""A model that runs nowhere: its answers were recorded, and whoever gives them again has them.

Asks and answers nothing itself. It is always ready, since nothing has to be loaded.
"""

from backends.backend import Backend, State
from backends.catalog import Model
from backends.client import Endpoint, ModelUnavailable


class NotRecorded(ModelUnavailable):
    """The model doesn't run here, and has no recorded answer to this."""

    text = "This side's model doesn't run here: only the prompts of its answer pack can be asked."


class RecordedModel(Backend):
    """One model of which there are only recorded answers."""

    def __init__(self, model: Model, precision: str = "") -> None:
        super().__init__(model)
        self._precision = precision

    async def start(self) -> None:
        """Be ready, without anything to watch."""
        await self._keep_up()

    async def wait_ready(self, timeout: float) -> None:
        """Return at once: a recorded answer needs nothing that could be waited for."""

    async def _keep_up(self) -> None:
        self._become(State.READY)  # and so it stays: nothing runs that could fail

    def _endpoint(self) -> Endpoint:
        raise NotRecorded
