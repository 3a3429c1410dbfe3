"""A pack that is being generated: a file beside the one to come, one line for each answer so far.

Each line is on the disk before the next question is asked, so whatever ends the program costs one
answer at most. What was begun is gone on with only as it was begun: the same prompts, models,
revisions and settings. Asks nobody anything.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from backends.catalog import Model
from rating.packs.pack import AnswerEntry, Key, ModelEntry
from rating.packs.pack_file import as_line
from rating.prompt_sets import PromptSet

_FORMAT = "twopane-answer-pack-unfinished"
_VERSION = 1


class CannotGenerate(Exception):  # noqa: N818 -- reads as what it is
    """No pack can be generated this way; the message is for the user and says what to do."""


@dataclass(frozen=True)
class Order:
    """What is to be answered.

    Attributes:
        models: Who answers, one after the other.
        precision: What local models compute in, as the app's option; None: their own choice.
    """

    prompt_set: PromptSet
    models: Sequence[Model]
    precision: str | None = None

    @property
    def keys(self) -> list[str]:
        """The keys of the models."""
        return [model.key for model in self.models]


class Unfinished:
    """The models and answers that there are so far, in memory and in the file."""

    def __init__(self, file: Path, order: Order, stream: BinaryIO) -> None:
        """Take an open file, empty or made by this class; `opened` is the way to get one."""
        self.file = file
        self.models: dict[str, ModelEntry] = {}
        self.answers: dict[Key, AnswerEntry] = {}
        self._stream = stream
        self._take_up(order)

    def add_model(self, entry: ModelEntry) -> None:
        """Note how a model runs.

        Raises:
            CannotGenerate: It answered before, and not as it is now; says what differs.
        """
        before = self.models.get(entry.key)
        if before is None:
            self.models[entry.key] = entry
            self._write({"model": entry.as_json()})
        elif changes := list(_changes(before, entry)):
            raise _begun_otherwise(self.file, changes)

    def add_answer(self, answer: AnswerEntry) -> None:
        """Keep an answer; when this returns, it is on the disk."""
        self.answers[answer.key] = answer
        self._write({"answer": answer.as_json()})

    def _write(self, content: Any) -> None:
        self._stream.write(as_line(content))
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def _take_up(self, order: Order) -> None:
        """Read what is there, and drop a line that was not written to its end."""
        data = self._stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._stream.truncate(len(whole))
        self._stream.seek(len(whole))
        if not whole:
            self._write(_first_line(order))
            return
        first, *lines = whole.splitlines()
        try:
            self._check_order(json.loads(first), order)
            for line in lines:
                self._take(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CannotGenerate(
                f"{self.file} is there, but no unfinished pack. Delete it, or give another --out."
            ) from error

    def _take(self, line: dict[str, Any]) -> None:
        if "model" in line:
            entry = ModelEntry.model_validate(line["model"])
            self.models[entry.key] = entry
        else:
            answer = AnswerEntry.model_validate(line["answer"])
            self.answers[answer.key] = answer

    def _check_order(self, begun: dict[str, Any], order: Order) -> None:
        now = _first_line(order)
        if (begun["format"], begun["version"]) != (_FORMAT, _VERSION):
            raise ValueError("another format")
        revisions = {
            key: (revision, now["models"].get(key))
            for key, revision in begun["models"].items()
            if key in now["models"] and revision and now["models"][key]
        }
        changes = [
            f"{name}: {_shown(begun[name])}, now {_shown(now[name])}"
            for name in ("prompt_set", "precision")
            if begun[name] != now[name]
        ]
        if list(begun["models"]) != list(now["models"]):
            changes.append(f"models: {_shown(list(begun['models']))}, now {_shown(order.keys)}")
        changes += [
            f"revision of {key}: {_shown(was)}, now {_shown(is_now)}"
            for key, (was, is_now) in revisions.items()
            if was != is_now
        ]
        if changes:
            raise _begun_otherwise(self.file, changes)


@contextmanager
def opened(file: Path, order: Order) -> Iterator[Unfinished]:
    """Yield the unfinished pack in `file`, made if it isn't there; nobody else writes it meanwhile.

    Raises:
        CannotGenerate: The file is another pack's, or something else, or being written.
        OSError: It can't be written.
    """
    name = sha256(str(file.resolve()).encode()).hexdigest()[:16]
    lock = FileLock(
        Path(tempfile.gettempdir(), f"twopane-generating-{os.getuid()}-{name}.lock"),
        blocking=False,
        thread_local=False,
    )
    try:
        with lock, file.open("a+b") as stream:
            stream.seek(0)
            yield Unfinished(file, order, stream)
    except Timeout as error:
        raise CannotGenerate(
            f"{file} is being written by another process. Wait for its end, or give another --out."
        ) from error


def _first_line(order: Order) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "prompt_set": order.prompt_set.id,
        "models": {model.key: model.revision for model in order.models},
        "precision": order.precision,
    }


def _changes(before: ModelEntry, now: ModelEntry) -> Iterator[str]:
    """Yield what an answer depends on and is no longer as it was."""
    was, is_now = before.as_json(), now.as_json()
    for name in ("revision", "precision", "settings"):
        if was[name] != is_now[name]:
            yield f"{name} of {now.key}: {_shown(was[name])}, now {_shown(is_now[name])}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(value)
    return str(value)[:16] if value else "none"


def _begun_otherwise(file: Path, changes: Sequence[str]) -> CannotGenerate:
    return CannotGenerate(
        f"{file} was begun otherwise ({'; '.join(changes)}). Ask for the same to go on with it; "
        "to begin anew, delete it or give another --out."
    )
