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

_CONTEXT = 4096
_START = 32


class LlamaCpp:
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

    def prefill(self, tokens: int) -> float:
        """Seconds from a prompt to its first token."""
        begun = time.perf_counter()
        self._begin(tokens)
        return time.perf_counter() - begun

    def decode(self, tokens: int) -> float:
        """Tokens a second after a short prompt."""
        token = self._begin(_START)
        begun = time.perf_counter()
        for _ in range(tokens):
            token = self._step([token])
        return tokens / (time.perf_counter() - begun)

    def greedy(self, tokens: int) -> list[int]:
        """The likeliest ids after a short prompt."""
        said = [self._begin(_START)]
        while len(said) < tokens:
            said.append(self._step([said[-1]]))
        return said

    def _begin(self, tokens: int) -> int:
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), False)
        return self._step(prompt(tokens, BELOW["qwen2"]))

    def _step(self, ids: Sequence[int]) -> int:
        array = (ctypes.c_int32 * len(ids))(*ids)
        batch = self._library.llama_batch_get_one(array, len(ids))
        if failed := self._library.llama_decode(self._context, batch):
            raise RuntimeError(f"llama_decode: {failed}")
        logits = self._library.llama_get_logits_ith(self._context, -1)
        return int(np.ctypeslib.as_array(logits, shape=(self._rows,)).argmax())


def load() -> Mapping[str, Command]:
    """Load what the command line names."""
    model = LlamaCpp(sys.argv[1], int(sys.argv[2]))
    return {"prefill": model.prefill, "decode": model.decode, "greedy": model.greedy}


if __name__ == "__main__":
    serve(load, time.perf_counter)
