"""Battles as arena-rank and the notebooks around LMArena's data read them, as JSON Lines.

Model a is the left one, so that an effect of the side can be found. Who reads them may know of
neither several scores nor raters of the same prompt.
"""

from collections import Counter
from collections.abc import Iterable
from typing import BinaryIO

from db import Preference
from rating.exchange.counted import LeftOut, counted
from rating.exchange.json_lines import line_of
from rating.exchange.records import TrialRecord

_WINNERS = {
    Preference.LEFT: "model_a",
    Preference.RIGHT: "model_b",
    Preference.TIE: "tie",
    Preference.BOTH_BAD: "both_bad",
}
"""The words of `arena_rank.utils.data_utils.default_outcome_map`; any other would be a tie."""


def write(
    records: Iterable[TrialRecord],
    out: BinaryIO,
    left_out: Counter[LeftOut],
    *,
    include_flagged: bool = False,
) -> None:
    """Write a battle a trial to `out`.

    Raises:
        BadExport: Blind and open ones are mixed.
    """
    for record in counted(records, left_out, include_flagged=include_flagged):
        out.write(line_of(_battle(record)))


def _battle(record: TrialRecord) -> dict[str, object]:
    return {
        "model_a": record.left_model,
        "model_b": record.right_model,
        "winner": _WINNERS[record.rating.preference],
        "judge": record.rater,
        "turn": len(record.turns),
        "language": record.language.value,
        "tstamp": record.rating.rated_at.timestamp(),
    }
