"""The figures as people and programs read them: Markdown, for the screen too, and JSON.

Forms minimum, median and maximum over rounds; measures nothing.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.peers.machine import Machine
from benchmarks.peers.measures import Measure, Sample
from benchmarks.peers.rounds import Run


@dataclass(frozen=True)
class Spread:
    """Some rounds' values in short."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of one or more values."""
        return cls(min(values), statistics.median(values), max(values))

    def __str__(self) -> str:
        return f"{_short(self.median)} ({_short(self.least)}-{_short(self.most)})"


@dataclass(frozen=True)
class Result:
    """A measure with one number of threads.

    Attributes:
        rounds: How many rounds have both values.
        met: Whether the median ratio meets the goal; None if there is none.
    """

    key: str
    title: str
    threads: int
    unit: str
    second_unit: str
    goal: str
    rounds: int
    first: Spread | None
    second: Spread | None
    ratio: Spread | None
    met: bool | None


@dataclass(frozen=True)
class Report:
    """All that a report says.

    Attributes:
        begun: Date and time.
        command: How it was made.
        peers: How each peer was built, by its package.
    """

    begun: str
    command: str
    machine: Machine
    peers: Mapping[str, str]
    measures: Sequence[Measure]
    runs: Sequence[Run]

    @property
    def results(self) -> list[Result]:
        """Every measure with every number of threads."""
        return [
            result_of(measure, run)
            for measure in self.measures
            for run in self.runs
            if run.group == measure.group
        ]

    def as_json(self) -> dict[str, Any]:
        """Everything, with each round's values."""
        return {
            "begun": self.begun,
            "command": self.command,
            "machine": asdict(self.machine),
            "peers": dict(self.peers),
            "results": [asdict(result) for result in self.results],
            "runs": [_run_as_json(run) for run in self.runs],
        }

    def as_markdown(self) -> str:
        """The tables."""
        return "\n".join([*self._head(), "", *self._table(), "", *self._processes()]) + "\n"

    def _head(self) -> Iterator[str]:
        machine = self.machine
        versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
        yield f"`{self.command}`, {self.begun}"
        yield ""
        yield (
            f"- {machine.cpu} (family/model/stepping {machine.cpu_numbers}), {machine.cores} cores,"
            f" {machine.memory_bytes / 2**30:.0f} GiB; {' '.join(machine.flags)}"
        )
        yield f"- {machine.system}; {versions}; load average before the run {machine.load:.1f}"
        yield from (f"- {package}: {flags}" for package, flags in self.peers.items())
        yield "- Median (minimum-maximum) over rounds; each ratio is of one round's values."

    def _table(self) -> Iterator[str]:
        yield "| measure | threads | rounds | measured | compared with | ratio | goal | met |"
        yield "|---|---|---|---|---|---|---|---|"
        for one in self.results:
            values = (
                *(one.title, one.threads, one.rounds),
                *(_with_unit(one.first, one.unit), _with_unit(one.second, one.second_unit)),
                *(one.ratio or "-", one.goal, _MET[one.met]),
            )
            yield f"| {' | '.join(map(str, values))} |"

    def _processes(self) -> Iterator[str]:
        yield "| process | threads | loaded in | peak memory |"
        yield "|---|---|---|---|"
        for run in self.runs:
            for name, peak in run.peak_bytes.items():
                memory = f"{peak / 1e9:.2f} GB" if peak else "-"
                yield f"| {name} | {run.threads} | {run.load_s[name]:.1f} s | {memory} |"
        failures = {f"threads {run.threads}: {why}" for run in self.runs for why in _whys(run)}
        yield from (f"\nMissing, {failure}" for failure in sorted(failures))


_MET = {True: "yes", False: "**no**", None: "not measured"}


def result_of(measure: Measure, run: Run) -> Result:
    """A measure's spreads over a run's rounds."""
    rounds = [one for one in run.rounds if measure.first in one and measure.second in one]
    pairs = [(one[measure.first], one[measure.second]) for one in rounds]
    ratio = _spread([measure.ratio(*pair) for pair in pairs])
    return Result(
        key=measure.key,
        title=measure.title,
        threads=run.threads,
        unit=measure.first.unit,
        second_unit=measure.second.unit,
        goal=measure.goal,
        rounds=len(rounds),
        first=_spread(_values(run, measure.first)),
        second=_spread(_values(run, measure.second)),
        ratio=ratio,
        met=None if ratio is None else measure.met(ratio.median),
    )


def _values(run: Run, sample: Sample) -> list[float]:
    return [one[sample] for one in run.rounds if sample in one]


def _spread(values: Sequence[float]) -> Spread | None:
    return Spread.of(values) if values else None


def _with_unit(spread: Spread | None, unit: str) -> str:
    return f"{spread} {unit}" if spread else "-"


def _short(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _whys(run: Run) -> list[str]:
    return list(run.failures.values())


def _run_as_json(run: Run) -> dict[str, Any]:
    rounds = [
        [{**asdict(sample), "answer": answer} for sample, answer in one.items()]
        for one in run.rounds
    ]
    return {**vars(run), "rounds": rounds}
