"""Where the app keeps what it can make again: the folder may be deleted at any time.

Says where, makes nothing there.
"""

import hashlib
import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Return `$TWOPANE_CACHE`, or the folder that this system has for users' caches."""
    given = os.environ.get("TWOPANE_CACHE")
    return Path(given).expanduser() if given else platformdirs.user_cache_path("twopane", False)


def packed_folders(checkpoint: Path) -> tuple[Path, Path]:
    """Return where the packed weights of a checkpoint may be, the first choice first.

    In it, or apart from it where its folder can't be written.
    """
    resolved = checkpoint.resolve()
    apart = hashlib.sha256(os.fsencode(resolved)).hexdigest()[:8]
    return checkpoint / "twopane", cache_folder() / "packed" / f"{resolved.name}-{apart}"
