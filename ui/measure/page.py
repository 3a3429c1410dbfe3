"""The measure page: what each model takes on this machine, and which one to take.

Results everybody may read; to begin and stop a measurement, to see how far it is and what the app
and its models take at this moment is for the operator. Nobody sees anything of it while a blind
trial of their own is open: how a model does could tell which side is whose. Whether it may be
measured now decides `Measuring`; results and what follows from them are `results`'s part.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from backends.catalog import MODELS, Model
from backends.hub import with_files
from backends.lineup import Lineup
from backends.measurement import MOST_REPEATS, Plan
from backends.resources import Monitor
from backends.specs import resolve
from rating.measuring.background import Measuring
from rating.session import Panel
from ui import markup
from ui.components import Components
from ui.errors import Refused, shown_errors
from ui.events import PRIVATE
from ui.language import Texts, text_key, texts_in
from ui.measure import results, views
from ui.operator import Operator
from ui.operator_entry import OperatorEntry
from ui.results.finder import Finder
from ui.visitor import connection_of, visitor_of

PATH = "measure"

_LOOK_EVERY_S = 2.0
"""Rarely: whoever looks on takes of what is being measured."""

_MOST_MODELS = 4

Page = tuple[Any, ...]


@dataclass(frozen=True)
class _Parts(Components):
    """The components whose look depends on who is there, in the order of `_Events.open`."""

    lead: gr.HTML
    entry: gr.Row
    setup: gr.Column
    timer: gr.Timer
    models: gr.Dropdown


@dataclass(frozen=True)
class _Looks(Components):
    """What is looked at again and again, in the order of `_Events.look`."""

    progress: gr.HTML
    live: gr.HTML
    start: gr.Button
    stop: gr.Button
    phase: gr.Textbox


@dataclass(frozen=True)
class _Plan(Components):
    """What a measurement is asked for, in the order of `_Events.start`."""

    models: gr.Dropdown
    repeats: gr.Number
    together: gr.Checkbox
    force: gr.Checkbox


def build(
    blocks: gr.Blocks,
    panel: Panel,
    lineup: Lineup,
    operator: Operator,
    measuring: Measuring,
    monitor: Monitor,
    finder: Finder,
) -> None:
    """Lay out the page in `blocks`, whose route is open, and connect its events."""
    events = _Events(panel, lineup, operator, measuring, monitor)
    header = markup.component(js_on_load="window.twopane.attachHeader(element)")
    lead = markup.component(elem_id="measure-lead")
    entry = OperatorEntry(operator, key_id="measure-key", enter_id="measure-enter")
    with gr.Column(visible=False, elem_id="measure-setup") as setup:
        title = markup.component()
        plan = _plan_boxes()
        with gr.Row(elem_classes="tp-filters"):
            start = gr.Button(text_key("measure_start"), variant="primary", elem_id="measure-start")
            stop = gr.Button(
                text_key("stop"), variant="stop", interactive=False, elem_id="measure-stop"
            )
    looks = _Looks(
        markup.component(elem_id="measure-progress"),
        markup.component(elem_id="measure-live"),
        start,
        stop,
        gr.Textbox(visible="hidden", elem_id="measure-phase"),
    )
    parts = _Parts(lead, entry.row, setup, gr.Timer(_LOOK_EVERY_S, active=False), plan.models)
    blocks.load(events.head, None, [header, title], **PRIVATE)
    opened, looked = (events.open, parts.listed()), (events.look, looks.listed())
    entry.connect(blocks, opened, looked, parts.timer)
    _connect_plan(events, plan, looks)
    results.build(blocks, panel, measuring.measurements, finder, operator, looks.phase)


def _plan_boxes() -> _Plan:
    models = gr.Dropdown(
        label=text_key("measured_models"),
        info=text_key("measured_models_info"),
        choices=[],
        value=[],
        multiselect=True,
        allow_custom_value=True,
        elem_id="measure-models",
    )
    with gr.Row():
        with gr.Column(min_width=200, scale=1):
            repeats = gr.Number(label=text_key("repeats"), value=5, elem_id="measure-repeats")
        with gr.Column(min_width=280, scale=3):
            together = gr.Checkbox(
                label=text_key("together_too"), value=True, elem_id="measure-together"
            )
            force = gr.Checkbox(label=text_key("even_while_served"), elem_id="measure-force")
    return _Plan(models, repeats, together, force)


def _connect_plan(events: "_Events", plan: _Plan, looks: _Looks) -> None:
    for done in (
        looks.start.click(events.start, plan.listed(), None, **PRIVATE),
        looks.stop.click(events.stop, None, None, **PRIVATE),
    ):
        done.then(events.look, None, looks.listed(), **PRIVATE)


class _Events:
    """What the page does on each event; every argument from the browser is untrusted."""

    def __init__(
        self,
        panel: Panel,
        lineup: Lineup,
        operator: Operator,
        measuring: Measuring,
        monitor: Monitor,
    ) -> None:
        self._panel = panel
        self._lineup = lineup
        self._operator = operator
        self._measuring = measuring
        self._monitor = monitor

    def head(self, request: gr.Request) -> tuple[str, str]:
        t = _texts(request)
        return markup.header(t, "measure"), markup.render("measure_setup", t)

    async def open(self, request: gr.Request) -> Page:
        """Lay the page out for who is there; the models' names must not wait in its source."""
        with shown_errors(request):
            hidden = await self._panel.is_blinded(visitor_of(request))
        operator = self._operator.admits(connection_of(request))
        measures = operator and not hidden
        loaded = [backend.model.spec for backend in self._lineup.backends] if measures else []
        known = MODELS if measures else ()
        return (
            markup.render(
                "measure_lead",
                _texts(request),
                hidden=hidden,
                operator=operator,
                has_key=self._operator.has_key,
            ),
            gr.update(visible=self._operator.has_key and not operator and not hidden),
            gr.update(visible=measures),
            gr.update(active=operator),
            gr.update(choices=list(dict.fromkeys([*loaded, *known])), value=loaded),
        )

    async def look(self, request: gr.Request) -> Page:
        """Return how far the measurement is and what is taken now, as far as one may know.

        The last value changes whenever there are other results to show, and only then.
        """
        t, same = _texts(request), gr.update()
        with shown_errors(request):
            if await self._panel.is_blinded(visitor_of(request)):
                return markup.render("models_hidden", t), "", same, same, "hidden"
        if not self._operator.admits(connection_of(request)):
            return "", "", same, same, "open"
        now = self._measuring.progress
        under_way = f" {now.measurement_id} {now.step.model_key}" if now and now.step else ""
        return (
            views.progress(t, now, self._measuring.trouble),
            views.live(t, self._monitor),
            # An update without the label would lose one that the browser translates.
            gr.update(value=t("measure_start"), interactive=now is None),
            gr.update(value=t("stop"), interactive=now is not None and not now.stopping),
            f"open{under_way}",
        )

    async def start(
        self,
        models: object,
        repeats: object,
        together: object,
        force: object,
        request: gr.Request,
    ) -> None:
        """Begin to measure; it goes on when the page is closed."""
        with shown_errors(request):
            self._operator.check(connection_of(request))
            if await self._panel.is_blinded(visitor_of(request)):
                raise Refused("models_hidden")
            plan = Plan(
                models=await _resolved(models),
                repeats=_count(repeats),
                together=together is True,
            )
            await self._measuring.start(plan, force=force is True)

    def stop(self, request: gr.Request) -> None:
        """End the measurement, whoever began it; what was measured stays."""
        with shown_errors(request):
            self._operator.check(connection_of(request))
            self._measuring.stop()


async def _resolved(specs: object) -> tuple[Model, ...]:
    """Return the models that are meant: reading their folders may take a moment."""
    wanted = [str(spec) for spec in specs] if isinstance(specs, list) else []
    if not wanted:
        raise Refused("choose_models")
    if len(wanted) > _MOST_MODELS:
        raise Refused("too_many_models", most=_MOST_MODELS)
    models = await asyncio.to_thread(lambda: [with_files(resolve(spec)) for spec in wanted])
    if twice := _twice(models):
        raise Refused("same_model_twice", model=twice.title)
    return tuple(models)


def _twice(models: Sequence[Model]) -> Model | None:
    keys = [model.key for model in models]
    return next((model for model in models if keys.count(model.key) > 1), None)


def _count(repeats: object) -> int:
    if isinstance(repeats, int | float) and repeats in range(1, MOST_REPEATS + 1):
        return int(repeats)
    raise Refused("bad_repeats", most=MOST_REPEATS)


def _texts(request: gr.Request) -> Texts:
    return texts_in(visitor_of(request).language)
