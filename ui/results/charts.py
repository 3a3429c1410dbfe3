"""Charts of the results page, as Plotly figures that read well on light and dark.

The tables beside them have the same figures for those who can't see a chart.
"""

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from db import Dimension
from rating import article
from rating.dimensions import HIGHEST, LOWEST, WORDINGS
from rating.findings import Moment, PairFindings
from rating.statistics.figures import PairFigures
from ui.charts import COLOURS, GREY, GRID, SHAPES, dressed
from ui.language import Texts

SCORE_COLOURS = ("#b91c1c", "#f59e0b", "#94a3b8", "#38bdf8", "#1d4ed8")
"""Of the scores 1 to 5: bad is warm, good is cold, which everybody can tell apart."""

_LINES = (*COLOURS, "#0284c7")


def forest(t: Texts, pair: PairFigures) -> go.Figure:
    """Return the difference of each dimension with its interval, and a line at no difference."""
    known = [key for key in Dimension if pair.dimensions[key].difference is not None]
    rows = [pair.dimensions[key] for key in known]
    values = [row.difference or 0.0 for row in rows]
    above, below = (
        [getattr(row.interval, end) if row.interval else None for row in rows]
        for end in ("high", "low")
    )
    figure = go.Figure()
    figure.add_scatter(
        x=values,
        y=[_name(t, key) for key in known],
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [_apart(end, value) for end, value in zip(above, values, strict=True)],
            "arrayminus": [_apart(value, end) for end, value in zip(below, values, strict=True)],
            "thickness": 3,
            "width": 7,
            "color": GREY,
        },
        customdata=[row.n_prompts for row in rows],
        hovertemplate="%{y}: %{x:+.2f} (n = %{customdata})<extra></extra>",
        mode="markers",
        marker={
            "size": 13,
            "symbol": [SHAPES[int(value > 0)] for value in values],
            "color": [COLOURS[int(value > 0)] for value in values],
        },
    )
    figure.add_vline(x=0, line={"color": GREY, "width": 2, "dash": "dash"})
    most = max([0.5, *(abs(end) for end in (*above, *below, *values) if end is not None)])
    first, second = pair.models
    figure.update_xaxes(
        range=[-most * 1.1, most * 1.1],
        title={
            "text": f"← {t('better', model=first)}<br>{t('better', model=second)} →",
            "font": {"size": 12},
        },
        **GRID,
    )
    names = [_name(t, key) for key in reversed(Dimension)]
    figure.update_yaxes(categoryorder="array", categoryarray=names, automargin=True, **GRID)
    return dressed(figure, t("forest_chart")).update_layout(showlegend=False)


def _apart(more: float | None, less: float | None) -> float | None:
    return None if more is None or less is None else max(0.0, more - less)


def radar(t: Texts, pair: PairFigures) -> go.Figure:
    """Return the means of both models as shapes over the five dimensions, the article's dotted."""
    figure = go.Figure()
    names = [_folded(_name(t, key)) for key in Dimension]
    for index, model in enumerate(pair.models):
        means = [pair.dimensions[key].mean.get(model) for key in Dimension]
        _add_shape(figure, model, means, names, {"color": COLOURS[index], "width": 3})
    for index, column in enumerate(article.columns_for(pair.models)):
        line = {"color": COLOURS[index], "width": 2, "dash": "dot"}
        label = t("chart_article", model=column.model)
        _add_shape(figure, label, [column.scores[key] for key in Dimension], names, line)
    figure.update_polars(
        bgcolor="rgba(0,0,0,0)",
        radialaxis={"range": [LOWEST, HIGHEST], "dtick": 1, "gridcolor": GRID["gridcolor"]},
        angularaxis={"gridcolor": GRID["gridcolor"], "direction": "clockwise"},
    )
    return dressed(figure, t("radar_chart")).update_layout(margin={"l": 70, "r": 70})


def _folded(name: str) -> str:
    """Return a name on two lines: beside a radar there is little room."""
    middle = name.find(" ") if " " in name else (len(name) + 1) // 2
    return f"{name[:middle].rstrip()}<br>{name[middle:].lstrip()}" if middle > 0 else name


def _add_shape(
    figure: go.Figure,
    name: str,
    values: Sequence[float | None],
    names: Sequence[str],
    line: dict[str, object],
) -> None:
    figure.add_scatterpolar(
        name=name,
        r=[*values, values[0]],
        theta=[*names, names[0]],
        mode="lines+markers",
        line=line,
        marker={"size": 6},
        hovertemplate="%{theta}: %{r:.2f}",
    )


def distribution(t: Texts, found: PairFindings) -> go.Figure:
    """Return, for each dimension and model, the shares of the scores 1 to 5 as one stacked bar."""
    figure, rows = go.Figure(), [(key, m) for key in Dimension for m in found.figures.models]
    totals = [max(1, sum(found.given[key][model])) for key, model in rows]
    for place, score in enumerate(range(LOWEST, HIGHEST + 1)):
        counts = [found.given[key][model][place] for key, model in rows]
        figure.add_bar(
            name=str(score),
            orientation="h",
            x=[count / total for count, total in zip(counts, totals, strict=True)],
            y=[[_name(t, key) for key, _ in rows], [_side(found, model) for _, model in rows]],
            customdata=counts,
            hovertemplate="%{y}: %{x:.0%} (%{customdata})",
            marker={"color": SCORE_COLOURS[place]},
        )
    figure.update_layout(barmode="stack", bargap=0.25)
    first, second = found.figures.models
    figure.update_xaxes(
        tickformat=".0%", range=[0, 1], title=f"A {escape(first)}<br>B {escape(second)}", **GRID
    )
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False)
    figure = dressed(figure, t("given_title"), height=460)
    return figure.update_layout(legend={"traceorder": "normal"})


def _side(found: PairFindings, model: str) -> str:
    return "AB"[found.figures.models.index(model)]


def progress(t: Texts, found: PairFindings) -> go.Figure | None:
    """Return how each dimension's interval narrowed as ratings arrived; None without any.

    One dimension is drawn at first, the others at a click on their names.
    """
    figure = go.Figure()
    for index, key in enumerate(Dimension):
        moments = [one for one in found.progress[key] if one.interval is not None]
        if moments:
            shown = True if not figure.data else "legendonly"
            _add_progress(figure, _name(t, key), moments, _LINES[index], shown)
    if not figure.data:
        return None
    figure.add_hline(y=0, line={"color": GREY, "width": 2, "dash": "dash"})
    figure.update_xaxes(title=t("ratings"), rangemode="tozero", **GRID)
    figure.update_yaxes(title=t("difference"), **GRID)
    return dressed(figure, t("progress_chart"), height=460)


def _add_progress(
    figure: go.Figure, name: str, moments: Sequence[Moment], colour: str, shown: bool | str
) -> None:
    known = [(one.difference or 0.0, one.interval) for one in moments if one.interval]
    figure.add_scatter(
        name=name,
        visible=shown,
        x=[one.n_ratings for one in moments],
        y=[value for value, _ in known],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [interval.high - value for value, interval in known],
            "arrayminus": [value - interval.low for value, interval in known],
            "thickness": 2,
        },
        mode="lines+markers",
        line={"color": colour},
        marker={"size": 8},
        hovertemplate="%{x}: %{y:+.2f}",
    )


def _name(t: Texts, key: Dimension) -> str:
    return WORDINGS[key][t.language].name
