"""The models page's events when what is behind them fails: what a visitor is told.

The models are two endpoints that nobody serves: nothing here needs them to be there.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import gradio as gr
import pytest
from sqlalchemy import text
from starlette.requests import Request

from db import Database, Language
from tests.ui.conftest import lineup_of_nobody, pages_over
from ui.language import texts_in

NAMES = ("Hidden-Qwen", "Hidden-ChatGLM")
SPECS = tuple(f"http://127.0.0.1:9/v1#{name}" for name in NAMES)


@pytest.fixture
async def pages(tmp_path: Path) -> AsyncIterator[gr.Blocks]:
    """The pages over a database that has lost its trials."""
    database = Database.open(f"sqlite:///{tmp_path}/twopane.db")
    made = pages_over(database, lineup_of_nobody(*NAMES))
    with database.write() as session:
        session.execute(text("DROP TABLE trials"))
    yield made
    database.close()


def request_of_the_operator() -> gr.Request:
    scope = {
        "type": "http",
        "scheme": "http",
        "path": "/",
        "headers": [(b"host", b"127.0.0.1:7860"), (b"origin", b"http://127.0.0.1:7860")],
        "client": ("127.0.0.1", 5),
    }
    return gr.Request(request=Request(scope), session_hash="x")


@pytest.mark.parametrize(
    ("event", "entered"),
    [
        ("open", ()),
        ("look", ()),
        *((event, SPECS) for event in ("check", "load", "load_anyway", "offer_force")),
    ],
)
async def test_an_event_that_fails_says_so_in_the_visitor_s_language(
    pages: gr.Blocks, event: str, entered: tuple[str, ...]
) -> None:
    function = next(
        one.fn
        for one in pages.fns.values()
        if one.fn is not None and one.fn.__qualname__ == f"_Events.{event}"
        if one.fn.__module__ == "ui.models"
    )
    with pytest.raises(gr.Error) as caught:
        await function(*entered, request_of_the_operator())
    assert caught.value.message == texts_in(Language.EN)("unexpected")
