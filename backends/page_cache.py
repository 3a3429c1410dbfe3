"""Takes a model's files out of the system's file cache, so that they are read from the disk anew.

Looks afterwards whether they have really left it. Changes no file, and needs no rights but those to
read them. Doesn't touch the libraries of the program that reads them.
"""

import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path

from backends.cache import packed_folders
from backends.catalog import Model

# Looked at in one piece; a multiple of every page size.
_PIECE = 256 * 2**20
# So much may be there again: somebody else looks at a header.
_STILL_THERE = 0.1


class StillCached(Exception):  # noqa: N818 -- reads as what it is
    """Files can't be taken out of the cache; the message says why, as the end of a sentence."""


def model_files(model: Model) -> list[Path]:
    """Return all files that loading `model` may read; none while they aren't here."""
    folders = [folder for folder in (model.folder, model.adapter) if folder is not None]
    if model.folder is not None:
        folders.append(packed_folders(model.folder)[1])
    return [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]


def drop(paths: Iterable[Path]) -> bool:
    """Take files out of the cache; return whether the system tells that they have left it.

    Raises:
        StillCached: They are still there, can't be read, or this system has no way to do it.
    """
    if not hasattr(os, "posix_fadvise"):
        raise StillCached("this system can't take files out of its cache")
    files = list(paths)
    try:
        for path in files:
            _drop_one(path)
        size = sum(path.stat().st_size for path in files)
        if not all(map(_is_told, files)):
            return False
        cached = sum(map(cached_bytes, files))
    except OSError as error:
        raise StillCached(f"a file can't be taken out of the cache ({error})") from error
    if cached > _STILL_THERE * size:
        raise StillCached(
            "its files stay in memory, since another program has them open or they lie on a disk "
            "that is memory"
        )
    return True


def _drop_one(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())  # what isn't written yet stays
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _is_told(path: Path) -> bool:
    """Whether Linux tells us what of a file is in memory; of other users' files it says all is."""
    return path.stat().st_uid == os.geteuid() or os.access(path, os.W_OK)


def cached_bytes(path: Path) -> int:
    """Return how much of a file is in memory, in whole pages.

    Raises:
        OSError: It can't be read, or the system doesn't tell.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        pieces = ((start, min(_PIECE, size - start)) for start in range(0, size, _PIECE))
        return sum(_cached_pages(file.fileno(), *piece) for piece in pieces) * mmap.PAGESIZE


def _cached_pages(file: int, start: int, length: int) -> int:
    """Ask without reading any of them: a read would bring in what is missing."""
    found = (ctypes.c_ubyte * -(-length // mmap.PAGESIZE))()
    libc = ctypes.CDLL(None, use_errno=True)
    # A private copy that nobody writes to: ctypes takes the address of nothing read-only.
    with mmap.mmap(file, length, access=mmap.ACCESS_COPY, offset=start) as mapped:
        place = ctypes.byref(ctypes.c_char.from_buffer(mapped))
        failed = libc.mincore(place, ctypes.c_size_t(length), found)
        del place
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return sum(page & 1 for page in found)
