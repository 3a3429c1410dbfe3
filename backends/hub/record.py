"""What a folder of ours is to hold: a list beside the files, written before they are fetched.

The list is what makes a folder count: until it says complete, nobody but `fetch` looks at the
files. Kept in a hidden sub-folder, where no loader and no fingerprint of a model takes it for a
part of it. Doesn't check files.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from backends.hub.selection import RemoteFile

_FOLDER = ".fetched"
_NAME = "files.json"


@dataclass(frozen=True)
class Record:
    """A folder's files, and whether all of them are there and have been checked.

    Attributes:
        commit: what the revision meant when they were listed; "" where the hub doesn't say.
    """

    files: tuple[RemoteFile, ...]
    commit: str = ""
    complete: bool = False

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(file.size for file in self.files)

    def done_bytes(self, folder: Path) -> int:
        """How much of the files is in `folder`, parts of files counted in."""
        return sum(_bytes_there(folder, file) for file in self.files)


def lock_path(folder: Path) -> Path:
    """Return the file that is locked by whoever fetches into `folder`."""
    return folder / _FOLDER / "lock"


def part_path(folder: Path, file: RemoteFile) -> Path:
    """Return where the beginning of `file` is kept; so named by modelscope_hub."""
    path = folder / file.path
    return path.with_name(f"{path.name}.incomplete")


def read_record(folder: Path) -> Record | None:
    """Return the record of `folder`; None if it has none that can be read."""
    try:
        stored = json.loads((folder / _FOLDER / _NAME).read_bytes())
        files = tuple(RemoteFile(**file) for file in stored.pop("files"))
        return Record(files, **stored)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def write_record(folder: Path, record: Record) -> None:
    """Write it as a whole or not at all, also if the power fails."""
    path = folder / _FOLDER / _NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(asdict(record), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def outdated(old: Sequence[RemoteFile], new: Sequence[RemoteFile]) -> tuple[RemoteFile, ...]:
    """Return the files of `new` that were others when `old` was listed: a branch has moved on."""
    known = {file.path: file for file in old}
    return tuple(file for file in new if known.get(file.path, file) != file)


def _bytes_there(folder: Path, file: RemoteFile) -> int:
    for path in (folder / file.path, part_path(folder, file)):
        try:
            return min(path.stat().st_size, file.size)
        except OSError:
            continue
    return 0
