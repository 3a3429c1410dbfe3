"""The long form as CSV: RFC 4180, UTF-8. `csv_reading` reads it back.

Text stands as it was entered, so that it can be read back. A spreadsheet would take some of it for
formulas, and they are other people's: `spreadsheet` is the form for that, and for that only.
"""

import csv
import io
from collections.abc import Iterable
from typing import BinaryIO

from rating.exchange.long_form import COLUMNS, LongRow, long_rows
from rating.exchange.records import TrialRecord, moment_text

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""By what OWASP's page on CSV injection names."""


def write(records: Iterable[TrialRecord], out: BinaryIO, *, spreadsheet: bool = False) -> None:
    """Write all records to `out`.

    Args:
        records: In the order in which they shall stand.
        out: Stays open.
        spreadsheet: Begin with a byte order mark, by which Excel knows UTF-8, and put an
            apostrophe before text that would be a formula.
    """
    encoding = "utf-8-sig" if spreadsheet else "utf-8"
    text = io.TextIOWrapper(out, encoding=encoding, newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for record in records:
        for row in long_rows(record):
            cells = _cells(row)
            writer.writerow(map(_harmless, cells) if spreadsheet else cells)
    text.flush()
    text.detach()


def _cells(row: LongRow) -> list[str]:
    as_text = row._asdict() | {
        "turns": str(row.turns),
        "score": "" if row.score is None else str(row.score),
        "blind": "true" if row.blind else "false",
        "rated_at": moment_text(row.rated_at),
        "flags": ";".join(row.flags),
    }
    return list(as_text.values())


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell
