"""The results page: what the scores prove, charts of it, and the trials behind each figure.

Follows the ratings while raters work. Shows no session's results before its rule allows
(`rating.results_rule`); and as long as its visitor has a blind trial open, no answers: both models
say much the same to the same prompt each time. The figures come from `rating`, through `finder`.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from db import Language, queries
from db.queries import Filters
from db.rating_queries import rating_sessions
from rating.exchange import Format, Selection, export_bytes
from rating.findings import Findings
from rating.results_rule import visible_to
from rating.session import Panel
from rating.summary import careless_trials, filters_from
from ui import markup
from ui.errors import Refused, shown_errors
from ui.events import PRIVATE
from ui.language import Texts, text_key, texts_in
from ui.operator import Operator
from ui.results import charts, trials, views
from ui.results.boxes import ANY, AboutBoxes, FilterBoxes, Shown, about_boxes, filter_boxes, plot
from ui.results.files import SAVE, as_data
from ui.results.finder import Finder
from ui.results.report import report_html
from ui.results.trials import About
from ui.results.watch import Watch
from ui.visitor import connection_of, visitor_of

PATH = "summary"

_LOOK_EVERY_S = 5.0
_SPREADSHEET = "spreadsheet"
"""Among the formats: CSV of which no cell is a formula to a spreadsheet."""

_TO_ANCHOR = "() => document.getElementById(location.hash.slice(1))?.scrollIntoView()"
Page = tuple[Any, ...]


def build(blocks: gr.Blocks, panel: Panel, finder: Finder, operator: Operator) -> None:
    """Lay out the page in `blocks`, whose route is open, and connect its events."""
    events = _Events(panel, finder, operator)
    header = markup.component(js_on_load="window.twopane.attachHeader(element)")
    with gr.Row(elem_classes="tp-filters"):
        filters = filter_boxes()
        refresh = gr.Button(text_key("refresh"), scale=0, min_width=120)
    lead = markup.component(elem_id="verdicts")
    with gr.Row():
        forest, radar = plot("chart"), plot("radar")
    with gr.Row():
        distribution, progress = plot("distribution"), plot("progress")
    figures = markup.component(elem_id="figures")
    exporting = _file_boxes(events, filters)
    title = markup.component(elem_id="trials-title")
    with gr.Row(elem_classes="tp-filters"):
        about = about_boxes()
    listed = markup.component(elem_id="trials")
    stamp = gr.Textbox(visible="hidden", elem_id="results-stamp")
    shown = Shown(lead, forest, radar, distribution, progress, figures)
    chosen = [*filters.listed(), *about.listed()]
    opened = blocks.load(events.open, None, [header, title, exporting, *chosen], **PRIVATE)
    _connect(events, (opened, refresh), filters, about, shown, listed, stamp)


def _file_boxes(events: "_Events", filters: FilterBoxes) -> gr.Row:
    """Lay out what gives files away, and connect it; return what is for the operator."""
    with gr.Row(elem_classes="tp-filters", equal_height=True):
        make_report = gr.Button(text_key("make_report"), elem_id="make-report", scale=0)
        exporting = gr.Row(visible=False, elem_id="export")
        with exporting:
            format_ = gr.Dropdown(
                label=text_key("export_format"),
                choices=[
                    *((one.value, one.value) for one in Format),
                    (text_key("export_spreadsheet"), _SPREADSHEET),
                ],
                value=Format.CSV.value,
                elem_id="export-format",
            )
            export = gr.Button(text_key("export"), elem_id="export-button", scale=0)
    made = gr.Textbox(visible="hidden")
    for done in (
        make_report.click(events.make_report, filters.listed(), made, **PRIVATE),
        export.click(events.export, [*filters.listed(), format_], made, **PRIVATE),
    ):
        done.success(None, made, None, js=SAVE, **PRIVATE)
    return exporting


def _connect(
    events: "_Events",
    begun: tuple[Any, gr.Button],
    filters: FilterBoxes,
    about: AboutBoxes,
    shown: Shown,
    listed: gr.HTML,
    stamp: gr.Textbox,
) -> None:
    wanted, about_too = filters.listed(), [*filters.listed(), *about.listed()]
    opened, refresh = begun
    list_trials = (events.list_trials, about_too, listed)
    opened.then(events.look, None, stamp, **PRIVATE)
    opened.then(*list_trials, **PRIVATE).then(None, None, None, js=_TO_ANCHOR, **PRIVATE)
    gr.Timer(_LOOK_EVERY_S).tick(events.look, None, stamp, **PRIVATE)
    stamp.change(events.show, wanted, shown.listed(), **PRIVATE)
    chosen = [filters.pair, filters.mode, filters.language, filters.session]
    gr.on(
        [
            refresh.click,
            filters.include_flagged.input,
            *(box.input for box in chosen),
            *(box.submit for box in (filters.since, filters.until)),
        ],
        *(events.show, wanted, shown.listed()),
        **PRIVATE,
    ).then(*list_trials, **PRIVATE)
    gr.on(
        [about.dimension.input, about.model.input, about.score.input, about.words.submit],
        *list_trials,
        **PRIVATE,
    )


class _Events:
    """What the page does on each event; every argument from the browser is untrusted."""

    def __init__(self, panel: Panel, finder: Finder, operator: Operator) -> None:
        self._panel = panel
        self._finder = finder
        self._database = finder.database
        self._operator = operator
        self._watch = Watch(finder.database)

    async def open(self, request: gr.Request) -> Page:
        """Offer what has ratings, and choose what the address asks for.

        The names must not wait in the page's source.
        """
        t, asked = _texts(request), dict(request.query_params)
        with shown_errors(request):
            visible = await self._visible(Filters(), request)
            pairs, sessions = await asyncio.to_thread(self._choices, visible)
        pair = asked.get("pair") if asked.get("pair") in pairs else (pairs[0] if pairs else None)
        models = pair.split("|") if pair else []
        about = About.of(*(asked.get(name) for name in ("dimension", "model", "score", "words")))
        return (
            markup.header(t, "summary"),
            markup.render("results_trials", t),
            gr.update(visible=self._operator.admits(connection_of(request))),
            gr.update(choices=[(key.replace("|", " · "), key) for key in pairs], value=pair),
            gr.update(value=_one_of(asked.get("mode"), ("blind", "open"))),
            gr.update(value=_one_of(asked.get("language"), [one.value for one in Language])),
            *(asked.get(name, "")[:40] for name in ("since", "until")),
            gr.update(
                choices=[(t("any"), ANY), *sessions],
                value=_one_of(asked.get("session"), [key for _, key in sessions]),
                visible=bool(sessions),
            ),
            asked.get("flagged") == views.INCLUDED,
            gr.update(value=about.dimension.value if about.dimension else ANY),
            gr.update(
                choices=[(t("any"), ANY), *((model, model) for model in models)],
                value=_one_of(about.model, models),
            ),
            gr.update(value=str(about.score) if about.score else ANY),
            about.words,
        )

    def _choices(self, visible: Filters) -> tuple[list[str], list[tuple[str, str]]]:
        with self._database.read() as session:
            pairs = queries.rated_pairs(session, visible)
            sessions = [
                (one.name, one.id)
                for one in rating_sessions(session)
                if one.id not in visible.hidden_sessions
            ]
        return pairs, sessions

    async def look(self, request: gr.Request) -> str:
        """Return what changes whenever there is something else to show, and only then."""
        with shown_errors(request):
            operator = self._operator.admits(connection_of(request))
            rater = visitor_of(request).id
            return await asyncio.to_thread(self._watch.look, rater, operator=operator)

    async def show(
        self,
        pair: object,
        mode: object,
        language: object,
        since: object,
        until: object,
        session: object,
        include_flagged: object,
        request: gr.Request,
    ) -> Page:
        """Return what the ratings that are meant say."""
        wanted = (pair, mode, language, since, until, session, include_flagged)
        with shown_errors(request):
            findings, visible = await self._find(wanted, request)
            n_hidden = len(visible.hidden_sessions)
            limits = views.limits_of(visible, include_flagged=include_flagged is True)
            return await asyncio.to_thread(_shown, _texts(request), findings, limits, n_hidden)

    async def list_trials(
        self,
        pair: object,
        mode: object,
        language: object,
        since: object,
        until: object,
        session: object,
        include_flagged: object,
        dimension: object,
        model: object,
        score: object,
        words: object,
        request: gr.Request,
    ) -> str:
        """Return the trials behind a figure; none while they could give the visitor's own away."""
        wanted = (pair, mode, language, since, until, session, include_flagged)
        t, about = _texts(request), About.of(dimension, model, score, words)
        with shown_errors(request):
            if await self._panel.is_blinded(visitor_of(request)):
                return trials.hidden(t)
            visible = await self._visible(_filters(wanted[:-1]), request)
            work = partial(trials.found, visible, about, include_flagged is True)
            behind = await self._finder.apply(work)
            if behind is None:
                return ""
            return await asyncio.to_thread(trials.shown, t, self._database, behind)

    async def make_report(
        self,
        pair: object,
        mode: object,
        language: object,
        since: object,
        until: object,
        session: object,
        include_flagged: object,
        request: gr.Request,
    ) -> str:
        """Return a file with all figures, for the browser to save."""
        wanted = (pair, mode, language, since, until, session, include_flagged)
        with shown_errors(request):
            findings, _ = await self._find(wanted, request)
            page = await asyncio.to_thread(report_html, _texts(request), findings)
            return json.dumps(as_data("twopane-results.html", "text/html", page.encode()))

    async def export(
        self,
        pair: object,
        mode: object,
        language: object,
        since: object,
        until: object,
        session: object,
        include_flagged: object,
        format_: object,
        request: gr.Request,
    ) -> str:
        """Return the ratings for other tools, for the browser to save: the operator's alone.

        A file tells of attention trials and repeats, and who was on which side.
        """
        wanted = (pair, mode, language, since, until, session)
        with shown_errors(request):
            self._operator.check(connection_of(request))
            if await self._panel.is_blinded(visitor_of(request)):
                raise Refused("models_hidden")
            name, content = await asyncio.to_thread(
                self._exported, str(format_), _filters(wanted), include_flagged is True
            )
            return json.dumps(as_data(name, "application/octet-stream", content))

    def _exported(self, format_: str, filters: Filters, include_flagged: bool) -> tuple[str, bytes]:
        selection = Selection(
            filters,
            flags=careless_trials(self._database),
            include_flagged=include_flagged,
            spreadsheet=format_ == _SPREADSHEET,
        )
        chosen = Format(format_) if format_ in set(Format) else Format.CSV
        return export_bytes(self._database, chosen, selection)

    async def _find(
        self, wanted: Sequence[object], request: gr.Request
    ) -> tuple[Findings, Filters]:
        *limits, include_flagged = wanted
        visible = await self._visible(_filters(limits), request)
        found = await self._finder.find(visible, include_flagged=include_flagged is True)
        return found, visible

    async def _visible(self, filters: Filters, request: gr.Request) -> Filters:
        operator = self._operator.admits(connection_of(request))
        rater = visitor_of(request).id
        return await asyncio.to_thread(
            visible_to, self._database, filters, rater, operator=operator
        )


