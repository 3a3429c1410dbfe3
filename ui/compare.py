"""The compare page: one prompt, two panes, a blind rating, the reveal; or a rating session.

Lays out the page and connects its events to `rating.session.Panel`, which decides everything. Each
event gives the whole page anew, made by `_page` from one trial view, so that no two parts of it
can disagree.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from backends.backend import State, Status
from backends.catalog import MODELS
from backends.lineup import Lineup
from db import Side, TrialState
from rating.errors import WrongState
from rating.session import Panel
from rating.sessions.standing import Standing
from rating.trial import AnswerStatus, TrialView
from ui import markup, session_markup
from ui.components import Components
from ui.errors import shown_errors
from ui.events import PRIVATE
from ui.language import Texts, text_key, texts_in
from ui.visitor import visitor_of

STATUS_INTERVAL_S = 2.0

Page = tuple[Any, ...]


@dataclass(frozen=True)
class _Parts(Components):
    """The components that a trial fills, in the order in which `_page` gives their values."""

    trial: gr.Textbox
    left: gr.Chatbot
    right: gr.Chatbot
    left_foot: gr.HTML
    right_foot: gr.HTML
    retry_left: gr.Button
    retry_right: gr.Button
    ask: gr.Button
    stop: gr.Button
    new: gr.Button
    reveal: gr.HTML
    rating: gr.HTML
    session: gr.HTML


def build(blocks: gr.Blocks, panel: Panel, lineup: Lineup) -> None:
    """Lay out the page in `blocks`, which is open, and connect its events."""
    header = markup.component(js_on_load="window.twopane.attachHeader(element)")
    mode = markup.component()
    status = markup.component()
    session = markup.component(elem_id="session")
    with gr.Row(elem_classes="tp-panes", equal_height=True):
        left, left_foot, retry_left = _pane(Side.LEFT)
        right, right_foot, retry_right = _pane(Side.RIGHT)
    with gr.Row(elem_classes="tp-ask"):
        prompt = gr.Textbox(
            label=text_key("prompt_label"),
            placeholder=text_key("prompt_placeholder"),
            lines=1,
            max_lines=8,
            scale=8,
            elem_id="prompt",
        )
        with gr.Column(scale=1, min_width=160):
            ask = gr.Button(text_key("ask"), variant="primary", elem_id="ask")
            stop = gr.Button(text_key("stop"), variant="stop", interactive=False, elem_id="stop")
            new = gr.Button(text_key("new_trial"), elem_id="new")
    suggestions = markup.component(js_on_load="window.twopane.attachSuggestions(element)")
    reveal = markup.component(elem_id="reveal")
    rating = markup.component(
        elem_id="rating",
        js_on_load="window.twopane.attachRating(element, trigger); /* 'draft' 'send' */",
    )
    trial = gr.Textbox(visible="hidden", elem_id="trial")
    asked = gr.Textbox(visible="hidden", elem_id="asked")
    parts = _Parts(
        *(trial, left, right, left_foot, right_foot, retry_left, retry_right, ask, stop, new),
        *(reveal, rating, session),
    )
    _connect_head(blocks, panel, lineup, (header, suggestions, left, right), (mode, status))
    events = _Events(panel)
    _connect_turns(blocks, events, parts, prompt, asked)
    _connect_rating(events, parts)


def _pane(side: Side) -> tuple[gr.Chatbot, gr.HTML, gr.Button]:
    with gr.Column(min_width=320, elem_classes="tp-pane"):
        answers = gr.Chatbot(
            label=text_key(f"pane_{side}"),
            height="min(48vh, 32rem)",
            buttons=[],
            feedback_options=None,
            allow_file_downloads=False,
            allow_tags=False,
            latex_delimiters=[],
            layout="bubble",
            elem_id=f"pane-{side}",
        )
        foot = markup.component(elem_id=f"foot-{side}")
        retry = gr.Button(
            text_key(f"retry_{side}"), size="sm", visible=False, elem_id=f"retry-{side}"
        )
    return answers, foot, retry


# --- events ---------------------------------------------------------------------------------------


def _connect_head(
    blocks: gr.Blocks,
    panel: Panel,
    lineup: Lineup,
    fixed: Sequence[gr.components.Component],
    changing: Sequence[gr.components.Component],
) -> None:
    def head(request: gr.Request) -> Page:
        t = _texts(request)
        empty = gr.update(placeholder=t("pane_empty"))
        return (
            markup.header(t, "compare"),
            markup.suggestions(t, panel.suggested(t.language)),
            *(empty, empty),
        )

    def readiness(request: gr.Request) -> tuple[str, str]:
        t = _texts(request)
        tiny = any(model.builtin for model in panel.models)  # the models may be exchanged
        statuses = [backend.status for backend in lineup.backends]
        status = _status_line(t, statuses, panel.waits_for)
        return markup.mode(t, blind=panel.blind, tiny=tiny), status

    blocks.load(head, None, list(fixed), **PRIVATE)
    ticks = [blocks.load, gr.Timer(STATUS_INTERVAL_S).tick]
    gr.on(ticks, readiness, None, list(changing), **PRIVATE)


def _connect_turns(
    blocks: gr.Blocks,
    events: "_Events",
    parts: _Parts,
    prompt: gr.Textbox,
    asked: gr.Textbox,
) -> None:
    page = parts.listed()

    def go_on(opened: Any) -> Any:
        # On a button, which shows none: other parts would draw a frame 60 times a second as long as
        # the answers come, and be told ten times a second that they are coming.
        quiet = {"show_progress_on": parts.ask}
        return opened.success(events.watch, parts.trial, page, **quiet, **PRIVATE)

    go_on(blocks.load(events.show, None, page, **PRIVATE))
    follow = go_on(
        gr.on(
            [parts.ask.click, prompt.submit],
            events.ask,
            [parts.trial, prompt],
            [prompt, asked, *page],
            **PRIVATE,
        )
    )
    follow.failure(events.give_back, [asked, prompt], [prompt, *page], **PRIVATE)
    for side, button in ((Side.LEFT, parts.retry_left), (Side.RIGHT, parts.retry_right)):
        go_on(button.click(events.retry(side), parts.trial, page, **PRIVATE))
    parts.stop.click(events.stop, parts.trial, None, **PRIVATE)
    begun = parts.new.click(events.new_trial, None, page, **PRIVATE)
    go_on(begun)
    begun.failure(events.show, None, page, **PRIVATE)  # the session may have paused meanwhile


def _connect_rating(events: "_Events", parts: _Parts) -> None:
    parts.rating.draft(events.save_draft, None, None, **PRIVATE)
    parts.rating.send(events.rate, None, parts.listed(), **PRIVATE)


class _Events:
    """What the page does on each event; every argument from the browser is untrusted."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel

    async def show(self, request: gr.Request) -> Page:
        with shown_errors(request):
            view = await self._panel.current(visitor_of(request))
            return await self._page(view, request)

    async def ask(self, trial: str, prompt: str, request: gr.Request) -> Page:
        """Open the turn; `watch` follows it. The prompt leaves the box once it is stored."""
        with shown_errors(request):
            view = await self._panel.ask(visitor_of(request), trial or None, prompt)
            return ("", view.turns[-1].prompt, *await self._page(view, request))

    async def give_back(self, asked: str, prompt: str, request: gr.Request) -> Page:
        """Put a prompt that no model could take back into the box, unless another is there."""
        visitor = visitor_of(request)
        with shown_errors(request):
            view = await self._panel.current(visitor)
            stored = view is not None and bool(view.turns) and view.turns[-1].prompt == asked
            back = gr.update() if prompt or stored else asked
            return (back, *await self._page(view, request))

    async def watch(self, trial: str, request: gr.Request) -> AsyncGenerator[Page, None]:
        with shown_errors(request):
            if not trial:
                yield await self._page(None, request)  # without one Gradio would empty the page
                return
            standing = await self._panel.standing(visitor_of(request))
            t = _texts(request)
            async for view in self._panel.watch(visitor_of(request), trial):
                yield _page(t, view, standing)

    def retry(self, side: Side) -> Callable[..., Any]:
        async def retry(trial: str, request: gr.Request) -> Page:
            with shown_errors(request):
                view = await self._panel.retry(visitor_of(request), trial, [side])
                return await self._page(view, request)

        return retry

    async def stop(self, trial: str, request: gr.Request) -> None:
        with shown_errors(request):
            await self._panel.stop(visitor_of(request), trial)

    async def new_trial(self, request: gr.Request) -> Page:
        """Begin a trial; the prompt of one that a session gives is asked at once."""
        visitor = visitor_of(request)
        with shown_errors(request):
            view = await self._panel.new_trial(visitor)
            if view.session is not None and not view.turns:
                view = await self._panel.ask(visitor, view.id, "")
            return await self._page(view, request)

    async def save_draft(self, event: gr.EventData, request: gr.Request) -> None:
        with shown_errors(request):
            await self._panel.save_draft(visitor_of(request), *_sent(event))

    async def rate(self, event: gr.EventData, request: gr.Request) -> Page:
        with shown_errors(request):
            view = await self._panel.rate(visitor_of(request), *_sent(event))
            return await self._page(view, request)

    async def _page(self, view: TrialView | None, request: gr.Request) -> Page:
        return _page(_texts(request), view, await self._panel.standing(visitor_of(request)))


