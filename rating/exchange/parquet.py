"""The long form as a Parquet file, typed: scores are integers, moments are moments.

Not read back; CSV and JSON Lines are.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO

from rating.exchange.long_form import COLUMNS, LongRow, long_rows
from rating.exchange.records import TrialRecord

_TRIALS_AT_ONCE = 5_000


def write(records: Iterable[TrialRecord], out: BinaryIO) -> None:
    """Write all records to `out`, which stays open, a few thousand trials a row group."""
    import pyarrow as pa  # noqa: PLC0415 - takes long, and only this format needs it
    import pyarrow.parquet as pq  # noqa: PLC0415

    types = {
        "turns": pa.int32(),
        "score": pa.int8(),
        "blind": pa.bool_(),
        "rated_at": pa.timestamp("us", tz="UTC"),
    }
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    with pq.ParquetWriter(out, schema) as writer:
        for rows in _groups(records):
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _groups(records: Iterable[TrialRecord]) -> Iterator[list[dict[str, Any]]]:
    waiting = iter(records)
    while some := list(islice(waiting, _TRIALS_AT_ONCE)):
        yield [_values(row) for record in some for row in long_rows(record)]


def _values(row: LongRow) -> dict[str, Any]:
    words = {name: str(getattr(row, name)) for name in ("side", "dimension", "preference")}
    return row._asdict() | words | {"flags": ";".join(row.flags)}
