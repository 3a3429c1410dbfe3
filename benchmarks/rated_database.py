"""A database full of made-up ratings, written quickly: what the summary's cost is measured on.

Nothing in it is true of any model. Raters of a prompt agree to a degree, and one model is a little
better, so that every statistic has something to find.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from sqlalchemy import insert

from db import (
    Answer,
    Base,
    Database,
    Dimension,
    FinishReason,
    Language,
    Preference,
    Rater,
    Rating,
    Score,
    Side,
    Trial,
    TrialState,
    Turn,
)

RATERS_PER_PROMPT = 5
_RATINGS_PER_RATER = 50
_MODELS = ("alpha@http://10.0.0.1:8000/v1", "beta@http://10.0.0.2:8000/v1")
_START = datetime(2026, 1, 1, tzinfo=UTC)
_CHUNK = 2_000
_SEED = 20_260_228

Rows = dict[type[Base], list[dict[str, Any]]]


def fill(database: Database, n_ratings: int) -> None:
    """Store so many rated trials of one turn, each with two answers and ten scores."""
    random = Random(_SEED)
    n_raters = max(RATERS_PER_PROMPT, n_ratings // _RATINGS_PER_RATER)
    raters = [f"{random.getrandbits(128):032x}" for _ in range(n_raters)]
    with database.write() as session:
        session.execute(insert(Rater), [{"id": r, "language": Language.ZH} for r in raters])
    for chunk in _chunks(random, raters, n_ratings):
        with database.write() as session:
            for table, rows in chunk.items():
                session.execute(insert(table), rows)


def _chunks(random: Random, raters: list[str], n_ratings: int) -> Iterator[Rows]:
    for start in range(1, n_ratings + 1, _CHUNK):
        rows: Rows = {table: [] for table in (Trial, Turn, Answer, Rating, Score)}
        for number in range(start, min(start + _CHUNK, n_ratings + 1)):
            _add_trial(rows, random, raters[number % len(raters)], number)
        yield rows


def _add_trial(rows: Rows, random: Random, rater: str, number: int) -> None:
    trial = f"{random.getrandbits(128):032x}"
    asked_at = _START + timedelta(minutes=number)
    rated_at = asked_at + timedelta(seconds=random.randint(40, 300))
    first = random.getrandbits(1)
    on = dict(zip(Side, (_MODELS[first], _MODELS[1 - first]), strict=True))
    rows[Trial].append(
        {
            "id": trial,
            "rater_id": rater,
            "pair": "|".join(_MODELS),
            "left_model": on[Side.LEFT],
            "right_model": on[Side.RIGHT],
            "blind": True,
            "language": Language.ZH,
            "state": TrialState.REVEALED,
            "flags": [],
            "created_at": asked_at,
            "updated_at": rated_at,
            "revealed_at": rated_at,
        }
    )
    prompt = (number - 1) // RATERS_PER_PROMPT
    rows[Turn].append(
        {
            "id": number,
            "trial_id": trial,
            "position": 1,
            "prompt": f"问题 {prompt}",
            "prompt_id": f"p{prompt}",
            "created_at": asked_at,
        }
    )
    rows[Answer] += [_answer(random, number, side, on[side], asked_at) for side in Side]
    rows[Rating].append(
        {
            "id": number,
            "trial_id": trial,
            "rater_id": rater,
            "preference": random.choice(list(Preference)),
            "comment": "",
            "guess": None,
            "rated_at": rated_at,
        }
    )
    rows[Score] += _scores(random, number, prompt, on)


def _answer(
    random: Random, turn: int, side: Side, model: str, asked_at: datetime
) -> dict[str, Any]:
    text = "好" * random.randint(80, 400)
    return {
        "turn_id": turn,
        "side": side,
        "attempt": 1,
        "text": text,
        "raw_text": text,
        "finish_reason": FinishReason.STOP,
        "seed": turn,
        "settings": {"temperature": 0.7, "max_tokens": 512},
        "model_key": model,
        "model_revision": "1",
        "precision": "float32",
        "cached": False,
        "prompt_tokens": 12,
        "completion_tokens": len(text),
        "first_token_s": 0.3,
        "total_s": 9.0,
        "started_at": asked_at,
        "finished_at": asked_at + timedelta(seconds=9),
    }


def _scores(random: Random, rating: int, prompt: int, on: dict[Side, str]) -> list[dict[str, Any]]:
    ease = Random(prompt).gauss(3.4, 0.7)
    rows = []
    for side in Side:
        better = 0.2 * (on[side] == _MODELS[1])
        for dimension in Dimension:
            score = round(min(5.0, max(1.0, random.gauss(ease + better, 0.8))))
            known = None if dimension is Dimension.MEMORY and random.random() < 0.1 else score
            rows.append({"rating_id": rating, "side": side, "dimension": dimension, "score": known})
    return rows
