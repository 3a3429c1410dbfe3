"""Reads a prompt set from a file that somebody has written: YAML or CSV, both UTF-8.

Every mistake is named with its line, all at once, so that the file is mended once. The file is
untrusted: its size, its depth and its number of prompts have limits, and YAML's aliases, with which
a short file can mean gigabytes, are refused. The formats are described in docs/prompt-sets.md.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from db import Dimension, Language
from rating.errors import BadPromptSet, Problem
from rating.prompt_sets import TURNS_LIMIT, Prompt, PromptSet

SIZE_LIMIT = 1_000_000
"""Largest file, in bytes."""

PROMPTS_LIMIT = 2_000
"""Prompts of a set, at most."""

_DEPTH_LIMIT = 6  # a list of prompts with gold with a list of texts is 4 deep
_NAME_LIMIT = 200
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # which makes text of every scalar

TEXTS: Mapping[str, str] = {
    "prompts_size": "The file is larger than {limit} bytes. Part it into several sets.",
    "prompts_kind": "Its name ends neither in .yaml, .yml nor .csv. Give it the ending of its "
    "format.",
    "prompts_encoding": "It isn't UTF-8 text. Save it as UTF-8.",
    "prompts_syntax": "This can't be read: {reason}.",
    "prompts_alias": "Anchors (&) and aliases (*) can't be used. Write the text out.",
    "prompts_depth": "Lists in lists in lists are no prompts. See docs/prompt-sets.md.",
    "prompts_none": "There is no prompt in it.",
    "prompts_many": "It has more than {limit} prompts. Part it into several sets.",
    "prompts_no_list": "A prompt set is a list of prompts, each with id, language, category and "
    "turns.",
    "prompts_no_prompt": "This is no prompt. Give it id, language, category and turns.",
    "prompts_no_text": "{field} must be text.",
    "prompts_no_texts": "{field} must be a list of texts.",
    "prompts_no_gold": "gold must have better and worse, each a list of texts.",
    "prompts_gold": "better and worse must each have as many texts as there are turns.",
    "prompts_missing": "{field} is missing.",
    "prompts_unknown": "{field} is no field of a prompt. Leave it out, or mend its spelling.",
    "prompts_twice": "{field} stands here a second time. Leave one of them out.",
    "prompts_empty": "{field} is empty.",
    "prompts_unfit": "{field} has characters that can't be shown, such as NUL. Delete them.",
    "prompts_long": "{field} is longer than {limit} characters.",
    "prompts_turns": "{field} has more than {limit} texts.",
    "prompts_choice": "{field} can't be {value}. Possible: {possible}.",
    "prompts_id_twice": "The id {value} is that of the prompt at line {first}. Each needs its own.",
    "prompts_column": "The column {field} is none of a prompt set. See docs/prompt-sets.md.",
    "prompts_columns": "Its first line must name the columns id, language, category, turn1 to "
    "turn{limit}; {field} is missing.",
    "prompts_cells": "It has {count} cells; the first line names {limit} columns.",
}
"""What each mistake is called in English; the pages' texts of these names say the same."""


class _Broken(Exception):  # noqa: N818 -- reads as what it is
    """Nothing more can be read of the file."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


_Where = tuple[str | int, ...]


@dataclass
class _Entry:
    """One prompt as it was written, and at which line each part of it stands."""

    line: int
    content: Any
    lines: dict[_Where, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line_of(self, where: _Where) -> int:
        """Return the line of that part, or of what it belongs to."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, self.line)


def read_prompt_set(data: bytes, filename: str, *, name: str | None = None) -> PromptSet:
    """Return the prompt set in a file.

    Args:
        data: The file's content.
        filename: Its name, by whose ending the format is known.
        name: What the set is called; otherwise as the file is.

    Raises:
        BadPromptSet: The file holds none, or one with mistakes; has all of them.
    """
    shown = Path(filename).name[-_NAME_LIMIT:]
    try:
        entries = _entries(data, shown)
    except _Broken as error:
        raise BadPromptSet(shown, [error.problem]) from error
    prompts, problems = _check(entries)
    if problems:
        raise BadPromptSet(shown, sorted(problems, key=lambda one: one.line or 0))
    return PromptSet(name or Path(shown).stem[:_NAME_LIMIT] or "?", tuple(prompts))


