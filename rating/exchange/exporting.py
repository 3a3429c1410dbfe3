"""Rated trials written as a file of one of the formats.

Which trials there are is `gathering`'s, how they look the format's own module's.
"""

import contextlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import BinaryIO

from db import Database
from db.queries import Filters
from rating.errors import BadExport
from rating.exchange import arena, csv_writing, json_lines, llm_comparator, parquet, trl
from rating.exchange.counted import LeftOut
from rating.exchange.gathering import Flags, gather
from rating.exchange.records import TrialRecord


class Format(StrEnum):
    """In which form ratings are written; `docs/exchange.md` says what each holds."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    TRL = "trl"
    LLM_COMPARATOR = "llm-comparator"
    ARENA = "arena"

    @property
    def is_text(self) -> bool:
        """Whether a terminal or a pipe of text can take it."""
        return self is not Format.PARQUET

    @property
    def file_name(self) -> str:
        """What a file of it is called where nobody chose a name."""
        return _FILE_NAMES[self]


_FILE_NAMES: Mapping[Format, str] = {
    Format.CSV: "twopane-ratings.csv",
    Format.JSONL: "twopane-ratings.jsonl",
    Format.PARQUET: "twopane-ratings.parquet",
    Format.TRL: "twopane-trl.jsonl",
    Format.LLM_COMPARATOR: "twopane-llm-comparator.json",
    Format.ARENA: "twopane-arena.jsonl",
}


@dataclass(frozen=True)
class Selection:
    """Which trials to export, and how.

    Attributes:
        filters: As for the summary.
        rating_session: Only those of the rating session of this id or name.
        flags: Signs of careless rating by trial, beside the stored flags.
        include_flagged: Whether flagged trials stay in the formats that leave them out.
        spreadsheet: Of CSV: make it safe to open in a spreadsheet; it can't be read back then.
    """

    filters: Filters = field(default_factory=Filters)
    rating_session: str | None = None
    flags: Flags = field(default_factory=dict)
    include_flagged: bool = False
    spreadsheet: bool = False


@dataclass(frozen=True)
class Exported:
    """How many trials fit the filters, and how many of them the format left out, by the reason."""

    n_trials: int
    left_out: Mapping[LeftOut, int]


def export_bytes(database: Database, format_: Format, selection: Selection) -> tuple[str, bytes]:
    """Return a name for the file, and what it holds. The caller checks who may have it.

    Raises:
        BadExport: The format has no place for these trials together; says what to choose.
        BadFilter: There is no such rating session.
    """
    out = io.BytesIO()
    write(database, format_, selection, out)
    return format_.file_name, out.getvalue()


def export_file(
    database: Database, format_: Format, selection: Selection, file: Path, *, force: bool = False
) -> Exported:
    """Write a file that is there as a whole or not at all.

    Raises:
        BadExport: It is there already and not `force`, can't be written, or see `export_bytes`.
        BadFilter: There is no such rating session.
    """
    file = file.resolve()  # what a link points to is replaced, not the link
    if file.exists() and not file.is_file():
        raise _failed(file, "it is no regular file")
    if file.exists() and not force:
        raise BadExport(
            "export_exists", f"{file} is there already. Name another, or add --force.", file=file
        )
    try:
        with _replacing(file) as out:
            return write(database, format_, selection, out)
    except OSError as error:
        raise _failed(file, error.strerror) from error


def _failed(file: Path, reason: str | None) -> BadExport:
    words = f"{file} can't be written: {reason}."
    return BadExport("export_failed", words, file=file, reason=reason)


def write(database: Database, format_: Format, selection: Selection, out: BinaryIO) -> Exported:
    """Write to `out`, which stays open; raises as `export_bytes` does."""
    counts = Counter[str]()
    left_out = Counter[LeftOut]()
    with database.read() as session:
        records = gather(
            session,
            selection.filters,
            rating_session=selection.rating_session,
            flags=selection.flags,
        )
        _writer(format_, selection, left_out)(_counting(records, counts), out)
    return Exported(counts["trials"], left_out)


def _counting(records: Iterable[TrialRecord], counts: Counter[str]) -> Iterator[TrialRecord]:
    for record in records:
        counts["trials"] += 1
        yield record


def _writer(
    format_: Format, selection: Selection, left_out: Counter[LeftOut]
) -> Callable[[Iterable[TrialRecord], BinaryIO], None]:
    whole: dict[Format, Callable[[Iterable[TrialRecord], BinaryIO], None]] = {
        Format.CSV: partial(csv_writing.write, spreadsheet=selection.spreadsheet),
        Format.JSONL: json_lines.write,
        Format.PARQUET: parquet.write,
    }
    if format_ in whole:
        return whole[format_]
    selecting = {
        Format.TRL: trl.write,
        Format.LLM_COMPARATOR: llm_comparator.write,
        Format.ARENA: arena.write,
    }
    include = selection.include_flagged
    return partial(selecting[format_], left_out=left_out, include_flagged=include)


@contextlib.contextmanager
def _replacing(file: Path) -> Iterator[BinaryIO]:
    """Open a file beside `file` that takes its place once it is written and on the disk."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
