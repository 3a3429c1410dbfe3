"""How long a measurement takes yet, from how long its steps have taken so far.

Steps of a kind are alike, and of one model more so; starts are not like answers. Knows no clock:
whoever follows a measurement says when each step began.
"""

import statistics
from collections import defaultdict
from collections.abc import Sequence

from backends.measurement import Step

_STARTS = ("prepare", "cold_start", "warm_start")


class TimeLeft:
    """Follows the steps of one measurement."""

    def __init__(self, steps: Sequence[Step]) -> None:
        """`steps` are all that are planned, in their order; some may be left out on the way."""
        self._steps = steps
        self._took_s: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._now: tuple[Step, float] | None = None

    def begins(self, step: Step, at_s: float) -> None:
        """Note that a step begins, and so that the one before has ended."""
        if self._now is not None:
            before, began_s = self._now
            self._took_s[before.kind, before.model_key].append(at_s - began_s)
        self._now = step, at_s

    def seconds(self) -> float | None:
        """Return the estimate at the beginning of a step; None before anything was answered."""
        if self._now is None or not self._known("answer"):
            return None
        coming = self._steps[self._now[0].number - 1 :]
        return sum(self._expected_s(step) for step in coming)

    def _expected_s(self, step: Step) -> float:
        own = self._took_s.get((step.kind, step.model_key))
        alike = own or self._known(step.kind)
        if not alike and step.kind in _STARTS:
            alike = [took_s for kind in _STARTS for took_s in self._known(kind)]
        if not alike:  # all answer at once: as long as the slowest, or longer where they share
            alike = [max(map(statistics.fmean, self._by_model("answer")))]
        return statistics.fmean(alike)

    def _known(self, kind: str) -> list[float]:
        return [took_s for values in self._by_model(kind) for took_s in values]

    def _by_model(self, kind: str) -> list[list[float]]:
        return [values for (known, _), values in self._took_s.items() if known == kind]