def _sent(event: gr.EventData) -> tuple[str, Any]:
    """Return the trial's id and the entries that the rating form has sent."""
    data = event._data if isinstance(event._data, dict) else {}
    return str(data.get("trial")), data.get("entries")


# --- what a trial looks like ----------------------------------------------------------------------


def _page(t: Texts, view: TrialView | None, standing: Standing | None) -> Page:
    """Return the value of every part of the page, in the order of `_Parts`."""
    if view is None:
        view = TrialView(id="", state=TrialState.DRAFTING, blind=True)
    retryable = () if view.streaming or view.other_models else view.to_retry
    shown = {identity.model_key for identity in (view.reveal or {}).values()}
    askable = view.state is TrialState.RATEABLE and not view.other_models
    return (
        view.id,
        _messages(view, Side.LEFT),
        _messages(view, Side.RIGHT),
        markup.foot(t, view, Side.LEFT),
        markup.foot(t, view, Side.RIGHT),
        gr.update(value=t("retry_left"), visible=Side.LEFT in retryable),
        gr.update(value=t("retry_right"), visible=Side.RIGHT in retryable),
        # An update without the label would lose one that the browser translates.
        gr.update(value=t("ask"), interactive=view.state is TrialState.DRAFTING or askable),
        gr.update(value=t("stop"), interactive=view.streaming),
        gr.update(
            value=t(session_markup.next_label(view, standing)),
            variant="primary" if view.rating or standing else "secondary",
            interactive=session_markup.may_begin(view, standing),
        ),
        session_markup.saved(t, view, standing)
        or markup.reveal(t, view, tiny=any(key in MODELS and MODELS[key].builtin for key in shown)),
        markup.rating_form(t, view),
        session_markup.session(t, view, standing),
    )


