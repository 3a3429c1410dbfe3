"""The models page: what the two models are, how they are doing, and other ones in their place.

What they are, everybody may read. How they are doing (state, memory, failures, what loading one has
told) tells a rater which side is whose: only the operator sees it, and nobody while a blind trial
of their own is open. Who the operator is decides `operator`; whether models fit and how they are
exchanged, `Lineup`; whether they may be, `Panel`.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from backends.backend import Backend
from backends.catalog import MODELS, PAIRS, Model
from backends.hub import with_files
from backends.lineup import Lineup
from backends.memory import Fit
from backends.specs import UnknownModel, resolve
from rating.session import Panel
from ui import markup, model_markup
from ui.components import Components
from ui.errors import Refused, shown_errors
from ui.events import PRIVATE
from ui.language import Texts, text_key, texts_in
from ui.operator import Operator
from ui.operator_entry import OperatorEntry
from ui.visitor import connection_of, visitor_of

PATH = "models"

_LOOK_EVERY_S = 1.0

Page = tuple[Any, ...]


@dataclass(frozen=True)
class _Parts(Components):
    """The components whose look depends on who is there, in the order of `_Events.open`."""

    lead: gr.HTML
    entry: gr.Row
    change: gr.Column
    timer: gr.Timer
    pair: gr.Dropdown
    first: gr.Dropdown
    second: gr.Dropdown


def build(blocks: gr.Blocks, panel: Panel, lineup: Lineup, operator: Operator) -> None:
    """Lay out the page in `blocks`, whose route is open, and connect its events."""
    header = markup.component(js_on_load="window.twopane.attachHeader(element)")
    lead = markup.component(elem_id="models-lead")
    entry = OperatorEntry(operator, key_id="operator-key", enter_id="enter")
    state = markup.component(elem_id="models-state")
    with gr.Column(visible=False, elem_id="models-change") as change:
        title = markup.component()
        pair = gr.Dropdown(
            label=text_key("change_pair"), choices=[], value=None, elem_id="models-pair"
        )
        with gr.Row():
            first = _model_box("first_model", "models-first")
            second = _model_box("second_model", "models-second")
        with gr.Row(elem_classes="tp-filters"):
            check = gr.Button(text_key("check_models"), elem_id="models-check")
            load = gr.Button(text_key("load_models"), variant="primary", elem_id="models-load")
        fit = markup.component(elem_id="models-fit")
        anyway = gr.Button(
            text_key("load_anyway"), variant="stop", visible=False, elem_id="models-anyway"
        )
    table = markup.component(elem_id="models-table")
    parts = _Parts(
        lead, entry.row, change, gr.Timer(_LOOK_EVERY_S, active=False), pair, first, second
    )
    events = _Events(panel, lineup, operator)
    blocks.load(events.head, None, [header, title], **PRIVATE)
    opened, looked = (events.open, parts.listed()), (events.look, [state, table])
    entry.connect(blocks, opened, looked, parts.timer)
    _connect_change(events, parts, [state, table], [fit, anyway], (check, load))


def _model_box(label: str, elem_id: str) -> gr.Dropdown:
    return gr.Dropdown(
        label=text_key(label),
        info=text_key("model_box"),
        choices=[],
        value=None,
        allow_custom_value=True,
        min_width=320,
        elem_id=elem_id,
    )


def _connect_change(
    events: "_Events",
    parts: _Parts,
    looks: list[Any],
    result: list[Any],
    buttons: tuple[gr.Button, gr.Button],
) -> None:
    specs: list[Any] = [parts.first, parts.second]
    (check, load), anyway = buttons, result[1]
    parts.pair.input(events.fill_in, parts.pair, [*specs, *result], **PRIVATE)
    gr.on(
        [parts.first.input, parts.second.input],
        events.edited,
        None,
        [parts.pair, *result],
        **PRIVATE,
    )
    check.click(events.check, specs, result, **PRIVATE)
    loads = load.click(events.load, specs, result, **PRIVATE)
    loads.failure(events.offer_force, specs, result, **PRIVATE)
    forced = anyway.click(events.load_anyway, specs, result, **PRIVATE)
    for loaded in (loads, forced):
        loaded.success(events.look, None, looks, **PRIVATE)


class _Events:
    """What the page does on each event; every argument from the browser is untrusted."""

    def __init__(self, panel: Panel, lineup: Lineup, operator: Operator) -> None:
        self._panel = panel
        self._lineup = lineup
        self._operator = operator

    def head(self, request: gr.Request) -> tuple[str, str]:
        t = _texts(request)
        return markup.header(t, "models"), markup.render("models_change", t)

    async def open(self, request: gr.Request) -> Page:
        """Lay the page out for who is there; the models' names must not wait in its source."""
        with shown_errors(request):
            hidden = await self._panel.is_blinded(visitor_of(request))
        operator = self._operator.admits(connection_of(request))
        changes = operator and not hidden
        specs = tuple(backend.model.spec for backend in self._lineup.backends)
        pair = next((key for key, pair in PAIRS.items() if pair.models == specs), None)
        return (
            markup.render(
                "models_lead",
                _texts(request),
                hidden=hidden,
                operator=operator,
                has_key=self._operator.has_key,
            ),
            gr.update(visible=self._operator.has_key and not operator and not hidden),
            gr.update(visible=changes),
            gr.update(active=operator),
            gr.update(choices=_pairs() if changes else [], value=pair if changes else None),
            *(
                gr.update(choices=list(MODELS) if changes else [], value=spec if changes else None)
                for spec in specs
            ),
        )

    async def look(self, request: gr.Request) -> tuple[str, str]:
        """Return how the models are doing and what they are, as far as this visitor may know."""
        t, backends = _texts(request), self._lineup.backends
        with shown_errors(request):
            if await self._panel.is_blinded(visitor_of(request)):
                return markup.render("models_hidden", t), ""
        operator = self._operator.admits(connection_of(request))
        state = ""
        if operator:
            fit = self._lineup.fit((backends[0].model, backends[1].model))
            state = model_markup.states(t, backends, fit)
        return state, model_markup.table(t, backends, operator=operator)

    def fill_in(self, pair: object) -> Page:
        known = PAIRS.get(str(pair))
        specs = known.models if known else (gr.update(), gr.update())
        return (*specs, "", gr.update(visible=False))

    def edited(self) -> Page:
        """Forget what was found about other models than those that are entered now."""
        return (gr.update(value=None), "", gr.update(visible=False))

    async def check(self, first: object, second: object, request: gr.Request) -> Page:
        """Say what the models need and what is free, before anything is loaded."""
        with shown_errors(request):
            await self._admit(request)
            models = await _resolved(first, second)
            return self._found(request, models, self._lineup.fit(models))

    async def load(self, first: object, second: object, request: gr.Request) -> Page:
        return await self._load(first, second, request, force=False)

    async def load_anyway(self, first: object, second: object, request: gr.Request) -> Page:
        return await self._load(first, second, request, force=True)

    async def offer_force(self, first: object, second: object, request: gr.Request) -> Page:
        """After a refusal: if memory was the reason, show the figures and the way around it."""
        with shown_errors(request):
            try:
                await self._admit(request)
                models = await _resolved(first, second)
            except (Refused, UnknownModel):  # it has been said already
                return gr.update(), gr.update()
            fit = self._lineup.fit(models)
            return (gr.update(), gr.update()) if fit.fits else self._found(request, models, fit)

    async def _load(
        self, first: object, second: object, request: gr.Request, *, force: bool
    ) -> Page:
        with shown_errors(request):
            await self._admit(request)
            models = await _resolved(first, second)
            if not force:
                self._lineup.fit(models).check()

            async def exchange() -> tuple[Backend, Backend]:
                await self._lineup.change(models, force=force)
                return self._lineup.backends

            await self._panel.change_models(exchange)
        t = _texts(request)
        return markup.render("models_begun", t, models=models), gr.update(visible=False)

    async def _admit(self, request: gr.Request) -> None:
        self._operator.check(connection_of(request))
        if await self._panel.is_blinded(visitor_of(request)):
            raise Refused("models_hidden")

    def _found(self, request: gr.Request, models: Sequence[Model], fit: Fit) -> Page:
        sure = fit.fits and not model_markup.unknown_needs(models, fit)
        return model_markup.found(_texts(request), models, fit), gr.update(visible=not sure)


def _pairs() -> list[tuple[str, str]]:
    """Return label and key of each known pair; a label may not be one of our texts' names."""
    return [
        (f"{key}: {' · '.join(MODELS[model].title for model in pair.models)}", key)
        for key, pair in PAIRS.items()
    ]


async def _resolved(first: object, second: object) -> tuple[Model, Model]:
    """Return the models that are meant: reading their folders may take a moment."""
    one = await asyncio.to_thread(_model, str(first or ""))
    other = await asyncio.to_thread(_model, str(second or ""))
    if one.key == other.key:
        raise Refused("same_model_twice", model=one.title)
    return one, other


def _model(spec: str) -> Model:
    return with_files(resolve(spec))


def _texts(request: gr.Request) -> Texts:
    return texts_in(visitor_of(request).language)
