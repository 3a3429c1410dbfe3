"""Engines that run in a thread of the test, and a network that fails on command."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from torch import Tensor

from backends.server import ChatModel
from backends.server.batch import FlatBatch, KVCache
from backends.server.engine import Engine


@contextlib.contextmanager
def running(engine: Engine) -> Iterator[Engine]:
    thread = threading.Thread(target=engine.run)
    thread.start()
    try:
        yield engine
    finally:
        engine.close()
        thread.join(10)
        assert not thread.is_alive()


class FailingNetwork:
    """Fails on command, as no real network does; else the real one."""

    def __init__(self, model: ChatModel) -> None:
        self._network = model.network
        self.trouble: Callable[[Tensor], Tensor] | None = None

    @property
    def vocab_size(self) -> int:
        return self._network.vocab_size

    @property
    def context(self) -> int:
        return self._network.context

    def new_cache(self) -> KVCache:
        return self._network.new_cache()

    def __call__(self, batch: FlatBatch) -> Tensor:
        logits = self._network(batch)
        return self.trouble(logits) if self.trouble else logits


def out_of_memory(_logits: Tensor) -> Tensor:
    raise MemoryError


def no_numbers(logits: Tensor) -> Tensor:
    return logits * float("nan")
