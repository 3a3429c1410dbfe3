"""What every event of the pages has in common."""

from typing import Any

PRIVATE: dict[str, Any] = {
    "api_visibility": "private",  # hides, doesn't protect: each function checks what it may do
    "concurrency_limit": None,
    "show_progress": "hidden",
}
