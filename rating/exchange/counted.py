"""Which trials count in files that other tools make figures or models of, and why others don't.

CSV, JSON Lines and Parquet hold everything, with its flags; these files have no place for flags.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum

from db import Preference, Side, TrialKind
from rating.errors import BadExport
from rating.exchange.records import TrialRecord
from rating.trial import self_naming_flag

_NOT_CARELESS = frozenset(self_naming_flag(side) for side in Side)


class LeftOut(StrEnum):
    """Why a trial is not in the file."""

    ATTENTION = "attention trials"
    REPEAT = "repeats"
    FLAGGED = "flagged"
    NOT_CLEAR = "no clear preference"
    SEVERAL_TURNS = "several turns"
    NO_ANSWERS = "without answers"
    SAME_ANSWERS = "the same answer twice"


def counted(
    records: Iterable[TrialRecord],
    left_out: Counter[LeftOut],
    *,
    include_flagged: bool = False,
    careless_only: bool = True,
) -> Iterator[TrialRecord]:
    """Yield the records that count.

    Attention trials never do: their answers are no model's. Nor do repeats: they are the same
    comparison again.

    Args:
        records: All that fit the filters.
        left_out: Counts why others are left out.
        include_flagged: Whether flagged ones count too.
        careless_only: Whether a flag by which an answer only named its model is none.

    Raises:
        BadExport: Some are blind and some are open; they are never mixed.
    """
    modes = set()
    for record in records:
        reason = _reason(record, include_flagged, careless_only)
        if reason:
            left_out[reason] += 1
            continue
        modes.add(record.blind)
        if len(modes) > 1:
            raise BadExport(
                "export_modes",
                "Some of these ratings are blind and some are open, and the two are never mixed. "
                "Choose one kind: --blind or --open.",
            )
        yield record


def _reason(record: TrialRecord, include_flagged: bool, careless_only: bool) -> LeftOut | None:
    if record.kind is TrialKind.ATTENTION:
        return LeftOut.ATTENTION
    if record.kind is TrialKind.REPEAT:
        return LeftOut.REPEAT
    flags = set(record.flags) - (_NOT_CARELESS if careless_only else set())
    return LeftOut.FLAGGED if flags and not include_flagged else None


def is_clear(record: TrialRecord) -> bool:
    """Whether the rater preferred one side."""
    return record.rating.preference in (Preference.LEFT, Preference.RIGHT)
