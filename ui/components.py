"""Groups of components whose values events return together. Knows no page."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Components:
    """Components as fields, in the order in which events take or return their values."""

    def listed(self) -> list[Any]:
        """Return them as Gradio's `inputs` or `outputs`."""
        return list(vars(self).values())
