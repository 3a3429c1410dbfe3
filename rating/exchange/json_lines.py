"""Trials as JSON Lines: one object a trial with everything about it, written and read back.

The fields are `records.TrialRecord`'s.
"""

import json
from collections.abc import Iterable
from typing import BinaryIO

from pydantic import ValidationError

from rating.exchange.incoming import Contents, Incoming, problems_of
from rating.exchange.records import TrialRecord


def write(records: Iterable[TrialRecord], out: BinaryIO) -> None:
    """Write all records to `out`, which stays open."""
    for record in records:
        out.write(line_of(record.model_dump(mode="json")))


def line_of(data: object) -> bytes:
    """Return plain data as one line of JSON."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode() + b"\n"


def read(text: str) -> Contents:
    """Return what the lines of a file say; empty ones are left out.

    Only a line feed ends a line: other separators may stand inside the texts of JSON.
    """
    contents = Contents()
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            contents.trials.append(Incoming(number, TrialRecord.model_validate_json(line)))
        except ValidationError as error:
            contents.problems += problems_of(error, number)
    return contents
