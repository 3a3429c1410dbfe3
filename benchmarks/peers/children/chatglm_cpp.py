"""chatglm.cpp: its pipeline on a ggml file, one token at a time.

    PYTHON -m benchmarks.peers.children.chatglm_cpp FILE THREADS

It takes as many threads as the process may use cores, so it must be started on so many of them.
"""

import importlib
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.peers.children.commands import BELOW, Command, prompt, serve

_START = 32
_END = (130001, 130004)  # [gMASK] <sop>


class ChatGLMCpp:
    """A loaded model with one sequence."""

    def __init__(self, path: str) -> None:
        library: Any = importlib.import_module("_C")
        self._model = library.Pipeline(path).model
        self._greedy = library.GenerationConfig(do_sample=False)

    def prefill(self, tokens: int) -> float:
        """Seconds from a prompt to its first token."""
        begun = time.perf_counter()
        self._begin(tokens)
        return time.perf_counter() - begun

    def decode(self, tokens: int) -> float:
        """Tokens a second after a short prompt."""
        ids = self._begin(_START)
        begun = time.perf_counter()
        for _ in range(tokens):
            self._step(ids)
        return tokens / (time.perf_counter() - begun)

    def greedy(self, tokens: int) -> list[int]:
        """The likeliest ids after a short prompt."""
        ids = self._begin(_START)
        while len(ids) < _START + tokens:
            self._step(ids)
        return ids[_START:]

    def _begin(self, tokens: int) -> list[int]:
        ids = prompt(tokens, BELOW["chatglm"], _END)
        return [*ids, self._model.generate_next_token(ids, None, self._greedy, 0, tokens)]

    def _step(self, ids: list[int]) -> None:
        past = len(ids) - 1
        context = ids.index(_END[-1]) + 1
        ids.append(self._model.generate_next_token(ids, None, self._greedy, past, context))


def load() -> Mapping[str, Command]:
    """Load what the command line names."""
    threads = int(sys.argv[2])
    if len(os.sched_getaffinity(0)) != threads:
        raise RuntimeError(f"this must be started on {threads} cores")
    model = ChatGLMCpp(sys.argv[1])
    return {"prefill": model.prefill, "decode": model.decode, "greedy": model.greedy}


if __name__ == "__main__":
    serve(load, time.perf_counter)
