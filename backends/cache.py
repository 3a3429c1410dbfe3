"""Where the app keeps what it can make again: the folder may be deleted at any time.

Says where, makes nothing there.
"""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Return `$TWOPANE_CACHE`, or the folder that this system has for users' caches."""
    given = os.environ.get("TWOPANE_CACHE")
    return Path(given).expanduser() if given else platformdirs.user_cache_path("twopane", False)
