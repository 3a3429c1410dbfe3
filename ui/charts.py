"""Charts of the summary page, as Plotly figures that read well on light and dark.

What other pages' charts share with them is here as well: colours, shapes, grid.
"""

import plotly.graph_objects as go

from db import Dimension
from rating import article
from rating.dimensions import WORDINGS
from rating.summary import PairSummary
from ui.language import Texts

COLOURS = ("#d97706", "#0d9488", "#6366f1", "#be185d")
"""First, second and further models: told apart also by those who can't see red or green, and by
shape."""

SHAPES = ("circle", "diamond", "square", "triangle-up")
GREY = "#64748b"
GRID = {"gridcolor": "rgba(100,116,139,.25)", "zeroline": False}


def dimensions_chart(t: Texts, pair: PairSummary) -> go.Figure:
    """Return the means of both models by dimension, the article's as hollow marks beside them."""
    names = [WORDINGS[key][t.language].name for key in Dimension]
    figure = go.Figure()
    for index, model in enumerate(pair.models):
        figures = [pair.dimensions[key] for key in Dimension]
        figure.add_scatter(
            name=model,
            x=[f.mean[model] for f in figures],
            y=names,
            customdata=[f.n[model] for f in figures],
            hovertemplate="%{y}: %{x:.2f} (n = %{customdata})",
            mode="markers",
            marker={"size": 15, "color": COLOURS[index], "symbol": SHAPES[index]},
        )
    for index, column in enumerate(article.columns_for(pair.models)):
        figure.add_scatter(
            name=t("chart_article", model=column.model),
            x=[column.scores[key] for key in Dimension],
            y=names,
            hovertemplate="%{y}: %{x:.1f}",
            mode="markers",
            marker={
                "size": 12,
                "color": COLOURS[index],
                "symbol": f"{SHAPES[index]}-open",
                "line": {"width": 2},
            },
        )
    return _dressed(figure, t)


def _dressed(figure: go.Figure, t: Texts) -> go.Figure:
    return figure.update_layout(
        title=None,
        height=360,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": GREY, "size": 14, "family": "system-ui, Noto Sans CJK SC, sans-serif"},
        xaxis={"range": [0.8, 5.2], "dtick": 1, "title": t("chart_title"), **GRID},
        yaxis={"autorange": "reversed", "automargin": True, **GRID},
        legend={"orientation": "h", "y": -0.25, "x": 0},
        hovermode="closest",
        modebar={"remove": ["lasso2d", "select2d"]},
    )
