"""The table of both built-in models: to the terminal, and into README.md between its markers.

Reads what the runs wrote down; asks no model anything.
"""

from collections.abc import Sequence
from pathlib import Path

from backends.tiny.record import Score, TrainingRecord, read_record

README = Path(__file__).parent / "README.md"
_BEGIN = "<!-- results: written by `python -m backends.tiny.train MODEL --report` -->"
_END = "<!-- end of results -->"


def make_table(folders: Sequence[Path]) -> str:
    """Return a Markdown table of the models that lie in `folders`."""
    records = [read_record(folder) for folder in folders]
    topics = sorted({topic for record in records for topic in record.topics})
    rows = [
        ["held-back wordings answered right", *(record.model for record in records)],
        ["---", *("---:" for _ in records)],
        *([topic, *(_share(r.topics.get(topic)) for r in records)] for topic in topics),
        ["**all**", *(f"**{_share(record.total)}**" for record in records)],
        ["of these, with slot values never trained on", *map(_unseen, records)],
        ["training, minutes", *(f"{record.minutes:.1f}" for record in records)],
        ["steps", *(str(record.recipe["steps"]) for record in records)],
        ["parameters", *(f"{record.parameters:,}" for record in records)],
        ["folder, MB", *(f"{folder_bytes(folder) / 1e6:.1f}" for folder in folders)],
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def write_table(table: str, readme: Path = README) -> None:
    """Put the table between the markers of a Markdown file.

    Raises:
        ValueError: The file lacks a marker.
    """
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{readme} lacks the marker {_END if begin else _BEGIN}")
    readme.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _share(score: Score | None) -> str:
    return "" if score is None else f"{score.right}/{score.asked} ({_percent(score)})"


def _unseen(record: TrainingRecord) -> str:
    return _share(record.unseen_values)


def _percent(score: Score) -> str:
    return f"{100 * score.right / score.asked:.0f} %" if score.asked else "-"