def problem(line: int | None, code: str, **details: Any) -> Problem:
    """Return the mistake of that name with its English text filled in."""
    return Problem(line, code, TEXTS[code].format(**details), details)


def _entries(data: bytes, filename: str) -> list[_Entry]:
    if len(data) > SIZE_LIMIT:
        raise _Broken(problem(None, "prompts_size", limit=SIZE_LIMIT))
    ending = Path(filename).suffix.lower()
    if ending not in (".yaml", ".yml", ".csv"):
        raise _Broken(problem(None, "prompts_kind"))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _Broken(problem(line, "prompts_encoding")) from error
    entries = _of_csv(text) if ending == ".csv" else _of_yaml(text)
    if not entries:
        raise _Broken(problem(None, "prompts_none"))
    if len(entries) > PROMPTS_LIMIT:
        raise _Broken(problem(None, "prompts_many", limit=PROMPTS_LIMIT))
    return entries


# --- checking -------------------------------------------------------------------------------------


def _check(entries: Sequence[_Entry]) -> tuple[list[Prompt], list[Problem]]:
    """Return the prompts that are right, and the mistakes in the others."""
    prompts: list[Prompt] = []
    problems: list[Problem] = []
    first: dict[str, int] = {}
    for entry in entries:
        problems += entry.problems
        problems += _id_twice(entry, first)
        try:
            prompts.append(Prompt.model_validate(entry.content))
        except ValidationError as error:
            problems += _problems_of(entry, error)
    return prompts, problems


def _id_twice(entry: _Entry, first: dict[str, int]) -> Iterator[Problem]:
    """Tell an id that `first` knows from an earlier prompt, else add it there with its line."""
    own = entry.content.get("id") if isinstance(entry.content, dict) else None
    own = own.strip() if isinstance(own, str) else ""
    if own in first:
        details = {"value": own[:60], "first": first[own]}
        yield problem(entry.line_of(("id",)), "prompts_id_twice", **details)
    elif own:
        first[own] = entry.line


_CODES = {
    "missing": "prompts_missing",
    "extra_forbidden": "prompts_unknown",
    "enum": "prompts_choice",
    "string_type": "prompts_no_text",
    "string_too_long": "prompts_long",
    "tuple_type": "prompts_no_texts",
    "too_long": "prompts_turns",
}
_POSSIBLE = {"language": Language, "category": Dimension}


def _problems_of(entry: _Entry, error: ValidationError) -> Iterator[Problem]:
    """Put what pydantic has found into our words, each at its line."""
    for found in error.errors(include_url=False):
        where, kind = found["loc"], found["type"]
        if kind in ("model_type", "model_attributes_type"):
            code = "prompts_no_gold" if where else "prompts_no_prompt"
        else:
            code = _CODES.get(kind, kind)
        name = ".".join(str(part + 1 if isinstance(part, int) else part) for part in where)
        known = {"field": name[:60], "value": str(found["input"])[:60]}
        known["possible"] = ", ".join(_POSSIBLE.get(name, ()))
        limit = found.get("ctx", {}).get("max_length")
        yield problem(entry.line_of(where), code, **known, limit=limit)


# --- YAML -----------------------------------------------------------------------------------------


def _of_yaml(text: str) -> list[_Entry]:
    try:
        _refuse_bombs(text)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        reason = error.problem or "no YAML"
        raise _Broken(problem(line, "prompts_syntax", reason=reason)) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _Broken(problem(line, "prompts_syntax", reason=error.reason)) from error
    if node is None:
        return []
    if not isinstance(node, yaml.SequenceNode):
        raise _Broken(problem(node.start_mark.line + 1, "prompts_no_list"))
    return [_entry_of(item) for item in node.value]


