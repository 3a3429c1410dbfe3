"""Twopane's engine: conversations that are answered at the same time, and turn after turn.

    python -m benchmarks.peers.children.own_engine FOLDER PRECISION THREADS

No HTTP and no app; the engine's own scheduling, sampling, text and reuse of prefixes.
"""

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue

from backends.catalog import Sampling
from backends.server.checkpoints.weights import no_progress
from backends.server.engine import Engine
from backends.server.generation import Event, Finished, GenerationRequest, Limits, TextPiece
from backends.server.loading import load_engine
from benchmarks.peers.children.commands import BELOW, Command, prompt, serve

_START = 32


class Conversations:
    """Conversations with an engine that runs in another thread.

    Args:
        engine: What answers.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._below = min(BELOW[engine.model.family], engine.model.network.vocab_size)
        self._begun = 0
        self._turns = 0
        self._history: list[int] = []

    @property
    def tokens(self) -> int:
        """Length of the present conversation's last prompt."""
        return len(self._history)

    def crowd(self, number: int, tokens: int) -> float:
        """Tokens a second of all answers to so many people who ask at the same time."""
        ended: SimpleQueue[Event] = SimpleQueue()
        prompts = [self._other_prompt(_START) for _ in range(number)]
        begun = time.perf_counter()
        for one in prompts:
            self._engine.submit(self._request(one, tokens), ended.put)
        total = sum(_tokens_of_next(ended) for _ in range(number))
        return total / (time.perf_counter() - begun)

    def turn(self, number: int, tokens: int) -> float:
        """Seconds to the first token of a turn that adds so many; those before it come first."""
        if number == 1:
            self._history, self._turns = [], 0
        seconds = 0.0
        while self._turns < number:
            self._history += self._other_prompt(tokens)
            seconds = self._first_token()
            self._turns += 1
        return seconds

    def _other_prompt(self, tokens: int) -> list[int]:
        """A prompt that shares no beginning with those before."""
        self._begun += 1
        return prompt(tokens, self._below, start=self._begun * 10_007)

    def _first_token(self) -> float:
        events: SimpleQueue[Event] = SimpleQueue()
        begun = time.perf_counter()
        # Its end is seen even where the token is only a part of a letter.
        self._engine.submit(self._request(self._history, 1), events.put)
        _tokens_of_next(events)
        return time.perf_counter() - begun

    def _request(self, ids: Sequence[int], tokens: int) -> GenerationRequest:
        # As the app asks an endpoint.
        wanted = asdict(Sampling(top_k=None, seed=self._begun))
        return GenerationRequest(tuple(ids), tokens, self._engine.model.defaults.overridden(wanted))


def _tokens_of_next(events: "SimpleQueue[Event]") -> int:
    """Wait for the next answer's end and return its length."""
    while isinstance(event := events.get(), TextPiece):
        pass
    if not isinstance(event, Finished):
        raise RuntimeError(f"the engine failed: {event}")
    return event.completion_tokens


def main() -> None:
    """Load in this thread, which steps the model as in a model server; answer in another one."""
    loaded: SimpleQueue[Engine | Exception] = SimpleQueue()

    def load() -> Mapping[str, Command]:
        engine = loaded.get()
        loaded.put(engine)
        if isinstance(engine, Exception):
            raise engine
        conversations = Conversations(engine)
        return {"crowd": conversations.crowd, "turn": conversations.turn}

    def answer() -> None:
        serve(load, time.perf_counter)
        if isinstance(engine := loaded.get(), Engine):
            engine.close()

    threading.Thread(target=answer).start()
    folder, precision, threads = sys.argv[1:]
    try:
        engine = load_engine(Path(folder), precision, Limits(threads=int(threads)), no_progress)
    except Exception as error:
        loaded.put(error)
        raise
    loaded.put(engine)
    engine.run()


if __name__ == "__main__":
    main()
