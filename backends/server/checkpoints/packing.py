"""Packed files: a checkpoint's tensors as they are computed with, made once and then mapped.

They lie in the sub-folder ``twopane`` of the checkpoint, or in the cache folder where that can't be
written. A file is trusted only if it is whole, was made of the files that are there now by this
version, and holds exactly the tensors that are wanted; anything else is made anew. It gets its name
when it is complete, so a conversion that is killed leaves nothing but a file that the next one
removes. Two processes don't make the same file at once: the second waits.

What a file's middle holds is compared by samples only: reading all of it would take longer than
mapping it saves. Nor is the digest a seal: whoever hands over a checkpoint with a packed file in it
can put any numbers there, as in the checkpoint's own weights. They are only computed with, never
used as places or sizes, so wrong ones make wrong answers and no more. What code relies on are the
names, types, shapes and places of the tensors: those have to be the wanted ones, byte for byte.

Knows no network, no precision and no torch: what numpy has no type for (bfloat16) is stored as the
whole numbers of its bits.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import logging
import math
import mmap
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock
from numpy.typing import DTypeLike, NDArray

from backends.cache import packed_folders
from backends.checkpoint import UnusableFolder, read_checkpoint
from backends.server.checkpoints.huge_pages import read_into_huge_pages
from backends.server.checkpoints.weights import Progress, no_progress
from backends.server.errors import CheckpointError

logger = logging.getLogger(__name__)

# To be raised whenever the same source gives other tensors than before.
_VERSION = "2"
_DIGEST = "twopane_digest"
_NO_DIGEST = "0" * 64
_SAMPLE_BYTES = 16_384
_SAMPLES = 64
_LONGEST_HEADER = 100_000_000  # of the format
# Where every tensor's data begins: kernels load whole cache lines.
_ALIGNMENT = 64
# The format allows no gaps between tensors, so they are tensors themselves.
_PADDING = "__padding__"
_METADATA = "__metadata__"
_TYPES: Mapping[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
}
_TYPE_NAMES = {dtype: name for name, dtype in _TYPES.items()}
# What reading garbage ends in.
_UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
    OverflowError,
)


@dataclass(frozen=True)
class Entry:
    """What one tensor of a packed file is, without what is in it.

    Attributes:
        dtype: one that the file's format and numpy both know, of 8 to 32 bits.
    """

    name: str
    dtype: DTypeLike
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Its length in the file."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def gap_bytes(self) -> int:
        """What is missing behind it to a multiple of the alignment."""
        return -self.size_bytes % _ALIGNMENT


@dataclass(frozen=True)
class Part(Entry):
    """A tensor that is made when it is written.

    Attributes:
        make: gives an array of its type and shape.
    """

    make: Callable[[], NDArray[Any]]


@dataclass(frozen=True)
class _Wanted:
    """What a file has to say of itself, and hold, to be trusted."""

    metadata: Mapping[str, str]
    layout: Sequence[Entry]

    def matches(self, header: bytes, digest: str) -> bool:
        """Whether a header says this, and that the file has this digest."""
        return header == self.header(self.layout, digest)

    def header(self, entries: Sequence[Entry], digest: str = _NO_DIGEST) -> bytes:
        """The header of a file with these tensors."""
        return _header({**self.metadata, _DIGEST: digest}, entries)


def packed_tensors(
    folder: Path,
    name: str,
    plan: Callable[[], Sequence[Part]],
    progress: Progress = no_progress,
    *,
    layout: Sequence[Entry],
    huge_pages: bool = False,
) -> dict[str, NDArray[Any]]:
    """The tensors of a packed file, read-only; the file is made if it isn't there.

    Each begins at a multiple of 64 bytes in memory.

    Args:
        folder: the checkpoint.
        name: the file's name without suffix: whatever gives other tensors needs another name.
        plan: says what is in the file; called only if it has to be made.
        progress: is told of the stage "converting".
        layout: what ``plan`` would say, but for the making; a file of other tensors isn't trusted.
        huge_pages: they are read into such where there is plenty of memory; else, and otherwise,
            they are mapped.

    Raises:
        CheckpointError: the file can't be written anywhere, or the checkpoint is unusable.
    """
    metadata = {"twopane_version": _VERSION, "twopane_source": _revision(folder)}
    wanted = _Wanted(metadata, layout)
    paths = [place / f"{name}.safetensors" for place in packed_folders(folder)]
    for path in paths:
        found = _read(path, wanted, huge_pages=huge_pages)
        if found is not None:
            return found
    failures = []
    for path in paths:
        try:
            _make(path, wanted, plan, progress)
            # The checkpoint is in cycles of torch's: it would stay in memory beside what was made.
            gc.collect()
            return _read_anew(path, wanted, huge_pages=huge_pages)
        except OSError as error:
            reason = error.strerror or str(error)
            logger.warning("No packed weights in %s: %s", path.parent, reason)
            failures.append(f"{path.parent} ({reason})")
    raise CheckpointError(
        f"The weights of {folder} have to be written once in another form, but this can't be done "
        f"in {' nor in '.join(failures)}. Free some space, or name a folder in TWOPANE_CACHE."
    )


def _revision(folder: Path) -> str:
    try:
        return read_checkpoint(folder).revision
    except UnusableFolder as error:
        raise CheckpointError(str(error)) from error


def _read(
    path: Path, wanted: _Wanted, *, huge_pages: bool = False
) -> dict[str, NDArray[Any]] | None:
    """The tensors of a file that can be trusted; else None."""
    try:
        with path.open("rb") as file:
            header = _read_header(file)
            if not wanted.matches(header, _digest(file)):
                return None
            data = _data(file, 8 + len(header), huge_pages=huge_pages)
        entries = json.loads(header)
        return {name: _array(data, entry) for name, entry in entries.items() if _is_wanted(name)}
    except FileNotFoundError:
        return None
    except _UNREADABLE as error:
        logger.warning("%s can't be read: %s", path, error)
        return None


def _data(file: BinaryIO, start: int, *, huge_pages: bool) -> NDArray[np.uint8]:
    if huge_pages:
        data = read_into_huge_pages(file, start, os.fstat(file.fileno()).st_size - start)
        if data is not None:
            return data
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # A file that isn't in memory is read while other things are loaded.
    mapped.madvise(mmap.MADV_WILLNEED)
    return np.frombuffer(mapped, np.uint8, offset=start)


def _read_header(file: BinaryIO) -> bytes:
    """The header of a safetensors file, without the length before it."""
    length = int.from_bytes(file.read(8), "little")
    return file.read(min(length, _LONGEST_HEADER))


def _array(data: NDArray[np.uint8], entry: Mapping[str, Any]) -> NDArray[Any]:
    start, end = entry["data_offsets"]
    return data[start:end].view(_TYPES[entry["dtype"]]).reshape(entry["shape"])


def _is_wanted(name: str) -> bool:
    return name != _METADATA and not name.startswith(_PADDING)


def _make(
    path: Path, wanted: _Wanted, plan: Callable[[], Sequence[Part]], progress: Progress
) -> None:
    """Writes a file, unless another process does meanwhile.

    Raises:
        OSError: it can't be written there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        for left in path.parent.glob(f"{path.name}.*.partial"):
            left.unlink()
        if _read(path, wanted) is not None:
            return
        temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            with temporary.open("wb+") as file:
                _write(file, wanted, plan(), progress)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)