def _filters(wanted: Sequence[object]) -> Filters:
    pair, mode, language, since, until, session = wanted
    return filters_from(
        pair=pair,
        mode=mode,
        language=language,
        since=since,
        until=until,
        session=None if session == ANY else session,
    )


def _one_of(value: object, known: "tuple[str, ...] | list[str]") -> str:
    return str(value) if value in known else ANY


def _shown(t: Texts, findings: Findings, limits: views.Limits, hidden_sessions: int) -> Page:
    first = findings.pairs[0] if findings.pairs and findings.pairs[0].figures.n_trials else None
    drawn: Mapping[str, go.Figure | None] = (
        {
            "forest": charts.forest(t, first.figures),
            "radar": charts.radar(t, first.figures),
            "distribution": charts.distribution(t, first),
            "progress": charts.progress(t, first),
        }
        if first is not None
        else dict.fromkeys(("forest", "radar", "distribution", "progress"))
    )
    return (
        views.lead(t, findings, limits, hidden_sessions=hidden_sessions),
        *(gr.update(value=chart, visible=chart is not None) for chart in drawn.values()),
        views.ranking(t, findings)
        + "".join(views.figures_table(t, found, limits) for found in findings.pairs),
    )


def _texts(request: gr.Request) -> Texts:
    return texts_in(visitor_of(request).language)
