"""The sessions page's events: what they do for the operator, and refuse everybody else.

The models are two endpoints that nobody serves: nothing here needs them to be there.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from inspect import isawaitable
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from starlette.requests import Request

from db import Database, Language
from rating.sessions.sessions import Sessions
from tests.paths import ROOT
from tests.ui.conftest import lineup_of_nobody, pages_over
from ui.language import texts_in

SET = "- {id: one, language: zh, category: reasoning, turns: [一加一？]}"


def request(client: str) -> gr.Request:
    scope = {
        "type": "http",
        "scheme": "http",
        "path": "/",
        "headers": [(b"host", b"127.0.0.1:7860"), (b"origin", b"http://127.0.0.1:7860")],
        "client": (client, 5),
    }
    return gr.Request(request=Request(scope), session_hash="x")


OPERATOR, STRANGER = request("127.0.0.1"), request("10.1.2.3")


@dataclass(frozen=True)
class Pages:
    """The pages over a database."""

    blocks: gr.Blocks
    database: Database

    async def call(self, name: str, *given: Any) -> Any:
        """Do what the page does on an event of that name."""
        done = self._event(name)(*given)
        return await done if isawaitable(done) else done

    def _event(self, name: str) -> Callable[..., Any]:
        return next(
            one.fn
            for one in self.blocks.fns.values()
            if one.fn is not None
            and (one.fn.__module__, one.fn.__qualname__) == ("ui.sessions.page", f"_Events.{name}")
        )

    def sessions(self) -> list[str]:
        return [one.name for one in Sessions(self.database).overviews(["a@x", "b@x"])]


@pytest.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Pages]:
    database = Database.open(f"sqlite:///{tmp_path}/twopane.db")
    yield Pages(pages_over(database, lineup_of_nobody("Hidden-Qwen", "Hidden-ChatGLM")), database)
    database.close()


def described(prompt_set: str, models: list[str]) -> list[Any]:
    """What the page sends when a session is to be made."""
    return ["Monday", prompt_set, "running", models, 3, "blind", "never", 5, 0, True, False]


async def refusal(pages: Pages, event: str, *given: Any) -> str:
    with pytest.raises(gr.Error) as caught:
        await pages.call(event, *given)
    return str(caught.value.message)


async def test_nobody_else_may_do_anything(pages: Pages) -> None:
    closing = gr.EventData(None, {"session": "x", "action": "close"})
    for event, given in (
        ("add_set", ("one.yaml", SET, "running")),
        ("add_pack", ("/etc/hostname",)),
        ("choose_pack", ("0" * 64,)),
        ("choose_pack", ("running",)),
        ("create", described("x", [])),
        ("act", (closing,)),
    ):
        refused = await refusal(pages, event, *given, STRANGER)
        assert refused == texts_in(Language.EN)("operator_only"), event


async def test_nobody_else_is_told_of_sessions_sets_and_models(pages: Pages) -> None:
    *_, set_id = (await pages.call("open", OPERATOR))[4]["choices"][-1]
    opened = await pages.call("open", OPERATOR)
    models = opened[6]["value"]
    await pages.call("create", *described(set_id, models), OPERATOR)
    assert "Monday" in (await pages.call("look", OPERATOR))[0]
    assert (await pages.call("look", STRANGER))[0] == ""
    assert "Hidden" not in repr(await pages.call("open", STRANGER))
    assert "Twopane" not in repr(await pages.call("open", STRANGER))


async def test_a_set_is_taken_in_and_chosen_and_a_session_made_of_it(pages: Pages) -> None:
    models = (await pages.call("open", OPERATOR))[6]["value"]
    file, content, chosen, *_ = await pages.call("add_set", "one.yaml", SET, "running", OPERATOR)
    assert (file, content) == ("", "")
    assert chosen["value"] in [set_id for _, set_id in chosen["choices"]]
    assert await pages.call("create", *described(chosen["value"], models), OPERATOR) == ""
    assert pages.sessions() == ["Monday"]


async def test_what_cannot_be_is_refused_in_words(pages: Pages) -> None:
    for event, given, words in (
        ("add_set", ("one.yaml", " ", "running"), "Choose a file"),
        ("add_set", ("one.yaml", "- {id: one}", "running"), "Line 1"),
        ("add_pack", ("",), "Enter the path"),
        ("add_pack", ("/nowhere/at.all",), "/nowhere/at.all can't be read"),
        ("create", described("x", ["a", "b"]), "Choose a prompt set"),
    ):
        assert words in await refusal(pages, event, *given, OPERATOR)


async def test_a_number_of_raters_that_is_none_is_refused(pages: Pages) -> None:
    opened = await pages.call("open", OPERATOR)
    for raters in (None, "3", 2.5, float("nan"), float("inf")):
        entered = described(opened[4]["value"], opened[6]["value"])
        entered[4] = raters
        assert "whole number" in await refusal(pages, "create", *entered, OPERATOR)


@pytest.mark.parametrize("name", ["twopane.db", "twopane.db-wal", "pack.jsonl.zst"])
async def test_the_database_itself_is_never_opened_as_a_pack(pages: Pages, name: str) -> None:
    file = Path(str(pages.database.url.database))
    (file.parent / "pack.jsonl.zst").symlink_to(file)
    said = await refusal(pages, "add_pack", str(file.with_name(name)), OPERATOR)
    assert "is the database itself" in said
    another = "import sys; from db import Database; Database.open(sys.argv[1]).close()"
    url = pages.database.url.render_as_string()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", another, url, cwd=ROOT)
    assert await process.wait() == 0
    assert file.with_name("twopane.db-wal").exists()  # removed by who takes itself for the last
