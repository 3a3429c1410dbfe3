"""llama.cpp: one context on a GGUF file, driven by its own Python package's C functions.

    PYTHON -m benchmarks.peers.children.llama FILE THREADS

Everything is as llama.cpp sets it, but for the thread numbers and the room for 4,096 tokens.
"""

import ctypes
import importlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.peers.children.commands import BELOW, Command, prompt, serve
from benchmarks.peers.children.stepped import Stepped

_CONTEXT = 4096


class LlamaCpp(Stepped):
    """A loaded model with one sequence."""

    def __init__(self, path: str, threads: int) -> None:
        self._library: Any = importlib.import_module("llama_cpp")
        library = self._library
        library.llama_backend_init()
        self._model = library.llama_model_load_from_file(
            path.encode(), library.llama_model_default_params()
        )
        settings = library.llama_context_default_params()
        settings.n_ctx = _CONTEXT
        settings.n_threads = settings.n_threads_batch = threads
        self._context = library.llama_init_from_model(self._model, settings)
        vocabulary = library.llama_model_get_vocab(self._model)
        self._rows = library.llama_vocab_n_tokens(vocabulary)

    def begin(self, tokens: int) -> int:
        """See ``Stepped``."""
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), False)
        return self._decoded(prompt(tokens, BELOW["qwen2"]))

    def step(self, token: int) -> int:
        """See ``Stepped``."""
        return self._decoded([token])

    def _decoded(self, ids: Sequence[int]) -> int:
        array = (ctypes.c_int32 * len(ids))(*ids)
        batch = self._library.llama_batch_get_one(array, len(ids))
        if failed := self._library.llama_decode(self._context, batch):
            raise RuntimeError(f"llama_decode: {failed}")
        logits = self._library.llama_get_logits_ith(self._context, -1)
        return int(np.ctypeslib.as_array(logits, shape=(self._rows,)).argmax())


def load() -> Mapping[str, Command]:
    """Load what the command line names."""
    return LlamaCpp(sys.argv[1], int(sys.argv[2])).commands


if __name__ == "__main__":
    serve(load, time.perf_counter)