def _read_anew(path: Path, wanted: _Wanted, *, huge_pages: bool) -> dict[str, NDArray[Any]]:
    """The tensors of a file that was made just now.

    Raises:
        OSError: it can't be trusted.
    """
    found = _read(path, wanted, huge_pages=huge_pages)
    if found is None:
        raise OSError(errno.EIO, "what was written there reads differently")
    return found


def _write(file: BinaryIO, wanted: _Wanted, parts: Sequence[Part], progress: Progress) -> None:
    header = wanted.header(parts)
    if header != wanted.header(wanted.layout):
        raise ValueError("the plan is another than its layout")
    total = sum(part.size_bytes + part.gap_bytes for part in parts)
    free = shutil.disk_usage(file.name).free
    if free < total:
        shortage = f"{total / 1e9:.3f} GB are needed, {free / 1e9:.3f} GB are free"
        raise OSError(errno.ENOSPC, shortage)
    file.write(len(header).to_bytes(8, "little") + header)
    done = 0
    for part in parts:
        progress("converting", done / total)
        # Refuses another type or size than was planned.
        made = part.make().astype(part.dtype, order="C", casting="no", copy=False)
        file.write(made.reshape(part.shape).data)
        file.write(bytes(part.gap_bytes))
        done += part.size_bytes + part.gap_bytes
    _write_digest(file)
    os.fsync(file.fileno())
    progress("converting", 1.0)


def _header(metadata: Mapping[str, str], entries: Iterable[Entry]) -> bytes:
    """The header of a safetensors file, padded so that the data behind it is aligned."""
    described: dict[str, object] = {_METADATA: metadata}
    end = 0
    for entry in _with_gaps(entries):
        start, end = end, end + entry.size_bytes
        described[entry.name] = {
            "dtype": _TYPE_NAMES[np.dtype(entry.dtype)],
            "shape": entry.shape,
            "data_offsets": (start, end),
        }
    text = json.dumps(described).encode()
    return text + b" " * (-(8 + len(text)) % _ALIGNMENT)


def _with_gaps(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The tensors, each behind a multiple of the alignment."""
    for number, entry in enumerate(entries):
        yield entry
        if entry.gap_bytes:
            yield Entry(f"{_PADDING}{number}", np.uint8, (entry.gap_bytes,))


def _write_digest(file: BinaryIO) -> None:
    file.flush()
    digest = _digest(file)
    file.seek(0)
    place = file.read(_SAMPLE_BYTES).index(_NO_DIGEST.encode())
    file.seek(place)
    file.write(digest.encode())
    file.flush()


def _digest(file: BinaryIO) -> str:
    """Hash of the size, the header but for the digest in it, and samples of the data."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = 8 + int.from_bytes(file.read(8), "little")
    digest = hashlib.sha256(str(size).encode())
    file.seek(0)
    header = file.read(min(length, _LONGEST_HEADER))
    digest.update(_without_digest(header))
    for offset in _sample_offsets(length, size):
        file.seek(offset)
        digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _without_digest(header: bytes) -> bytes:
    before, key, after = header.partition(f'"{_DIGEST}": "'.encode())
    return before + key + after[len(_NO_DIGEST) :]


def _sample_offsets(start: int, size: int) -> Iterator[int]:
    yield from range(start, size, max(_SAMPLE_BYTES, (size - start) // _SAMPLES))


def _sync_folder(folder: Path) -> None:
    """Makes a new name in a folder outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
