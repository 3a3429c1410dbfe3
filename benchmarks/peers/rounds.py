"""Runs contenders in turn, round after round, so that each ratio is of neighbouring moments.

    round 1: A B C, round 2: A B C, ...

Knows no measures' meaning and writes no report. A contender that fails is left out from then on.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.contender import Contender, ContenderError, RunningContender
from benchmarks.peers.measures import Measure, Sample

logger = logging.getLogger(__name__)


@dataclass
class Run:
    """What the contenders of one group of measures answered.

    Attributes:
        group: The group.
        threads: How many each contender had.
        rounds: What they answered in each round.
        peak_bytes: Most memory that each of them held.
        load_s: How long each took to load.
        failures: Why a contender is missing.
    """

    group: str
    threads: int
    rounds: list[dict[Sample, float]] = field(default_factory=list)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    load_s: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def samples_of(measures: Sequence[Measure], *, slow: bool = True) -> list[Sample]:
    """What has to be asked for some measures, each thing once, compared ones as neighbours.

    Args:
        measures: What is wanted.
        slow: Whether slow ones are among them.
    """
    every = dict.fromkeys(sample for one in measures for sample in in_order(one))
    return [sample for sample in every if slow or not sample.slow]


def in_order(measure: Measure) -> tuple[Sample, Sample]:
    """A measure's samples, a conversation's first turn before a later one."""
    first, second = measure.first, measure.second
    return (second, first) if second.command.startswith("turn 1 ") else (first, second)


class Race:
    """The contenders of one group of measures, all with one number of threads.

    Args:
        contenders: All there are, by name.
        run: Says which group and threads, and gets the answers.
        logs: A folder for what contenders write.
    """

    def __init__(self, contenders: Mapping[str, Contender], run: Run, logs: Path) -> None:
        self._contenders = contenders
        self._run = run
        self._logs = logs
        self._running: dict[str, RunningContender] = {}

    def go(self, measures: Sequence[Measure], rounds: int, slow_rounds: int) -> Iterator[str]:
        """Run the rounds; yields what is being asked.

        Args:
            measures: The group's.
            rounds: How many.
            slow_rounds: In how many of them slow samples take part.
        """
        everything = samples_of(measures)
        with ExitStack() as stack:
            for name in dict.fromkeys(sample.contender for sample in everything):
                yield f"{name}: loading"
                self._start(name, stack)
            for number in range(rounds):
                answers: dict[Sample, float] = {}
                self._run.rounds.append(answers)
                for sample in samples_of(measures, slow=number < slow_rounds):
                    yield f"round {number + 1} of {rounds}: {sample.contender}: {sample.command}"
                    self._ask(sample, answers)
            for name, child in self._running.items():
                self._run.peak_bytes[name] = int(child.ask("peak"))

    def _start(self, name: str, stack: ExitStack) -> None:
        log = self._logs / f"{''.join(filter(str.isalnum, name))}.log"
        try:
            child = RunningContender(self._contenders[name], self._run.threads, log)
        except ContenderError as error:
            self._missing(name, error)
            return
        stack.callback(child.close)
        self._running[name] = child
        self._run.load_s[name] = child.load_s

    def _ask(self, sample: Sample, answers: dict[Sample, float]) -> None:
        child = self._running.get(sample.contender)
        if child is None:
            return
        try:
            answers[sample] = float(child.ask(sample.command))
        except ContenderError as error:
            self._missing(sample.contender, error)
            self._running.pop(sample.contender).close()

    def _missing(self, name: str, error: ContenderError) -> None:
        logger.warning("%s", error)
        self._run.failures[name] = str(error)
