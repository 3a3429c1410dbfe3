"""Where things lie in a checkout."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
"""What `python -m` needs as its folder to find the packages."""
TINY = ROOT / "backends" / "tiny"
"""The built-in pair: a folder each."""
