"""What the measure page shows of a measurement: tables, charts, and which model to take.

A part of that page: shows nothing to whoever has a blind trial of their own open. Figures and
advice are made in `rating`; how they look, `views`, `advice_view`, `charts`.
"""

from dataclasses import dataclass
from typing import Any

import gradio as gr
import pandas as pd
import plotly.graph_objects as go

from db.queries import Filters
from rating.advice.candidates import Ratings, candidates
from rating.advice.choice import Advice, Limits, advise, limits_from, scatter
from rating.measuring.measurements import Measurements, MeasurementView
from rating.results_rule import visible_to
from rating.session import Panel
from ui import markup
from ui.components import Components
from ui.errors import shown_errors
from ui.events import PRIVATE
from ui.language import Texts, text_key, texts_in
from ui.measure import advice_view, charts, views
from ui.operator import Operator
from ui.results.finder import Finder
from ui.visitor import connection_of, visitor_of

_LIMITS = ("limit_memory", "limit_first_token", "limit_answer")

Page = tuple[Any, ...]


@dataclass(frozen=True)
class _Parts(Components):
    """One measurement and what follows from it, in the order of `_Events.show`."""

    tables: gr.HTML
    latency: gr.Plot
    first_token: gr.Plot
    memory: gr.Plot
    choice: gr.Column
    advice: gr.HTML
    scatter: gr.Plot


def build(
    blocks: gr.Blocks,
    panel: Panel,
    measurements: Measurements,
    finder: Finder,
    operator: Operator,
    phase: gr.Textbox,
) -> None:
    """Lay out this part of the page; it shows the newest each time that `phase` changes."""
    events = _Events(panel, measurements, finder, operator)
    chosen = gr.Dropdown(
        label=text_key("shown_measurement"), choices=[], visible=False, elem_id="measure-shown"
    )
    tables = markup.component(elem_id="measure-results")
    latency, first_token, memory = (
        _plot(f"measure-{name}") for name in ("latency", "first-token", "memory")
    )
    with gr.Column(visible=False, elem_id="measure-choice") as choice:
        title = markup.component()
        with gr.Row(elem_classes="tp-filters"):
            limits = [_limit_box(name) for name in _LIMITS]
        advice = markup.component(elem_id="measure-advice")
        points = _plot("measure-scatter")
    parts = _Parts(tables, latency, first_token, memory, choice, advice, points)
    asked = [chosen, *limits]
    blocks.load(events.head, None, title, **PRIVATE)
    listed = phase.change(events.list_all, None, chosen, **PRIVATE)
    listed.then(events.show, asked, parts.listed(), **PRIVATE)
    chosen.input(events.show, asked, parts.listed(), **PRIVATE)
    gr.on(
        [event for limit in limits for event in (limit.submit, limit.blur)],
        events.advise,
        asked,
        [advice, points],
        **PRIVATE,
    )


def _plot(elem_id: str) -> gr.Plot:
    return gr.Plot(show_label=False, visible=False, elem_id=elem_id)


def _limit_box(name: str) -> gr.Number:
    return gr.Number(label=text_key(name), value=0, step=0.1, elem_id=name.replace("_", "-"))


class _Events:
    """What this part does on each event; every argument from the browser is untrusted."""

    def __init__(
        self, panel: Panel, measurements: Measurements, finder: Finder, operator: Operator
    ) -> None:
        self._panel = panel
        self._measurements = measurements
        self._finder = finder
        self._operator = operator

    def head(self, request: gr.Request) -> str:
        return markup.render("measure_advice_head", _texts(request))

    async def list_all(self, request: gr.Request) -> Any:
        """Offer the measurements that have figures, the newest chosen."""
        t = _texts(request)
        with shown_errors(request):
            hidden = await self._panel.is_blinded(visitor_of(request))
            recent = [] if hidden else await self._measurements.recent()
        known = [one for one in recent if one.models or one.answers]
        choices = [(views.label(t, one), one.id) for one in known]
        newest = known[0].id if known else None
        return gr.update(choices=choices, value=newest, visible=len(known) > 1)

    async def show(
        self, chosen: object, memory: object, first: object, answer: object, request: gr.Request
    ) -> Page:
        """Return one measurement and what follows from it under the limits."""
        t = _texts(request)
        with shown_errors(request):
            hidden = await self._panel.is_blinded(visitor_of(request))
            view = None if hidden else await self._measurements.find(_id(chosen))
            if view is None:
                words = "" if hidden else views.results(t, None)
                gone = _shown(None)
                return words, gone, gone, gone, gr.update(visible=False), "", gone
            limits = _limits(memory, first, answer)
            advice = await self._advice(view, limits, request)
        return (
            views.results(t, view),
            _shown(charts.latency_chart(t, view)),
            _shown(charts.first_token_chart(t, view)),
            _shown(charts.memory_chart(t, view)),
            gr.update(visible=True),
            *_advised(t, advice),
        )

    async def advise(
        self, chosen: object, memory: object, first: object, answer: object, request: gr.Request
    ) -> Page:
        """Return which model to take under other limits."""
        with shown_errors(request):
            limits = _limits(memory, first, answer)
            hidden = await self._panel.is_blinded(visitor_of(request))
            view = None if hidden else await self._measurements.find(_id(chosen))
            if view is None:
                return "", _shown(None)
            return _advised(_texts(request), await self._advice(view, limits, request))

    async def _advice(self, view: MeasurementView, limits: Limits, request: gr.Request) -> Advice:
        operator = self._operator.admits(connection_of(request))
        rater = visitor_of(request).id

        def work(rated: pd.DataFrame) -> Advice:
            database = self._finder.database
            visible = visible_to(database, Filters(), rater, operator=operator)
            ratings = Ratings.of(database, view.plan.models, visible, rated)
            return advise(candidates(view.models, view.answers, ratings), limits)

        return await self._finder.apply(work)


def _id(chosen: object) -> str:
    """Return what can be looked for at all: a NUL or half a character can't."""
    text = str(chosen)
    return text if text.isascii() and text.isalnum() else ""


def _limits(memory: object, first: object, answer: object) -> Limits:
    """Return the limits that were entered; 0 is none, since Gradio puts it into an empty box."""
    return limits_from(
        memory_gb=memory or None, first_token_s=first or None, answer_s=answer or None
    )


def _advised(t: Texts, advice: Advice) -> Page:
    return advice_view.advice(t, advice), _shown(charts.choice_chart(t, scatter(advice)))


def _shown(chart: go.Figure | None) -> Any:
    return gr.update(value=chart, visible=chart is not None)


def _texts(request: gr.Request) -> Texts:
    return texts_in(visitor_of(request).language)
