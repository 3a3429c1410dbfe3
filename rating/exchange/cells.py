"""What may stand in each cell of the long CSV form, and what it means.

Each function takes the cell's text and returns its value, or raises ValueError with the reason.
None stands for an empty cell where that says something: of `score`, that the dimension does not
apply; else that the file does not say.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

from db import Dimension, Preference, Side
from rating.exchange.records import checked_flag, checked_id, checked_model, checked_text

Word = TypeVar("Word", bound=StrEnum)

_MOST_TURNS = 1_000


def _word(words: type[Word], cell: str) -> Word:
    known = {word.value: word for word in words}
    try:
        return known[cell.strip().lower()]
    except KeyError:
        raise ValueError(f"{_quoted(cell)} is none of: {', '.join(known)}") from None


def _name(limit: int, cell: str) -> str:
    if not cell:
        raise ValueError("is empty")
    return _short(limit, cell)


def _short(limit: int, cell: str) -> str:
    if len(cell) > limit:
        raise ValueError(f"is longer than {limit} characters")
    return checked_text(cell)


def _model(cell: str) -> str:
    return checked_model(_name(200, cell))


def _turns(cell: str) -> int | None:
    if not cell.strip():
        return None
    number = _whole(cell)
    if not 1 <= number <= _MOST_TURNS:
        raise ValueError(f"{_quoted(cell)} is no number of turns, 1 to {_MOST_TURNS}")
    return number


def _score(cell: str) -> int | None:
    if not cell.strip():
        return None
    number = _whole(cell)
    if not 1 <= number <= 5:
        raise ValueError(f"{_quoted(cell)} is not 1 to 5, nor empty for not applicable")
    return number


def _whole(cell: str) -> int:
    """Return a whole number; 4.0 is one, as tables of numbers with gaps are often saved."""
    try:
        number = float(cell)
        whole = int(number)
    except (ValueError, OverflowError):
        raise ValueError(f"{_quoted(cell)} is no whole number") from None
    if whole != number:
        raise ValueError(f"{_quoted(cell)} is no whole number")
    return whole


def _blind(cell: str) -> bool | None:
    if not cell.strip():
        return None
    try:
        return {"true": True, "false": False}[cell.strip().lower()]
    except KeyError:
        raise ValueError(f"{_quoted(cell)} is neither true nor false") from None


def _moment(cell: str) -> datetime | None:
    """Return the moment; one without a zone is UTC's."""
    if not cell.strip():
        return None
    try:
        moment = datetime.fromisoformat(cell.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{_quoted(cell)} is no moment; write it as 2026-02-28T12:00:00+00:00 or 2026-02-28"
        ) from None


def _flags(cell: str) -> tuple[str, ...]:
    return tuple(checked_flag(flag) for flag in cell.strip().split(";")) if cell.strip() else ()


def _quoted(cell: str) -> str:
    return repr(cell[:40])


PARSERS: Mapping[str, Callable[[str], Any]] = {
    "trial": checked_id,
    "rater": partial(_name, 64),
    "prompt_id": partial(_short, 200),
    "prompt": checked_text,
    "turns": _turns,
    "model": _model,
    "side": partial(_word, Side),
    "dimension": partial(_word, Dimension),
    "score": _score,
    "preference": partial(_word, Preference),
    "comment": checked_text,
    "blind": _blind,
    "rated_at": _moment,
    "flags": _flags,
}
"""By column."""
