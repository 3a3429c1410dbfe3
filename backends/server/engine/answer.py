"""Turns the growing list of an answer's ids into text that can be shown and never changes.

Holds back what further ids could still change: half a character, blanks at the end, a mark before
an unknown next character, the beginning of a stop string. So the pieces, put together, are the
answer as it would be shown at once. Knows nothing of models and requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class AnswerTokenizer(Protocol):
    """What is needed of a tokenizer."""

    def answer(self, ids: Sequence[int]) -> str:
        """A whole answer as it is shown."""

    def settled(self, ids: Sequence[int]) -> str:
        """The part of the answer that further ids can't change, blanks at its end included."""


class AnswerWriter:
    """The text of one answer, piece by piece.

    Args:
        tokenizer: makes text of ids.
        stops: strings that end the answer and are not part of it.
    """

    def __init__(self, tokenizer: AnswerTokenizer, stops: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._ids: list[int] = []
        self._shown = ""
        self.stopped = False

    @property
    def token_count(self) -> int:
        """How many ids were added."""
        return len(self._ids)

    def add(self, token: int) -> str:
        """Takes the next id; returns what can be shown since the last call, perhaps nothing."""
        self._ids.append(token)
        settled = self._tokenizer.settled(self._ids)
        before_stop = self._before_stop(settled)
        if before_stop is not None:
            return self._show(before_stop)
        return self._show(self._without_stop_beginning(settled).rstrip())

    def finish(self) -> str:
        """The rest of the answer, after its last id."""
        if self.stopped:
            return ""
        answer = self._tokenizer.answer(self._ids)
        before_stop = self._before_stop(answer)
        return self._show(answer if before_stop is None else before_stop)

    def _show(self, text: str) -> str:
        new = text[len(self._shown) :]
        self._shown += new
        return new

    def _before_stop(self, text: str) -> str | None:
        """What stands before the first stop string, None where there is none."""
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if not found:
            return None
        self.stopped = True
        return text[: min(found)]

    def _without_stop_beginning(self, text: str) -> str:
        beginnings = {stop[:size] for stop in self._stops for size in range(1, len(stop))}
        held = max((len(start) for start in beginnings if text.endswith(start)), default=0)
        return text[: len(text) - held]
