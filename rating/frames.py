"""The ratings frame: every rated trial that fits as one row, which all statistics are made of.

Only reads and shapes; which rows count is `summary`'s. Raters are in it by their pseudonyms alone.
"""

import gc
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from db import Database, Dimension, Side, TrialKind, public_name
from db.queries import Filters
from db.rating_queries import (
    SCORE_BASE,
    SCORE_PLACES,
    Rows,
    answer_lengths,
    assignments_plain,
    pseudonyms,
    rated_trials_plain,
    ratings_plain,
    score_digits,
    turns_plain,
)

SCORES = {key: {side: f"{side}_{key}" for side in Side} for key in Dimension}
"""The names of the score columns, by dimension and side."""

Array = np.ndarray[Any, np.dtype[Any]]

_UNKNOWN = np.iinfo(np.int64).min  # what NumPy takes for no moment
_ASSIGNED = ("session", "prompt", "kind", "repeat_of", "better")


def ratings_frame(database: Database, filters: Filters) -> pd.DataFrame:
    """Return the rated trials that fit, one row each, the newest rating first.

    Columns:
        trial, rater (pseudonym), session, prompt (its id in a set, else its words), pair,
        left_model, right_model, blind, language, kind ("regular", "repeat", "attention"),
        repeat_of, better, preference, guess: as `db`'s tables have them; missing where there is
            none.
        n_turns: Number of turns, 0 where none is known.
        rated_at: UTC.
        rating_s: Seconds from the first turn's creation to the rating; NaN is unknown.
        ready_s: Seconds from the end of the last answer to the rating; NaN is unknown.
        left_chars, right_chars: Characters of all shown answers of that side; NaN is unknown.
        flags: Tuple of the trial's stored flags.
        left_understanding and so on: Ten columns, 1 to 5; NaN is "not applicable".
    """
    with database.read() as session, _without_collecting():
        trials = rated_trials_plain(session, filters)
        row_of = {row[0]: place for place, row in enumerate(trials)}
        assigned = _assigned(row_of, assignments_plain(session, filters))
        columns = _trials(trials, pseudonyms(session)) | assigned
        del trials
        columns |= _rated(row_of, ratings_plain(session, filters))
        columns |= _turns(row_of, turns_plain(session, filters), assigned["prompt"])
        turn_ids, rows = columns.pop("turn_ids"), columns.pop("turn_rows")
        columns |= _answers(len(row_of), turn_ids, rows, answer_lengths(session, filters))
        rating_ids = columns.pop("rating_id")
        columns |= _scores(rating_ids, score_digits(session, filters))
    rated_at = columns["rated_at"]
    columns["rating_s"] = _seconds_between(columns.pop("asked_at"), rated_at)
    columns["ready_s"] = _seconds_between(columns.pop("answered_at"), rated_at)
    newest_first = np.lexsort((-rating_ids, -rated_at.astype(np.int64)))
    frame = pd.DataFrame({name: values[newest_first] for name, values in columns.items()})
    return frame.assign(rated_at=frame["rated_at"].dt.tz_localize("UTC"))


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Keep Python from looking for cycles, of which rows of a database have none.

    For 100,000 ratings it would look again and again: 0.8 s of 2.8 s (2026-11-29).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def fitting(frame: pd.DataFrame, filters: Filters) -> pd.DataFrame:
    """Return the rows that fit, as `ratings_frame` with these filters would have read them."""
    fits = np.ones(len(frame), dtype=bool)
    for column, wanted in (
        ("pair", filters.pair),
        ("blind", filters.blind),
        ("language", filters.language),
        ("session", filters.session),
    ):
        if wanted is not None:
            fits &= (frame[column] == wanted).to_numpy(dtype=bool)
    if filters.since is not None:
        fits &= (frame["rated_at"] >= filters.since).to_numpy(dtype=bool)
    if filters.until is not None:
        fits &= (frame["rated_at"] < filters.until).to_numpy(dtype=bool)
    if filters.hidden_sessions:
        fits &= ~frame["session"].isin(filters.hidden_sessions).to_numpy(dtype=bool)
    return frame[fits]


def _trials(trials: Rows, known: Mapping[str, str]) -> dict[str, Array]:
    _, raters, pairs, left, right, blind, languages, flags = _columns(trials, 8)
    names = {rater: known.get(rater) or public_name(rater) for rater in set(raters)}
    parsed = {text: tuple(json.loads(text)) if text else () for text in set(flags)}
    return {
        "trial": _objects([row[0] for row in trials]),
        "rater": _objects([names[rater] for rater in raters]),
        "pair": _shared(pairs),
        "left_model": _shared(left),
        "right_model": _shared(right),
        "blind": np.asarray(blind, dtype=bool),
        "language": _shared(languages),
        "flags": _objects([parsed[text] for text in flags]),
    }


def _assigned(row_of: Mapping[str, int], assignments: Rows) -> dict[str, Array]:
    columns = {name: np.full(len(row_of), None, dtype=object) for name in _ASSIGNED}
    columns["kind"][:] = TrialKind.REGULAR.value
    trials, *values = _columns(assignments, 6)
    rows, known = _places(row_of, trials)
    for name, texts in zip(_ASSIGNED, values, strict=True):
        columns[name][rows] = _shared(texts)[known]
    return columns


