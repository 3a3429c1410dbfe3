"""Where the marks of the report's drawings stand: plain numbers for SVG, 0 to `WIDTH` across.

The page's own charts are `charts`'; a report needs no scripts, so its drawings stand still.
"""

from dataclasses import dataclass

from db import Dimension
from rating.dimensions import WORDINGS
from rating.findings import PairFindings
from rating.statistics.figures import PairFigures
from ui.language import Texts

WIDTH = 600
_ROW = 40


@dataclass(frozen=True)
class ForestRow:
    """One dimension: its name, height, and where difference and interval are; None is unknown."""

    name: str
    y: int
    at: float | None
    low: float | None
    high: float | None
    label: str
    second_better: bool


@dataclass(frozen=True)
class Forest:
    """A forest plot: its rows, its height, and (place, label) of the ticks."""

    rows: tuple[ForestRow, ...]
    height: int
    ticks: tuple[tuple[float, str], ...]


def forest(t: Texts, pair: PairFigures) -> Forest:
    """Return where the differences and their intervals stand."""
    figures = [pair.dimensions[key] for key in Dimension]
    ends = [end for one in figures if one.interval for end in (one.interval.low, one.interval.high)]
    values = [one.difference for one in figures if one.difference is not None]
    most = next(
        limit
        for limit in (0.5, 1.0, 2.0, 4.0, 8.0)
        if max(map(abs, [*ends, *values, 0.0])) <= limit
    )

    def place(value: float) -> float:
        return round(WIDTH / 2 * (1 + value / most), 1)

    rows = []
    for number, (key, one) in enumerate(zip(Dimension, figures, strict=True)):
        interval, difference = one.interval, one.difference
        rows.append(
            ForestRow(
                name=WORDINGS[key][t.language].name,
                y=_ROW * number + _ROW // 2,
                at=None if difference is None else place(difference),
                low=place(interval.low) if interval else None,
                high=place(interval.high) if interval else None,
                label="–" if difference is None else f"{difference:+.2f}",
                second_better=(difference or 0.0) > 0,
            )
        )
    ticks = tuple(
        (place(most * part), f"{most * part:+g}" if part else "0") for part in (-1, -0.5, 0, 0.5, 1)
    )
    return Forest(tuple(rows), _ROW * len(rows), ticks)


@dataclass(frozen=True)
class Bar:
    """The scores of one model in one dimension: (score, number, share) of each."""

    name: str
    model: str
    parts: tuple[tuple[int, int, float], ...]


def bars(t: Texts, found: PairFindings) -> list[Bar]:
    """Return how often each score was given, as parts of a whole."""
    return [
        Bar(
            WORDINGS[key][t.language].name,
            model,
            tuple(
                (score, count, count / max(1, sum(counts)))
                for score, count in enumerate(counts, start=1)
            ),
        )
        for key in Dimension
        for model, counts in found.given[key].items()
    ]
