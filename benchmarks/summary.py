"""What `python app.py summary` costs as ratings grow: seconds and peak memory of the whole command.

    python -m benchmarks.summary --runs 5

Each database is made anew (see `rated_database`), then summarised several times by a process of its
own. Prints a table with the median of the seconds and the most memory; includes the start of
Python, reading, all statistics with their bootstraps, and printing JSON. Without rows that is what
the program itself takes; the last three columns are what the rows take beyond it.
"""

import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Annotated

import typer

from benchmarks.rated_database import fill
from db import Database

_ROOT = Path(__file__).parent.parent
_SCORES_PER_RATING = 10
_KIB = 1024
_HEAD = """\
| score rows | ratings | seconds | of them CPU | peak memory (MB) | the rows: s | CPU s | MB |
|---|---|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Cost:
    """What the command took."""

    seconds: float
    cpu_s: float
    peak_bytes: int

    def __sub__(self, other: "Cost") -> "Cost":
        """Return what it took beyond another."""
        return Cost(
            self.seconds - other.seconds,
            self.cpu_s - other.cpu_s,
            self.peak_bytes - other.peak_bytes,
        )

    def __str__(self) -> str:
        """Return three columns of the table."""
        return f"{self.seconds:.2f} | {self.cpu_s:.2f} | {self.peak_bytes / 1e6:.0f}"


def main(
    rows: Annotated[list[int] | None, typer.Option(help="score rows; may be repeated")] = None,
    runs: Annotated[int, typer.Option(help="how often each is summarised")] = 3,
) -> None:
    """Measure and print the table."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print(_HEAD)
    program = _cost(0, runs)
    print(f"| 0 | 0 | {program} | | | |", flush=True)
    for n_rows in rows or (10_000, 100_000, 1_000_000):
        cost = _cost(n_rows, runs)
        n_ratings = n_rows // _SCORES_PER_RATING
        print(f"| {n_rows:,} | {n_ratings:,} | {cost} | {cost - program} |", flush=True)


def _cost(n_rows: int, runs: int) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/twopane.db"
        database = Database.open(url)
        fill(database, n_rows // _SCORES_PER_RATING)
        database.close()
        costs = [_summarise(url) for _ in range(runs)]
    return Cost(
        statistics.median(cost.seconds for cost in costs),
        statistics.median(cost.cpu_s for cost in costs),
        max(cost.peak_bytes for cost in costs),
    )


def _summarise(url: str) -> Cost:
    command = [sys.executable, "app.py", "summary", "--format=json", "--database-url", url]
    began = time.monotonic()
    with Popen(command, cwd=_ROOT, stdout=DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the command ended with {process.returncode}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _KIB)


if __name__ == "__main__":
    typer.run(main)
