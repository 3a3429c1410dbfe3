"""Ratings out to files that other tools read, and back in; `docs/exchange.md` has every format.

One module a format; `records` is what they share. Knows no page and no command. Who may have a
file is for the caller to check: it says which model was on which side.
"""

from rating.exchange.exporting import (
    Exported,
    Format,
    Selection,
    export_bytes,
    export_file,
    write,
)
from rating.exchange.reading import import_bytes, import_file
from rating.exchange.storing import Imported

__all__ = [
    "Exported",
    "Format",
    "Imported",
    "Selection",
    "export_bytes",
    "export_file",
    "import_bytes",
    "import_file",
    "write",
]
