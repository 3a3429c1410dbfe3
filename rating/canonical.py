"""The hash by which the same content is known again, whoever wrote it down and how.

Doesn't say what belongs to the content: that is its owner's.
"""

import hashlib
import json
from typing import Any


def canonical(content: Any) -> bytes:
    """Return `content` as canonical JSON: keys sorted, no spaces, ASCII alone.

    Raises:
        ValueError: A number in it is none that JSON has.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def content_hash(content: Any) -> str:
    """Return the SHA-256 of `content` as canonical JSON, in hexadecimal digits."""
    return hashlib.sha256(canonical(content)).hexdigest()
