"""A model that is stepped token by token with one sequence: what every one of them is asked.

Imports nothing but the standard library: peers run it with Pythons of their own.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping

from benchmarks.peers.children.commands import Command

_START = 32


class Stepped(ABC):
    """A loaded model with one sequence."""

    @abstractmethod
    def begin(self, tokens: int) -> int:
        """Start anew with a prompt of so many tokens; the likeliest id after it."""

    @abstractmethod
    def step(self, token: int) -> int:
        """The likeliest id after one more token."""

    @property
    def commands(self) -> Mapping[str, Command]:
        """What it answers."""
        return {"prefill": self.prefill, "decode": self.decode, "greedy": self.greedy}

    def prefill(self, tokens: int) -> float:
        """Seconds from a prompt to its first token."""
        begun = time.perf_counter()
        self.begin(tokens)
        return time.perf_counter() - begun

    def decode(self, tokens: int) -> float:
        """Tokens a second after a short prompt."""
        token = self.begin(_START)
        begun = time.perf_counter()
        for _ in range(tokens):
            token = self.step(token)
        return tokens / (time.perf_counter() - begun)

    def greedy(self, tokens: int) -> list[int]:
        """The likeliest ids after a short prompt."""
        said = [self.begin(_START)]
        while len(said) < tokens:
            said.append(self.step(said[-1]))
        return said
