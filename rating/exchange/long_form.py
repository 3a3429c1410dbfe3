"""Ratings in the long form: one row for each trial, side and dimension, ten rows a trial.

The columns of the CSV and the Parquet file; knows neither of these formats.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from db import Dimension, Preference, Side
from rating.exchange.records import TrialRecord


class LongRow(NamedTuple):
    """One score of one side; `score` is None where the dimension does not apply.

    `prompt` is the first turn's, `turns` the number of all.
    """

    trial: str
    rater: str
    prompt_id: str
    prompt: str
    turns: int
    model: str
    side: Side
    dimension: Dimension
    score: int | None
    preference: Preference
    comment: str
    blind: bool
    rated_at: datetime
    flags: tuple[str, ...]


COLUMNS = LongRow._fields
"""The names of the columns, in their order."""


def long_rows(record: TrialRecord) -> Iterator[LongRow]:
    """Yield the rows of a trial: left before right, the dimensions in their order."""
    rating = record.rating
    for side in Side:
        for dimension in Dimension:
            yield LongRow(
                trial=record.trial,
                rater=record.rater,
                prompt_id=record.prompt_id or "",
                prompt=record.turns[0].prompt,
                turns=len(record.turns),
                model=record.model_on(side),
                side=side,
                dimension=dimension,
                score=rating.scores[side][dimension],
                preference=rating.preference,
                comment=rating.comment,
                blind=record.blind,
                rated_at=rating.rated_at,
                flags=tuple(record.marks),
            )
