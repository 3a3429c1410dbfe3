"""The long form read from CSV: what was exported, or ratings that people made elsewhere.

Which trials are there already, and whether repeats are of a known one, is `storing`'s to see.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from db import Dimension, Language, Side, TrialKind, TrialState
from rating.exchange.cells import PARSERS
from rating.exchange.incoming import Contents, Incoming, Problem, problems_of
from rating.exchange.long_form import COLUMNS
from rating.exchange.records import (
    ATTENTION,
    BETTER,
    REPEAT_OF,
    AssignmentRecord,
    RatingRecord,
    TrialRecord,
    TurnRecord,
)

REQUIRED = ("trial", "rater", "model", "side", "dimension", "score", "preference")
"""Beside them, `prompt` or `prompt_id`: without, nobody knows which ratings are of one prompt."""

_OF_A_ROW = frozenset({"trial", "model", "side", "dimension", "score"})
_CHINESE = re.compile(r"[\u3400-\u9fff]")


@dataclass(frozen=True)
class _Row:
    line: int
    values: Mapping[str, Any]


def read(text: str) -> Contents:
    """Return what a file says that begins with the names of its columns.

    Columns may be parted by commas, semicolons or tabs, and stand in any order. Where a file does
    not say when a trial was rated, that is now, a microsecond more each, which keeps their order.
    """
    contents = Contents()
    trials: dict[str, list[_Row]] = {}
    lines = _lines(text, contents.problems)
    header = [name.strip() for name in next(lines, (1, []))[1]]
    contents.problems += _wrong_columns(header)
    if contents.problems:
        return contents
    broken: set[str] = set()
    for line, cells in lines:
        values = _values(line, header, cells, contents.problems)
        if values is None:
            broken.update(cells[header.index("trial") :][:1])
        else:
            trials.setdefault(values["trial"], []).append(_Row(line, values))
    for trial in broken:  # without that line, others of it would seem wrong
        trials.pop(trial, None)
    now = datetime.now(UTC)
    for position, rows in enumerate(trials.values()):
        problems = list(_contradictions(rows))
        contents.problems += problems
        if not problems:
            _add(contents, rows, now + timedelta(microseconds=position))
    return contents


def _lines(text: str, problems: list[Problem]) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not empty with the line on which it begins."""
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.append(Problem(line, "", f"this is no CSV: {error}"))
            return
        if any(cells):
            yield line, cells


def _wrong_columns(header: Sequence[str]) -> Iterator[Problem]:
    for name, times in Counter(header).items():
        if name not in COLUMNS:
            known = ",".join(COLUMNS)
            yield Problem(1, name[:40], f"there is no such column; take it out (known: {known})")
        elif times > 1:
            yield Problem(1, name, "this column is there twice")
    for name in REQUIRED:
        if name not in header:
            yield Problem(1, name, "this column is missing")
    if not {"prompt", "prompt_id"} & set(header):
        yield Problem(1, "prompt", "this column is missing, or prompt_id in its place")


def _values(
    line: int, header: Sequence[str], cells: Sequence[str], problems: list[Problem]
) -> dict[str, Any] | None:
    """Return the values of a row by column; None if one of them can't be."""
    if len(cells) != len(header):
        reason = f"there are {len(cells)} cells here, and {len(header)} columns"
        problems.append(Problem(line, "", reason))
        return None
    values, found = {}, len(problems)
    for name, cell in zip(header, cells, strict=True):
        try:
            values[name] = PARSERS[name](cell)
        except ValueError as error:
            problems.append(Problem(line, name, str(error)))
    if not (values.get("prompt") or values.get("prompt_id")):
        problems.append(Problem(line, "prompt", "is empty, and there is no prompt_id either"))
    return values if len(problems) == found else None