def _messages(view: TrialView, side: Side) -> list[dict[str, str]]:
    messages = []
    for turn in view.turns:
        messages.append({"role": "user", "content": turn.prompt})
        answer = turn.answers[side]
        if answer.text or answer.status is AnswerStatus.COMPLETE:
            messages.append({"role": "assistant", "content": answer.text})
    return messages


def _status_line(t: Texts, statuses: Sequence[Status], waits_for: WrongState | None) -> str:
    """Say why nothing can be asked now, if so, else how many models are ready.

    Never which: how long a side loads would tell.
    """
    if waits_for is not None:
        return markup.status(t, "waiting", t(waits_for.code, **waits_for.details), None)
    states = [status.state for status in statuses]
    ready = states.count(State.READY)
    if ready == len(states):
        return markup.status(t, "ready", t("status_ready"), None)
    if State.FAILED in states or State.STOPPED in states:
        return markup.status(t, "failed", t("status_failed"), None)
    if any(status.restarts for status in statuses) or State.RESTARTING in states:
        return markup.status(t, "loading", t("status_restarting", ready=ready), None)
    done = sum(1.0 if s.state is State.READY else s.progress or 0.0 for s in statuses)
    return markup.status(t, "loading", t("status_loading", ready=ready), done / len(statuses))


def _texts(request: gr.Request) -> Texts:
    return texts_in(visitor_of(request).language)
