"""The sessions page: prompt sets and answer packs come in, sessions are made, paused and closed.

All of it is the operator's; others read only what the page is for. A file comes in as text that a
script of the page has read, through an event like any other: Gradio's uploads stay closed. What a
session may be decides `rating.sessions`; how things look is `views`'s.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from db import Database, ResultsRule
from rating import prompt_sets
from rating.packs import store
from rating.packs.pack_file import read_pack
from rating.prompt_files import read_prompt_set
from rating.session import Panel
from rating.sessions.sessions import Draft, Sessions
from ui import markup
from ui.components import Components
from ui.errors import Refused, shown_errors
from ui.events import PRIVATE
from ui.language import Texts, texts_in
from ui.operator import Operator
from ui.operator_entry import OperatorEntry
from ui.sessions import layout, views
from ui.sessions.layout import Description, Incoming
from ui.visitor import connection_of, visitor_of

PATH = "sessions"

RUNNING = "running"
"""Stands where a pack would: the models that are running answer."""

_LOOK_EVERY_S = 3.0

Page = tuple[Any, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class _Parts(Components):
    """The components whose look depends on who is there, in the order of `_Events.open`."""

    lead: gr.HTML
    entry: gr.Row
    manage: gr.Column
    timer: gr.Timer
    prompt_set: gr.Dropdown
    pack: gr.Dropdown
    models: gr.Dropdown
    sets: gr.HTML
    packs: gr.HTML


def build(blocks: gr.Blocks, panel: Panel, operator: Operator, database: Database) -> None:
    """Lay out the page in `blocks`, whose route is open, and connect its events."""
    events = _Events(panel, operator, database)
    header = markup.component(js_on_load="window.twopane.attachHeader(element)")
    lead = markup.component(elem_id="sessions-lead")
    entry = OperatorEntry(operator, key_id="sessions-key", enter_id="sessions-enter")
    sessions = markup.component(
        elem_id="sessions-list",
        js_on_load="window.twopane.attachSessions(element, trigger); /* 'act' */",
    )
    with gr.Column(visible=False, elem_id="sessions-manage") as manage:
        create_title = markup.component()
        described, create = layout.description()
        sets_title = markup.component(js_on_load="window.twopane.attachFile(element)")
        incoming, sets, packs = layout.incoming()
    parts = _Parts(
        lead,
        entry.row,
        manage,
        gr.Timer(_LOOK_EVERY_S, active=False),
        described.prompt_set,
        described.pack,
        described.models,
        sets,
        packs,
    )
    blocks.load(events.head, None, [header, create_title, sets_title], **PRIVATE)
    opened, looked = (events.open, parts.listed()), (events.look, [sessions, manage])
    entry.connect(blocks, opened, looked, parts.timer)
    _connect(events, parts, described, create, incoming, sessions)


def _connect(
    events: "_Events",
    parts: _Parts,
    described: Description,
    create: gr.Button,
    incoming: Incoming,
    sessions: gr.HTML,
) -> None:
    # What is new and that it is chosen comes in one answer: Gradio knows its own choices only.
    choices: list[Any] = [parts.prompt_set, parts.pack, parts.models, parts.sets, parts.packs]
    texts: list[Any] = [incoming.file_name, incoming.content]
    incoming.add_set.click(events.add_set, [*texts, parts.pack], [*texts, *choices], **PRIVATE)
    incoming.add_pack.click(
        events.add_pack, incoming.pack_path, [incoming.pack_path, *choices], **PRIVATE
    )
    described.pack.input(
        events.choose_pack, described.pack, [described.prompt_set, described.models], **PRIVATE
    )
    made = create.click(events.create, described.listed(), described.name, **PRIVATE)
    acted = sessions.act(events.act, None, None, **PRIVATE)
    for done in (made, acted):
        done.success(events.look, None, [sessions, parts.manage], **PRIVATE)


class _Events:
    """What the page does on each event; every argument from the browser is untrusted."""

    def __init__(self, panel: Panel, operator: Operator, database: Database) -> None:
        self._panel = panel
        self._operator = operator
        self._database = database
        self._sessions = Sessions(database)

    def head(self, request: gr.Request) -> tuple[str, str, str]:
        t = _texts(request)
        return (
            markup.header(t, "sessions"),
            markup.render("sessions_create", t),
            markup.render("sessions_sets", t),
        )

    async def open(self, request: gr.Request) -> Page:
        """Lay the page out for who is there; what is only the operator's is not in its source."""
        operator = self._operator.admits(connection_of(request))
        lead = markup.render(
            "sessions_lead", _texts(request), operator=operator, has_key=self._operator.has_key
        )
        with shown_errors(request):
            if operator:
                await asyncio.to_thread(self._keep_built_in)
            choices = await self._choices(request) if operator else [gr.update()] * 5
        return (
            lead,
            gr.update(visible=self._operator.has_key and not operator),
            gr.update(visible=operator),
            gr.update(active=operator),
            *choices,
        )

    async def look(self, request: gr.Request) -> Page:
        """Return the sessions and how far each is; a page of who is no operator any more closes."""
        if not self._operator.admits(connection_of(request)):
            return "", gr.update(visible=False)
        with shown_errors(request):
            found = await asyncio.to_thread(self._sessions.overviews, self._running)
            return views.sessions(_texts(request), found), gr.update(visible=True)

    async def add_set(
        self, file_name: object, content: object, pack: object, request: gr.Request
    ) -> Page:
        """Take in a prompt set, and choose it for the next session."""
        name, text = str(file_name or "").strip(), str(content or "")

        def add() -> str:
            if not text.strip():
                raise Refused("set_nothing")
            data = text.encode("utf-8", "surrogatepass")
            read = read_prompt_set(data, name or "prompts.yaml")
            return prompt_sets.store(self._database, read)

        chosen = await self._as_operator(request, add)
        return "", "", *await self._choices(request, chosen, pack)

    async def add_pack(self, path: object, request: gr.Request) -> Page:
        """Take in a pack that lies on this machine, and choose it for the next session."""
        entered = str(path or "").strip()

        def add() -> tuple[str, str]:
            file = Path(entered).expanduser()
            if not file.name:
                raise Refused("pack_nothing")
            try:
                if self._database.owns(file):
                    raise Refused("pack_is_database", path=file)
                pack = read_pack(file)
            except OSError as error:
                raise Refused("pack_unreadable", path=file, reason=error.strerror) from error
            name = file.name.split(".")[0]
            return pack.prompt_set.id, store.take(self._database, pack, name)

        set_id, pack_id = await self._as_operator(request, add)
        return "", *await self._choices(request, set_id, pack_id)

    async def choose_pack(self, pack: object, request: gr.Request) -> Page:
        """Fill in what belongs to the pack: its prompt set and its models."""
        if pack == RUNNING:
            return gr.update(), await self._as_operator(request, lambda: self._models(None))
        found = await self._as_operator(request, lambda: store.load(self._database, str(pack)))
        return gr.update(value=found.prompt_set_id), self._models(found)

    async def create(
        self,
        name: object,
        prompt_set: object,
        pack: object,
        models: object,
        raters: object,
        mode: object,
        results: object,
        repeats: object,
        attention: object,
        guess: object,
        at_once: object,
        request: gr.Request,
    ) -> str:
        """Make a session; the name leaves its box."""

        def make() -> str:
            draft = Draft(
                name=str(name or ""),
                prompt_set_id=str(prompt_set or ""),
                pack_id=None if pack in (None, "", RUNNING) else str(pack),
                models=[str(one) for one in models] if isinstance(models, list) else [],
                raters_per_prompt=_whole(raters),
                blind=mode != layout.OPEN,
                results=_rule(results),
                repeat_share=_share(repeats),
                attention_share=_share(attention),
                asks_guess=guess is True,
                at_once=at_once is True,
            )
            return self._sessions.create(draft, self._running)

        await self._as_operator(request, make)
        return ""

    async def act(self, event: gr.EventData, request: gr.Request) -> None:
        """Pause, resume or close the session whose button was pressed."""
        data = event._data if isinstance(event._data, dict) else {}
        session_id = str(data.get("session"))
        does: dict[str, Callable[[], None]] = {
            "pause": lambda: self._sessions.pause(session_id),
            "resume": lambda: self._sessions.resume(session_id, self._running),
            "close": lambda: self._sessions.close(session_id),
        }
        await self._as_operator(request, does.get(str(data.get("action")), lambda: None))

    # --- parts of them ----------------------------------------------------------------------------

    @property
    def _running(self) -> list[str]:
        return [model.key for model in self._panel.models]

    async def _as_operator(self, request: gr.Request, work: Callable[[], T]) -> T:
        """Do what waits for a disk or the database, if it is the operator who asks."""
        with shown_errors(request):
            self._operator.check(connection_of(request))
            return await asyncio.to_thread(work)

    def _keep_built_in(self) -> None:
        prompt_sets.store(self._database, prompt_sets.built_in())

    async def _choices(
        self, request: gr.Request, prompt_set: object = None, pack: object = None
    ) -> list[Any]:
        """Return what can be chosen: sets, packs, models; and the lists of sets and packs."""
        t = _texts(request)
        sets = await asyncio.to_thread(prompt_sets.list_sets, self._database)
        packs = await asyncio.to_thread(store.list_packs, self._database)
        previews = await asyncio.to_thread(
            lambda: [prompt_sets.load(self._database, one.id) for one in sets]
        )
        set_ids = [one.id for one in sets]
        chosen = next((one for one in packs if one.id == pack), None)
        return [
            gr.update(
                choices=[(views.set_title(t, one), one.id) for one in sets],
                value=prompt_set if prompt_set in set_ids else set_ids[-1],
            ),
            gr.update(
                choices=[(t("answers_running"), RUNNING)]
                + [(views.pack_title(t, one), one.id) for one in packs],
                value=chosen.id if chosen else RUNNING,
            ),
            self._models(chosen),
            views.sets(t, sets, previews),
            views.packs(t, packs, sets),
        ]

    def _models(self, pack: store.StoredPack | None) -> Any:
        """Offer the models that can answer, all of them chosen."""
        if pack is None:
            choices = [(model.title, model.key) for model in self._panel.models]
        else:
            choices = [(model.title, model.key) for model in pack.models]
        return gr.update(choices=choices, value=[key for _, key in choices])


def _whole(number: object) -> int:
    """Return a whole number; 0, which is refused everywhere, where it is none."""
    whole = isinstance(number, int | float) and math.isfinite(number) and number == int(number)
    return int(number) if whole else 0  # type: ignore[call-overload]


def _share(percent: object) -> float:
    """Return a share of 1; NaN, which is refused, where it is no number."""
    return percent / 100 if isinstance(percent, int | float) else float("nan")


def _rule(name: object) -> ResultsRule:
    return ResultsRule(str(name)) if str(name) in set(ResultsRule) else ResultsRule.OWN_DONE


def _texts(request: gr.Request) -> Texts:
    return texts_in(visitor_of(request).language)
