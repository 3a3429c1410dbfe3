"""Preferences as TRL trains on them: rows (prompt, chosen, rejected) in its conversational form.

Only trials of one turn: after several, each model had a history of its own, and no two answers to
one and the same conversation were compared. The format: https://huggingface.co/docs/trl/dataset_formats
"""

from collections import Counter
from collections.abc import Iterable
from typing import BinaryIO

from db import Preference, Side
from rating.exchange.counted import LeftOut, counted, is_clear
from rating.exchange.json_lines import line_of
from rating.exchange.records import TrialRecord


def write(
    records: Iterable[TrialRecord],
    out: BinaryIO,
    left_out: Counter[LeftOut],
    *,
    include_flagged: bool = False,
) -> None:
    """Write the clear preferences to `out`, with the answers as the models wrote them.

    Raises:
        BadExport: Blind and open ones are mixed.
    """
    for record in counted(records, left_out, include_flagged=include_flagged, careless_only=False):
        reason = _reason(record)
        if reason:
            left_out[reason] += 1
        else:
            out.write(line_of(_row(record)))


def _answers(record: TrialRecord) -> dict[Side, str]:
    last = {side: record.turns[0].last(side) for side in Side}
    return {side: answer.raw_text for side, answer in last.items() if answer and answer.raw_text}


def _reason(record: TrialRecord) -> LeftOut | None:
    if not is_clear(record):
        return LeftOut.NOT_CLEAR
    if len(record.turns) > 1:
        return LeftOut.SEVERAL_TURNS
    answers = _answers(record)
    if len(answers) < len(Side):
        return LeftOut.NO_ANSWERS
    return LeftOut.SAME_ANSWERS if len(set(answers.values())) == 1 else None


def _row(record: TrialRecord) -> dict[str, object]:
    left, right = (_answers(record)[side] for side in Side)
    prefers_left = record.rating.preference is Preference.LEFT
    chosen, rejected = (left, right) if prefers_left else (right, left)
    return {
        "prompt": [{"role": "user", "content": record.turns[0].prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }
