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
from benchmarks.peers.children.stepped import Stepped

_END = (130001, 130004)  # [gMASK] <sop>


class ChatGLMCpp(Stepped):
    """A loaded model with one sequence."""

    def __init__(self, path: str) -> None:
        library: Any = importlib.import_module("_C")
        self._model = library.Pipeline(path).model
        self._ids: list[int] = []
        self._greedy = library.GenerationConfig(do_sample=False)

    def begin(self, tokens: int) -> int:
        """See ``Stepped``."""
        self._ids = prompt(tokens, BELOW["chatglm"], _END)
        return self._next(0)

    def step(self, token: int) -> int:
        """See ``Stepped``."""
        self._ids.append(token)
        return self._next(len(self._ids) - 1)

    def _next(self, past: int) -> int:
        context = self._ids.index(_END[-1]) + 1
        found = self._model.generate_next_token(self._ids, None, self._greedy, past, context)
        return int(found)


def load() -> Mapping[str, Command]:
    """Load what the command line names."""
    threads = int(sys.argv[2])
    if len(os.sched_getaffinity(0)) != threads:
        raise RuntimeError(f"this must be started on {threads} cores")
    return ChatGLMCpp(sys.argv[1]).commands


if __name__ == "__main__":
    serve(load, time.perf_counter)
