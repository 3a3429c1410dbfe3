"""Whether a file on the disk is what its hub says it is. Reads it; removes and fetches nothing."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from backends.hub.selection import RemoteFile

_READ_BYTES = 1 << 20


def is_sound(
    path: Path, file: RemoteFile, check: Callable[[], None], *, lasting: bool = False
) -> bool:
    """Compare size and hash with what the hub lists; the size alone where it lists no hash.

    Args:
        path: where it is.
        file: what the hub lists.
        check: called every megabyte; what it raises goes through.
        lasting: first wait until the file is on the disk, so that it outlives a power failure.
    """
    try:
        if path.stat().st_size != file.size:
            return False
        if lasting:
            with path.open("rb+") as stream:
                os.fsync(stream.fileno())
        if file.sha256:
            return _digest(path, hashlib.sha256(), check) == file.sha256
        if file.blob:
            # git's, of which a hub takes the small files; not a matter of security there.
            git = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
            return _digest(path, git, check) == file.blob
    except FileNotFoundError:
        return False
    return True


def _digest(path: Path, digest: "hashlib._Hash", check: Callable[[], None]) -> str:
    with path.open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            check()
            digest.update(block)
    return digest.hexdigest()
