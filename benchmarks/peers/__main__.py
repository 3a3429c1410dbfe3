"""Measures the engine beside llama.cpp and chatglm.cpp, in ratios, and writes tables.

    python -m benchmarks.peers --folder build/peers --out build/peers/report

Builds both from their packages' sources (gcc, cmake, once), makes full-size weights with random
numbers (10 GB of disk, once) and runs all contenders in turn, each in a process of its own, with 2
threads and with 1. A full run takes two hours; --quick a fourth of it. --only chooses measures.
"""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.peers.building import BuildError
from benchmarks.peers.lineup import Lineup, prepare
from benchmarks.peers.machine import this_machine
from benchmarks.peers.measures import Measure, chosen, measures
from benchmarks.peers.report import Report
from benchmarks.peers.rounds import Race, Run, samples_of

_QUICK_ROUNDS = 2


def main(
    folder: Annotated[Path, typer.Option(help="where the peers are, or are built")] = Path(
        "build/peers"
    ),
    weights: Annotated[
        Path | None, typer.Option(help="where our checkpoints are, or are made: FOLDER/weights")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="gets peers.json and peers.md")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="of all that takes seconds")] = 5,
    slow_rounds: Annotated[int, typer.Option(min=1, help="of what takes minutes")] = 2,
    quick: Annotated[bool, typer.Option(help="few rounds")] = False,
    only: Annotated[list[str] | None, typer.Option(help="part of a measure's key")] = None,
    threads: Annotated[list[int] | None, typer.Option(min=1, help="2 and 1")] = None,
) -> None:
    """Build, measure, print and write."""
    wanted = chosen(measures(), only or [])
    if not wanted:
        keys = ", ".join(one.key for one in measures())
        raise typer.BadParameter(f"there are {keys}", param_hint="--only")
    machine, begun = this_machine(), datetime.now(UTC)
    try:
        names = {sample.contender for sample in samples_of(wanted)}
        lineup = prepare(names, folder, weights or folder / "weights", _say)
    except BuildError as error:
        _say(str(error))
        raise typer.Exit(1) from error
    counts = (_QUICK_ROUNDS, 1) if quick else (rounds, slow_rounds)
    runs = _races(lineup, wanted, threads or [2, 1], counts, folder)
    command = f"python -m benchmarks.peers {shlex.join(sys.argv[1:])}"
    report = Report(f"{begun:%Y-%m-%d %H:%M} UTC", command, machine, lineup.peers, wanted, runs)
    typer.echo(report.as_markdown())
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "peers.md").write_text(report.as_markdown(), "utf-8")
        text = json.dumps(report.as_json(), indent=1, ensure_ascii=False)
        (out / "peers.json").write_text(f"{text}\n", "utf-8")


def _races(
    lineup: Lineup,
    wanted: Sequence[Measure],
    threads: Sequence[int],
    counts: tuple[int, int],
    folder: Path,
) -> list[Run]:
    runs = []
    for group in dict.fromkeys(one.group for one in wanted):
        together = [one for one in wanted if one.group == group]
        for number in threads:
            if number > len(os.sched_getaffinity(0)):
                _say(f"{number} threads: there are not so many cores")
                continue
            runs.append(run := Run(group, number))
            for step in Race(lineup.contenders, run, folder).go(together, *counts):
                _say(f"{group}, threads: {number}, {step}")
    return runs


def _say(text: str) -> None:
    typer.echo(text, err=True)


if __name__ == "__main__":
    typer.run(main)