def _refuse_bombs(text: str) -> None:
    """Refuse what takes far more memory, time or stack than its bytes."""
    depth = prompts = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else None
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Broken(problem(line, "prompts_alias"))
        prompts += depth == 1 and isinstance(event, yaml.NodeEvent)
        if prompts > PROMPTS_LIMIT:
            raise _Broken(problem(None, "prompts_many", limit=PROMPTS_LIMIT))
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEPTH_LIMIT:
            raise _Broken(problem(line, "prompts_depth"))


def _entry_of(node: yaml.Node) -> _Entry:
    entry = _Entry(node.start_mark.line + 1, None)
    entry.content = _content(node, entry, ())
    return entry


def _content(node: yaml.Node, entry: _Entry, where: _Where) -> Any:
    """Return what `node` says, and note in `entry` at which line."""
    entry.lines[where] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        items = enumerate(node.value)
        return tuple(_content(item, entry, (*where, place)) for place, item in items)
    if not isinstance(node, yaml.MappingNode):
        return node.value
    content: dict[str, Any] = {}
    for key, value in node.value:
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
        if name in content:
            line = key.start_mark.line + 1
            entry.problems.append(problem(line, "prompts_twice", field=name[:60]))
        content[name] = _content(value, entry, (*where, name))
        entry.lines[(*where, name)] = key.start_mark.line + 1
    return content


# --- CSV ------------------------------------------------------------------------------------------

_TEXT_COLUMNS = {
    f"{kind}{position}": (kind, position - 1)
    for kind in ("turn", "better", "worse")
    for position in range(1, TURNS_LIMIT + 1)
}
_NEEDED = ("id", "language", "category", "turn1")


def _of_csv(text: str) -> list[_Entry]:
    rows = _rows(text)
    line, header = next(rows, (1, []))
    columns = [name.strip().lower() for name in header]
    _check_columns(line, columns)
    return [_row_entry(line, columns, row) for line, row in rows]


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that isn't blank, with the line at which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _Broken(problem(line, "prompts_syntax", reason=str(error))) from error
        if any(cell.strip() for cell in row):
            yield line, row
        line = reader.line_num + 1


def _check_columns(line: int, columns: Sequence[str]) -> None:
    for name in _NEEDED:
        if name not in columns:
            details = {"field": name, "limit": TURNS_LIMIT}
            raise _Broken(problem(line, "prompts_columns", **details))
    for place, name in enumerate(columns):
        if name not in _NEEDED and name not in _TEXT_COLUMNS:
            raise _Broken(problem(line, "prompts_column", field=name[:60]))
        if name in columns[:place]:
            raise _Broken(problem(line, "prompts_twice", field=name[:60]))


def _row_entry(line: int, columns: Sequence[str], row: Sequence[str]) -> _Entry:
    entry = _Entry(line, {})
    if len(row) > len(columns) and any(cell.strip() for cell in row[len(columns) :]):
        details = {"count": len(row), "limit": len(columns)}
        entry.problems.append(problem(line, "prompts_cells", **details))
    texts: dict[str, dict[int, str]] = {}
    for name, cell in zip(columns, row, strict=False):
        if name in _TEXT_COLUMNS:
            kind, place = _TEXT_COLUMNS[name]
            texts.setdefault(kind, {})[place] = cell
        else:
            entry.content[name] = cell
    found = {kind: _until_last(cells) for kind, cells in texts.items()}
    entry.content["turns"] = found.get("turn", ())
    if gold := {kind: found[kind] for kind in ("better", "worse") if found.get(kind)}:
        entry.content["gold"] = gold
    return entry


def _until_last(cells: Mapping[int, str]) -> tuple[str, ...]:
    """Return the cells of all turns up to the last that isn't empty."""
    filled = [place for place, cell in cells.items() if cell.strip()]
    return tuple(cells.get(place, "") for place in range(max(filled, default=-1) + 1))
