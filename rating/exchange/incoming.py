"""What a file brings that shall be imported: trials, and what is wrong with it.

Reads no file and finds nothing wrong by itself; that is the readers' and `storing`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from rating.errors import BadImport
from rating.exchange.records import TrialRecord

MOST_LISTED = 20


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong; `column` is "" where it is about the whole line."""

    line: int
    column: str
    reason: str

    def __str__(self) -> str:
        where = f"line {self.line}" + (f", {self.column}" if self.column else "")
        return f"{where}: {self.reason}"


@dataclass(frozen=True)
class Incoming:
    """One trial of a file, and the line where it begins.

    `columns` are those of the long form that the file gives of it; None: it gives everything.
    """

    line: int
    record: TrialRecord
    columns: frozenset[str] | None = None


@dataclass
class Contents:
    """What a file holds; it may be imported only if nothing is wrong with any of it."""

    trials: list[Incoming] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def problems_of(error: ValidationError, line: int) -> list[Problem]:
    """Return what a check of a record found, with the path of the field for a column."""
    return [
        Problem(
            line,
            ".".join(str(part) for part in one["loc"]),
            one["msg"].removeprefix("Value error, "),
        )
        for one in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def refusal(name: str, problems: Sequence[Problem]) -> BadImport:
    """Return the error that lists the first of the problems, in the order of their lines."""
    listed = [f"{name}, {problem}" for problem in sorted(problems)[:MOST_LISTED]]
    if len(problems) > MOST_LISTED:
        listed.append(f"... and {len(problems) - MOST_LISTED} more.")
    return BadImport(["Nothing was imported.", *listed])
