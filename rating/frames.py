"""The ratings frame: every rated trial that fits as one row, which all statistics are made of.

Only reads and shapes; which rows count is `summary`'s. Raters are in it by their pseudonyms alone.
"""

import gc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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
        columns = _trials(rated_trials_plain(session, filters), pseudonyms(session))
        row_of = {trial: place for place, trial in enumerate(columns["trial"])}
        assigned = _assigned(row_of, assignments_plain(session, filters))
        columns |= assigned
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
    series = {}
    while columns:  # each in the place of the former: all of them twice would be much
        name = next(iter(columns))
        series[name] = pd.Series(columns.pop(name)[newest_first])
    frame = pd.DataFrame(series, copy=False)
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
    return chosen(frame, fits)


def chosen(frame: pd.DataFrame, rows: Array) -> pd.DataFrame:
    """Return some rows of a frame; all of them without a copy."""
    return frame if rows.all() else frame[rows]


def _trials(trials: Rows, known: Mapping[str, str]) -> dict[str, Array]:
    ids, raters, pairs, left, right, blind, languages, flags = _columns(
        trials, _objects, *(_Kept() for _ in range(4)), _numbers, _Kept(), _Kept()
    )
    names = {rater: known.get(rater) or public_name(rater) for rater in set(raters)}
    parsed = {text: tuple(json.loads(text)) if text else () for text in set(flags)}
    return {
        "trial": ids,
        "rater": _objects([names[rater] for rater in raters]),
        "pair": pairs,
        "left_model": left,
        "right_model": right,
        "blind": blind.astype(bool),
        "language": languages,
        "flags": _objects([parsed[text] for text in flags]),
    }


def _assigned(row_of: Mapping[str, int], assignments: Rows) -> dict[str, Array]:
    columns = {name: np.full(len(row_of), None, dtype=object) for name in _ASSIGNED}
    columns["kind"][:] = TrialKind.REGULAR.value
    rows, *values = _columns(assignments, _Places(row_of), *(_Kept() for _ in _ASSIGNED))
    for name, texts in zip(_ASSIGNED, values, strict=True):
        columns[name][rows[rows >= 0]] = texts[rows >= 0]
    return columns


def _rated(row_of: Mapping[str, int], ratings: Rows) -> dict[str, Array]:
    rows, ids, preferences, guesses, moments = _columns(
        ratings, _Places(row_of), _numbers, _Kept(), _Kept(), _moments
    )
    return {
        "preference": _placed(len(row_of), rows, preferences, None),
        "guess": _placed(len(row_of), rows, guesses, None),
        "rated_at": _placed(len(row_of), rows, moments, _UNKNOWN),
        "rating_id": _placed(len(row_of), rows, ids, 0),
    }


def _turns(row_of: Mapping[str, int], turns: Rows, assigned: Array) -> dict[str, Array]:
    """Return what the turns tell, and the row of each turn."""
    rows, ids, positions, prompt_ids, created, prompts = _columns(
        turns, _Places(row_of), _numbers, _numbers, _Kept(), _moments, _Kept()
    )
    first = np.where(positions == 1, rows, -1)
    words = np.where(prompt_ids.astype(bool), prompt_ids, prompts)
    asked = _placed(len(row_of), first, words, "")
    return {
        "prompt": np.where(assigned.astype(bool), assigned, asked),
        "asked_at": _placed(len(row_of), first, created, _UNKNOWN),
        "n_turns": np.bincount(rows[rows >= 0], minlength=len(row_of)),
        "turn_ids": ids[rows >= 0],
        "turn_rows": rows[rows >= 0],
    }


def _answers(n_rows: int, turn_ids: Array, rows: Array, lengths: Rows) -> dict[str, Array]:
    """Return what the shown answers tell: their lengths, and when the last was complete."""
    turns, left, right, complete_at = _columns(lengths, _numbers, _floats, _floats, _moments)
    place, known = _found(turn_ids, turns)
    rows = rows[place]
    columns = {}
    for name, characters in (("left_chars", left), ("right_chars", right)):
        sums = np.bincount(rows, weights=characters[known], minlength=n_rows)
        columns[name] = np.where(np.bincount(rows, minlength=n_rows) > 0, sums, np.nan)
    latest = np.full(n_rows, _UNKNOWN)
    np.maximum.at(latest, rows, complete_at[known].astype(np.int64))
    return columns | {"answered_at": latest.astype("M8[us]")}


def _scores(rating_ids: Array, digits: Rows) -> dict[str, Array]:
    ids, numbers = _columns(digits, _numbers, _numbers)
    place, known = _found(rating_ids, ids)
    found = _placed(len(rating_ids), place, numbers[known], 0)
    scores = {}
    for exponent, (side, key) in enumerate(SCORE_PLACES):
        score = found // SCORE_BASE**exponent % SCORE_BASE
        scores[SCORES[key][side]] = np.where(score > 0, score, np.nan)
    return scores


def _columns(chunks: Rows, *makers: Callable[[Sequence[Any]], Array]) -> list[Array]:
    """Return the rows' columns, each made by its maker, some thousand values at a time.

    So the rows themselves, which take ten times as much memory, are soon forgotten.
    """
    parts = [[maker(()) for maker in makers]]
    for rows in chunks:
        columns = zip(*rows, strict=True)
        parts.append([maker(values) for maker, values in zip(makers, columns, strict=True)])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _objects(values: Sequence[Any]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _numbers(values: Sequence[Any]) -> Array:
    return np.asarray(values, dtype=np.int64)


def _floats(values: Sequence[Any]) -> Array:
    return np.asarray(values, dtype=float)


def _moments(values: Sequence[Any]) -> Array:
    """Return moments in UTC, without saying so: what NumPy can compute with."""
    moments = pd.DatetimeIndex(pd.to_datetime(list(values), utc=True, format="ISO8601"))
    return moments.as_unit("us").tz_localize(None).to_numpy()


class _Kept:
    """Makes columns of texts that come often, each text kept once."""

    def __init__(self) -> None:
        self._texts: dict[str | None, str | None] = {}

    def __call__(self, values: Sequence[str | None]) -> Array:
        return _objects(list(map(self._texts.setdefault, values, values)))


class _Places:
    """Makes columns of the rows that trials have; -1 is none."""

    def __init__(self, row_of: Mapping[str, int]) -> None:
        self._row_of = row_of

    def __call__(self, trials: Sequence[str]) -> Array:
        return _numbers([self._row_of.get(trial, -1) for trial in trials])


def _found(ids: Array, wanted: Array) -> tuple[Array, Array]:
    """Return where in `ids`, which are all different, the wanted ones are, and which are there."""
    order = np.argsort(ids, kind="stable")
    place = np.searchsorted(ids, wanted, sorter=order)
    place = order[np.minimum(place, len(ids) - 1)] if len(ids) else np.zeros(len(wanted), int)
    known = ids[place] == wanted if len(ids) else np.zeros(len(wanted), bool)
    return place[known], known


def _placed(n_rows: int, rows: Array, values: Array, otherwise: object) -> Array:
    """Return the values in their rows, -1 being none; in rows without one stands `otherwise`."""
    column = np.full(n_rows, otherwise, dtype=values.dtype)
    column[rows[rows >= 0]] = values[rows >= 0]
    return column


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
