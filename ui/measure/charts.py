"""Charts of the measure page, as Plotly figures that read well on light and dark.

The tables beside them have the same figures for those who can't see a chart.
"""

import html
import math
import textwrap
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from backends.measurement import Resources
from rating import article
from rating.advice.choice import Point
from rating.measuring.figures import spreads
from rating.measuring.measurements import MeasurementView
from ui.charts import COLOURS, GREY, GRID, SHAPES
from ui.language import Texts
from ui.measure.views import title_of

_LINE, _LINES = 5, 4
_BYTES_PER_GB = 1e9
_BAR_WIDTH = 0.3  # of the place of one model; one alone would fill the chart
_LARGEST_MARK = 60
_SMALLEST_MARK = 10


def latency_chart(t: Texts, view: MeasurementView) -> go.Figure | None:
    """Return the seconds of an answer by prompt, with standard deviations; None without any."""
    found = spreads(view)
    places = range(1, len(view.plan.prompts) + 1)
    figure = go.Figure()
    for model, together, look in _series(view):
        those = [found.get((model, together, place, "total_s")) for place in places]
        if any(those):
            figure.add_bar(
                name=_name(t, model, together),
                x=[_prompt_label(view, place) for place in places],
                y=[one.mean if one else None for one in those],
                error_y={"type": "data", "array": [one.sd if one else None for one in those]},
                customdata=[one.n if one else 0 for one in those],
                hovertemplate="%{x}: %{y:.2f} s (n = %{customdata})",
                marker=look,
            )
    if not figure.data:
        return None
    _add_article_latency(t, figure, view)
    return _dressed(figure, t("latency_chart"), y=t("seconds"))


def _add_article_latency(t: Texts, figure: go.Figure, view: MeasurementView) -> None:
    places = range(1, len(view.plan.prompts) + 1)
    for index, one in enumerate(article.references_beside(view.plan.models)):
        figure.add_bar(
            name=t("chart_article", model=one.model),
            x=[_prompt_label(view, place) for place in places],
            y=[one.latency_s.get(view.plan.prompts[place - 1]) for place in places],
            hovertemplate="%{x}: %{y:.1f} s",
            marker=_hollow(index),
        )


def memory_chart(t: Texts, view: MeasurementView) -> go.Figure | None:
    """Return the most memory of each model's server, alone and together; None without any."""
    figure = go.Figure()
    for together in (False, True):
        those = [one for one in view.models if one.together is together and one.peak_bytes]
        if those:
            figure.add_bar(
                name=t("all_running" if together else "alone"),
                x=[title_of(one.model_key) for one in those],
                y=[_gigabytes(one) for one in those],
                width=_BAR_WIDTH,
                hovertemplate="%{x}: %{y:.2f} GB",
                marker={
                    "color": [_colour(view.plan.models.index(one.model_key)) for one in those],
                    "pattern": {"shape": "/" if together else ""},
                },
            )
    return _dressed(figure, t("memory_chart"), y="GB") if figure.data else None


def first_token_chart(t: Texts, view: MeasurementView) -> go.Figure | None:
    """Return the seconds to each answer's first token, in the order in which they were asked."""
    figure = go.Figure()
    for model, together, _ in _series(view):
        index = view.plan.models.index(model)
        those = [a for a in view.answers if a.model_key == model and a.together is together]
        if any(one.first_token_s is not None for one in those):
            figure.add_scatter(
                name=_name(t, model, together),
                x=list(range(1, len(those) + 1)),
                y=[one.first_token_s for one in those],
                customdata=[f"{one.prompt}.{one.repeat}" for one in those],
                hovertemplate="%{customdata}: %{y:.3f} s",
                mode="lines+markers",
                line={"color": _colour(index), "dash": "dot" if together else None},
                marker={
                    "size": 8,
                    "symbol": _shape(index) + ("-open" if together else ""),
                },
            )
    if not figure.data:
        return None
    figure = _dressed(figure, t("first_token_chart"), x=t("request_number"), y=t("seconds"))
    return figure.update_xaxes(tickformat="d", dtick=max(1, len(view.answers) // 20))


def choice_chart(t: Texts, points: Sequence[Point]) -> go.Figure | None:
    """Return quality against latency, memory as size; None without a model that has both."""
    most = max((point.peak_bytes or 0 for point in points), default=0)
    figure = go.Figure()
    for index, point in enumerate(points):
        figure.add_scatter(
            name=title_of(point.model_key),
            x=[point.answer_s.mean],
            y=[point.score],
            error_x={"type": "data", "array": [point.answer_s.sd]},
            error_y=_interval(point),
            hovertemplate="%{x:.2f} s, %{y:.2f}",
            mode="markers",
            marker={
                "size": _mark_size(point.peak_bytes, most),
                "color": _colour(index),
                "symbol": _shape(index),
                "opacity": 0.75,
            },
        )
    if not figure.data:
        return None
    figure = _dressed(figure, t("choice_chart"), x=t("answer_seconds"), y=t("quality"))
    return figure.update_yaxes(range=[0.8, 5.2], dtick=1)


def _interval(point: Point) -> dict[str, object]:
    if point.low is None or point.high is None:
        return {"visible": False}
    above, below = point.high - point.score, point.score - point.low
    return {"type": "data", "symmetric": False, "array": [above], "arrayminus": [below]}


def _mark_size(peak_bytes: int | None, most: int) -> float:
    """Return a diameter whose area goes with the memory; the smallest where that isn't known."""
    if not peak_bytes:
        return _SMALLEST_MARK
    return max(_LARGEST_MARK * math.sqrt(peak_bytes / most), _SMALLEST_MARK)


def _series(view: MeasurementView) -> list[tuple[str, bool, Mapping[str, object]]]:
    """Return each model alone, then each together, with its look."""
    return [
        (model, together, _look(index, together))
        for together in (False, True)
        for index, model in enumerate(view.plan.models)
    ]


def _look(index: int, together: bool) -> Mapping[str, object]:
    """Say how a bar looks: models differ in colour, what ran together is hatched."""
    return {"color": _colour(index), "pattern": {"shape": "/" if together else ""}}


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _shape(index: int) -> str:
    return SHAPES[index % len(SHAPES)]


def _hollow(index: int) -> Mapping[str, object]:
    line = {"color": _colour(index), "width": 2}
    return {"color": "rgba(0,0,0,0)", "line": line}


def _name(t: Texts, model: str, together: bool) -> str:
    return f"{title_of(model)} ({t('all_running' if together else 'alone')})"


def _prompt_label(view: MeasurementView, place: int) -> str:
    """Return the prompt in a few short lines: three must stand side by side on a phone."""
    words = view.plan.prompts[place - 1]
    parts = textwrap.wrap(words, _LINE, max_lines=_LINES, placeholder="…")
    return "<br>".join([f"{place}.", *map(html.escape, parts)])


def _gigabytes(one: Resources) -> float:
    return (one.peak_bytes or 0) / _BYTES_PER_GB


def _dressed(figure: go.Figure, title: str, x: str = "", y: str = "") -> go.Figure:
    return figure.update_layout(
        title={"text": title, "x": 0, "font": {"size": 16}},
        height=460,
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": GREY, "size": 14, "family": "system-ui, Noto Sans CJK SC, sans-serif"},
        xaxis={"title": x, "automargin": True, "tickangle": 0, **GRID},
        yaxis={"title": y, "rangemode": "tozero", "automargin": True, **GRID},
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        barmode="group",
        hovermode="closest",
        showlegend=True,
        modebar={"remove": ["lasso2d", "select2d"]},
    )
