"""The two models that are loaded: starts them, stops them, and exchanges them while the app runs.

Looks at memory before it loads anything. Doesn't know who may ask for an exchange, nor whether
somebody is just rating: those who call it do.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from backends import memory
from backends.backend import Backend, State
from backends.catalog import Model
from backends.memory import Fit
from backends.supervisor import ModelServer

logger = logging.getLogger(__name__)

Models = tuple[Model, Model]
BackendFactory = Callable[[Models, bool], tuple[Backend, Backend]]
"""Makes backends that are not started, of two models; the flag: whatever memory is free."""


class Lineup:
    """Two models and what runs them. All calls belong to one event loop."""

    def __init__(
        self,
        models: Models,
        make_backends: BackendFactory,
        *,
        force: bool = False,
        precisions: Sequence[str] = (),
        cache_bytes: int | None = None,
    ) -> None:
        """`precisions` and `cache_bytes` are what the backends are told, for the estimate."""
        self._make_backends = make_backends
        self._precisions = precisions
        self._cache_bytes = cache_bytes
        self._backends = make_backends(models, force)
        self._changing = asyncio.Lock()

    @property
    def backends(self) -> tuple[Backend, Backend]:
        """What runs the two models at present."""
        return self._backends

    def fit(self, models: Models) -> Fit:
        """Return what `models` need against what is free without the present ones."""
        pids = [one.pid for one in self._backends if isinstance(one, ModelServer) and one.pid]
        given_back = sum(map(memory.private_bytes, pids))
        return memory.fit(models, given_back, self._precisions, self._cache_bytes)

    async def start(self) -> None:
        """Begin to start both models and return at once."""
        await asyncio.gather(*(backend.start() for backend in self._backends))

    async def stop(self) -> None:
        """Stop both models and return when nothing of them is left."""
        await asyncio.gather(*(backend.stop() for backend in self._backends))

    async def change(self, models: Models, *, force: bool = False) -> None:
        """Put `models` in place of the present ones, and begin to start them.

        A model that stays goes on running, unless it has failed or gets another share of the cores:
        then it is started again. Returns when those that leave are gone; whether the others can be
        loaded shows in their status.

        Raises:
            DoesNotFit: They need more memory than there will be, and `force` doesn't say to try.
        """
        async with self._changing:
            if not force:
                self.fit(models).check()
            fresh = self._make_backends(models, force)
            first, second = (self._staying(one) or one for one in fresh)
            leaving = [one for one in self._backends if one not in (first, second)]
            logger.info("the models change to %s and %s", *(model.key for model in models))
            await asyncio.gather(*(backend.stop() for backend in leaving))
            self._backends = (first, second)
            await self.start()

    def _staying(self, fresh: Backend) -> Backend | None:
        """Return the present backend that does what `fresh` would do, if there is one."""
        for one in self._backends:
            running = one.status.state not in (State.FAILED, State.STOPPED)
            if running and one.model.key == fresh.model.key and one.threads == fresh.threads:
                return one
        return None
