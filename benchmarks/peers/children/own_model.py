"""Twopane's network by itself, with one sequence; a prompt goes through at once.

python -m benchmarks.peers.children.own_model FOLDER PRECISION THREADS
"""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from backends.server.batch import Span
from backends.server.checkpoints.weights import no_progress
from backends.server.generation import Limits
from backends.server.loading import load_engine
from backends.server.model import ChatModel
from benchmarks.peers.children.commands import BELOW, Command, prompt, serve
from benchmarks.peers.children.stepped import Stepped


class OwnModel(Stepped):
    """A loaded model with one sequence.

    Args:
        model: What is measured.
    """

    def __init__(self, model: ChatModel) -> None:
        self._model = model
        text = model.tokenizer.encode_plain("1")
        # ChatGLM's prompts end with the tokens that begin an answer.
        self._end = model.tokenizer.encode("1")[len(text) :]
        self._below = min(BELOW[model.family], model.network.vocab_size)
        self._cache = model.network.new_cache()

    def begin(self, tokens: int) -> int:
        """See ``Stepped``."""
        self._cache = self._model.network.new_cache()
        return self._stepped(prompt(tokens, self._below, self._end))

    def step(self, token: int) -> int:
        """See ``Stepped``."""
        return self._stepped([token])

    def _stepped(self, ids: Sequence[int]) -> int:
        return int(self._model.step([Span(tuple(ids), self._cache)])[0].argmax())


def load() -> Mapping[str, Command]:
    """Load what the command line names."""
    folder, precision, threads = sys.argv[1:]
    limits = Limits(threads=int(threads))
    return OwnModel(load_engine(Path(folder), precision, limits, no_progress).model).commands


if __name__ == "__main__":
    serve(load, time.perf_counter)