def _contradictions(rows: Sequence[_Row]) -> Iterator[Problem]:
    """Find where the rows of one trial don't fit together."""
    first = rows[0]
    entered, models = set[tuple[Side, Dimension]](), dict[Side, str]()
    for row in rows:
        for name in row.values.keys() - _OF_A_ROW:
            if row.values[name] != first.values[name]:
                reason = f"differs from line {first.line}, which is of the same trial"
                yield Problem(row.line, name, reason)
        side, dimension = row.values["side"], row.values["dimension"]
        if (side, dimension) in entered:
            yield Problem(row.line, "dimension", f"{side} has {dimension} twice in this trial")
        entered.add((side, dimension))
        if models.setdefault(side, row.values["model"]) != row.values["model"]:
            yield Problem(row.line, "model", f"{side} had another model before in this trial")
    if len(models) < len(Side):
        yield Problem(first.line, "side", "this trial has no row of the other side")
    elif len(set(models.values())) == 1:
        yield Problem(first.line, "model", "both sides of this trial have the same model")


def _add(contents: Contents, rows: Sequence[_Row], now: datetime) -> None:
    first = rows[0]
    columns = frozenset(
        name for name, value in first.values.items() if value is not None or name == "score"
    )
    try:
        record = _record(rows, now)
    except ValidationError as error:
        contents.problems += problems_of(error, first.line)
    except ValueError as error:
        contents.problems.append(Problem(first.line, "flags", str(error)))
    else:
        contents.trials.append(Incoming(first.line, record, columns))


def _record(rows: Sequence[_Row], now: datetime) -> TrialRecord:
    """Return the trial of these rows; a dimension without a row does not apply.

    Raises:
        ValueError: Its flags contradict each other.
    """
    said = rows[0].values
    rated_at = said.get("rated_at") or now
    models = {row.values["side"]: row.values["model"] for row in rows}
    scores = {(row.values["side"], row.values["dimension"]): row.values["score"] for row in rows}
    flags, assignment = _kind(said.get("flags", ()), said.get("prompt_id"))
    return TrialRecord(
        trial=said["trial"],
        rater=said["rater"],
        language=_language(said.get("prompt") or said["prompt_id"]),
        blind=bool(said.get("blind")),
        left_model=models[Side.LEFT],
        right_model=models[Side.RIGHT],
        state=TrialState.REVEALED,
        created_at=rated_at,
        revealed_at=rated_at,
        flags=flags,
        assignment=assignment,
        turns=_turns(said, rated_at),
        rating=RatingRecord(
            preference=said["preference"],
            comment=said.get("comment", ""),
            rated_at=rated_at,
            scores={side: {key: scores.get((side, key)) for key in Dimension} for side in Side},
        ),
    )


def _language(prompt: str) -> Language:
    return Language.ZH if _CHINESE.search(prompt) else Language.EN


def _turns(said: Mapping[str, Any], asked_at: datetime) -> tuple[TurnRecord, ...]:
    """Return the turns, without answers; only the first one's prompt is known."""
    first = said.get("prompt", said.get("prompt_id"))
    return tuple(
        TurnRecord(
            prompt=first if position == 0 else "",
            prompt_id=(said.get("prompt_id") or None) if position == 0 else None,
            asked_at=asked_at,
        )
        for position in range(said.get("turns") or 1)
    )


def _kind(
    flags: Sequence[str], prompt_id: str | None
) -> tuple[tuple[str, ...], AssignmentRecord | None]:
    """Part what flags say of the trial's kind from the others.

    Raises:
        ValueError: They contradict each other, or something else is missing to it.
    """
    repeats = [flag.removeprefix(REPEAT_OF) for flag in flags if flag.startswith(REPEAT_OF)]
    betters = [flag.removeprefix(BETTER) for flag in flags if flag.startswith(BETTER)]
    others = tuple(
        flag for flag in flags if flag != ATTENTION and not flag.startswith((REPEAT_OF, BETTER))
    )
    if len(others) == len(flags):
        return others, None
    is_attention = ATTENTION in flags
    if len(repeats) + is_attention != 1 or len(betters) != is_attention:
        raise ValueError(
            "a trial is either a repeat (repeat:TRIAL) or one that tests attention (attention and "
            "better:left or better:right)"
        )
    if not prompt_id:
        raise ValueError("a repeat or a trial that tests attention needs a prompt_id")
    if betters and betters[0] not in set(Side):
        raise ValueError("better: must be followed by left or right")
    return others, AssignmentRecord(
        prompt_id=prompt_id,
        kind=TrialKind.ATTENTION if is_attention else TrialKind.REPEAT,
        repeat_of=repeats[0] if repeats else None,
        better=Side(betters[0]) if betters else None,
    )