def _rated(row_of: Mapping[str, int], ratings: Rows) -> dict[str, Array]:
    trials, ids, preferences, guesses, moments = _columns(ratings, 5)
    rows, known = _places(row_of, trials)
    return {
        "preference": _placed(len(row_of), rows, _shared(preferences)[known], None),
        "guess": _placed(len(row_of), rows, _shared(guesses)[known], None),
        "rated_at": _placed(len(row_of), rows, _moments(moments)[known], _UNKNOWN),
        "rating_id": _placed(len(row_of), rows, np.asarray(ids, np.int64)[known], 0),
    }


def _turns(row_of: Mapping[str, int], turns: Rows, assigned: Array) -> dict[str, Array]:
    """Return what the turns tell, and the row of each turn."""
    trials, ids, positions, prompt_ids, created, prompts = _columns(turns, 6)
    rows, known = _places(row_of, trials)
    first = np.asarray(positions, np.int64)[known] == 1
    words = _objects([a or b for a, b in zip(prompt_ids, prompts, strict=True)])[known][first]
    asked = _placed(len(row_of), rows[first], words, "")
    asked_at = _moments(created)[known][first]
    return {
        "prompt": np.where(assigned.astype(bool), assigned, asked),
        "asked_at": _placed(len(row_of), rows[first], asked_at, _UNKNOWN),
        "n_turns": np.bincount(rows, minlength=len(row_of)),
        "turn_ids": np.asarray(ids, np.int64)[known],
        "turn_rows": rows,
    }


def _answers(n_rows: int, turn_ids: Array, rows: Array, lengths: Rows) -> dict[str, Array]:
    """Return what the shown answers tell: their lengths, and when the last was complete."""
    turns, left, right, complete_at = _columns(lengths, 4)
    place, known = _found(turn_ids, np.asarray(turns, np.int64))
    rows = rows[place]
    columns = {}
    for name, counts in (("left_chars", left), ("right_chars", right)):
        characters = np.asarray(counts, dtype=float)[known]
        sums = np.bincount(rows, weights=characters, minlength=n_rows)
        columns[name] = np.where(np.bincount(rows, minlength=n_rows) > 0, sums, np.nan)
    latest = np.full(n_rows, _UNKNOWN)
    np.maximum.at(latest, rows, _moments(complete_at)[known].astype(np.int64))
    return columns | {"answered_at": latest.astype("M8[us]")}


def _scores(rating_ids: Array, digits: Rows) -> dict[str, Array]:
    ids, numbers = _columns(digits, 2)
    place, known = _found(rating_ids, np.asarray(ids, np.int64))
    found = _placed(len(rating_ids), place, np.asarray(numbers, np.int64)[known], 0)
    scores = {}
    for exponent, (side, key) in enumerate(SCORE_PLACES):
        score = found // SCORE_BASE**exponent % SCORE_BASE
        scores[SCORES[key][side]] = np.where(score > 0, score, np.nan)
    return scores


def _columns(rows: Rows, count: int) -> list[Sequence[Any]]:
    return list(zip(*rows, strict=True)) or [()] * count


def _objects(values: Sequence[Any]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _shared(texts: Sequence[str | None]) -> Array:
    """Return texts that are often the same, each kept once."""
    kept: dict[str | None, str | None] = {}
    return _objects([kept.setdefault(text, text) for text in texts])


def _places(row_of: Mapping[str, int], trials: Sequence[str]) -> tuple[Array, Array]:
    """Return the rows of those trials that have one, and which have."""
    places = np.asarray([row_of.get(trial, -1) for trial in trials], dtype=np.int64)
    return places[places >= 0], places >= 0


def _found(ids: Array, wanted: Array) -> tuple[Array, Array]:
    """Return where in `ids`, which are all different, the wanted ones are, and which are there."""
    order = np.argsort(ids, kind="stable")
    place = np.searchsorted(ids, wanted, sorter=order)
    place = order[np.minimum(place, len(ids) - 1)] if len(ids) else np.zeros(len(wanted), int)
    known = ids[place] == wanted if len(ids) else np.zeros(len(wanted), bool)
    return place[known], known


def _placed(n_rows: int, rows: Array, values: Array, otherwise: object) -> Array:
    column = np.full(n_rows, otherwise, dtype=values.dtype)
    column[rows] = values
    return column


def _moments(values: Sequence[Any]) -> Array:
    """Return moments in UTC, without saying so: what NumPy can compute with."""
    moments = pd.DatetimeIndex(pd.to_datetime(list(values), utc=True, format="ISO8601"))
    return moments.as_unit("us").tz_localize(None).to_numpy()


def _seconds_between(start: Array, end: Array) -> Array:
    """Return NaN also where the order is wrong, as of ratings that were imported."""
    seconds = (end - start) / np.timedelta64(1, "s")
    return np.where(seconds >= 0, seconds, np.nan)


def long_scores(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each trial, side and dimension, NaN being "not applicable".

    Columns: trial, prompt, pair, model, dimension, score.
    """
    parts = [
        frame[["trial", "prompt", "pair"]].assign(
            model=frame[f"{side}_model"], dimension=key.value, score=frame[SCORES[key][side]]
        )
        for key in Dimension
        for side in Side
    ]
    return pd.concat(parts, ignore_index=True)
