"""Rated trials to start from; each test changes what it is about."""

from datetime import UTC, datetime, timedelta
from typing import Any

from db import Database, Dimension, Preference, Score, Side, Trial, TrialState
from tests.db import rows

TINY = ("tiny-chatglm", "tiny-qwen")
OTHER = ("alpha@host", "beta@host")
NOON = datetime(2026, 2, 28, 12, tzinfo=UTC)


def rated(
    models: tuple[str, str] = TINY,
    *,
    left: int = 0,
    scores: tuple[int | None, int | None] = (4, 2),
    preference: Preference = Preference.TIE,
    prompt: str = "你好",
    prompt_id: str | None = None,
    rated_at: datetime = NOON,
    asked_at: datetime | None = None,
    state: TrialState = TrialState.REVEALED,
    guess: Side | None = None,
    **changes: Any,
) -> Trial:
    """A rated trial of one turn; `scores` are those of `models`, `left` is which one is left."""
    by_side = dict(zip(Side, (models[left], models[1 - left]), strict=True))
    trial = rows.trial(
        pair="|".join(models),
        left_model=by_side[Side.LEFT],
        right_model=by_side[Side.RIGHT],
        state=state,
        **{"flags": [], **changes},
    )
    asked = asked_at or rated_at - timedelta(minutes=2)
    turn = rows.turn(trial=trial, prompt=prompt, prompt_id=prompt_id, created_at=asked)
    for side, key in by_side.items():
        complete = min(rated_at, asked + timedelta(seconds=30))
        rows.answer(turn=turn, side=side, model_key=key, finished_at=complete)
    rows.rating(
        trial=trial,
        preference=preference,
        rated_at=rated_at,
        guess=guess,
        scores=[
            Score(side=side, dimension=dimension, score=scores[models.index(key)])
            for side, key in by_side.items()
            for dimension in Dimension
        ],
    )
    return trial


def store(database: Database, *stored: Any) -> None:
    with database.write() as session:
        session.add_all(stored)
