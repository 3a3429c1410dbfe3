"""Packed files: a checkpoint's tensors as they are computed with, made once and then mapped.

They lie in the sub-folder ``twopane`` of the checkpoint, or in the cache folder where that can't be
written. A file is trusted only if it is whole and was made of the files that are there now by this
version; anything else is made anew. It gets its name when it is complete, so a conversion that is
killed leaves nothing but a file that the next one removes. Two processes don't make the same file
at once: the second waits.

What a file's middle holds is compared by samples only: reading all of it would take longer than
mapping it saves. Knows no network and no precision.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from torch import Tensor

from backends.cache import cache_folder
from backends.checkpoint import UnusableFolder, read_checkpoint
from backends.server.errors import CheckpointError
from backends.server.weights import Progress, no_progress

logger = logging.getLogger(__name__)

# To be raised whenever the same source gives other tensors than before.
_VERSION = "1"
_SUBFOLDER = "twopane"
_DIGEST = "twopane_digest"
_NO_DIGEST = "0" * 64
_SAMPLE_BYTES = 16_384
_SAMPLES = 64
_ALIGNMENT = 64
_LONGEST_HEADER = 100_000_000  # of the format
_TYPES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int8: "I8",
    torch.uint8: "U8",
}


@dataclass(frozen=True)
class Part:
    """One tensor of a packed file, made when it is written.

    Attributes:
        make: gives a tensor of that type and shape.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Tensor]

    @property
    def size_bytes(self) -> int:
        """Its length in the file."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta").nbytes


def packed_tensors(
    folder: Path,
    name: str,
    plan: Callable[[], Sequence[Part]],
    progress: Progress = no_progress,
) -> dict[str, Tensor]:
    """The tensors of a packed file, mapped; the file is made if it isn't there.

    Args:
        folder: the checkpoint.
        name: the file's name without suffix: whatever gives other tensors needs another name.
        plan: says what is in the file; called only if it has to be made.
        progress: is told of the stage "converting".

    Raises:
        CheckpointError: the file can't be written anywhere, or the checkpoint is unusable.
    """
    metadata = {"twopane_version": _VERSION, "twopane_source": _revision(folder)}
    paths = [place / f"{name}.safetensors" for place in _places(folder)]
    for path in paths:
        found = _read(path, metadata)
        if found is not None:
            return found
    failures = []
    for path in paths:
        try:
            return _make(path, metadata, plan, progress)
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


def _places(folder: Path) -> tuple[Path, Path]:
    """Where the packed files of a checkpoint may be, the first choice first."""
    resolved = folder.resolve()
    apart = hashlib.sha256(os.fsencode(resolved)).hexdigest()[:8]
    return folder / _SUBFOLDER, cache_folder() / "packed" / f"{resolved.name}-{apart}"


def _read(path: Path, metadata: Mapping[str, str]) -> dict[str, Tensor] | None:
    """The mapped tensors of a file that can be trusted; else None."""
    try:
        with path.open("rb") as opened:
            digest = _digest(opened)
        with safe_open(path, framework="pt") as file:
            if file.metadata() != {**metadata, _DIGEST: digest}:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError) as error:
        logger.warning("%s can't be read: %s", path, error)
        return None


def _make(
    path: Path,
    metadata: Mapping[str, str],
    plan: Callable[[], Sequence[Part]],
    progress: Progress,
) -> dict[str, Tensor]:
    """Writes a file and maps it.

    Raises:
        OSError: it can't be written there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        for left in path.parent.glob(f"{path.name}.*.partial"):
            left.unlink()
        # Perhaps another process has made it meanwhile.
        found = _read(path, metadata)
        if found is not None:
            return found
        temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            with temporary.open("wb+") as file:
                _write(file, metadata, plan(), progress)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    found = _read(path, metadata)
    if found is None:
        raise OSError(errno.EIO, "what was written there reads differently")
    return found


def _write(
    file: BinaryIO, metadata: Mapping[str, str], parts: Sequence[Part], progress: Progress
) -> None:
    total = sum(part.size_bytes for part in parts)
    free = shutil.disk_usage(file.name).free
    if free < total:
        shortage = f"{total / 1e9:.3f} GB are needed, {free / 1e9:.3f} GB are free"
        raise OSError(errno.ENOSPC, shortage)
    file.write(_header(metadata, parts))
    done = 0
    for part in parts:
        progress("converting", done / total)
        # Bytes, since numpy knows no bfloat16.
        file.write(part.make().contiguous().view(torch.uint8).numpy().data)
        done += part.size_bytes
    _write_digest(file)
    os.fsync(file.fileno())
    progress("converting", 1.0)


def _header(metadata: Mapping[str, str], parts: Sequence[Part]) -> bytes:
    """The header of a safetensors file, padded so that the data behind it is aligned."""
    entries: dict[str, object] = {"__metadata__": {**metadata, _DIGEST: _NO_DIGEST}}
    end = 0
    for part in parts:
        start, end = end, end + part.size_bytes
        entries[part.name] = {
            "dtype": _TYPES[part.dtype],
            "shape": part.shape,
            "data_offsets": (start, end),
        }
    text = json.dumps(entries).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


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
