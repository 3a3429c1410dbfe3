"""LLM Comparator's own page, as its package brings it, opens what we export for it."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import llm_comparator
import pytest
from playwright.sync_api import Browser, Route, expect

from db import Database, Preference
from rating.exchange import Format, Selection, export_file
from tests.rating.exchange.samples import rated, store

pytestmark = pytest.mark.browser


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """The folder of the page, and where it is served."""
    (package,) = llm_comparator.__path__
    folder = shutil.copytree(Path(package) / "data", tmp_path / "site")
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_llm_comparator_shows_the_answers_and_who_won(
    browser: Browser, site: tuple[Path, str], tmp_path: Path
) -> None:
    folder, url = site
    shown: dict[str, Any] = {
        "prompts": ("天空为什么是蓝的？",),
        "answers": ("散射。", "因为它是蓝的。"),
    }
    with closing(Database.open(f"sqlite:///{tmp_path}/t.db")) as database:
        store(
            database,
            rated("one", comment="clearer", **shown),
            rated("two", minute=1, preference=Preference.TIE, scores=(None, 3), **shown),
            rated("three", minute=2, preference=Preference.RIGHT, prompts=("a", "b")),
        )
        export_file(database, Format.LLM_COMPARATOR, Selection(), folder / "ours.json")
    with browser.new_context() as context:
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))

        def only_here(route: Route) -> None:
            route.continue_() if route.request.url.startswith(url) else route.abort()

        page.route("**/*", only_here)  # it asks for fonts elsewhere
        page.goto(f"{url}/?results_path={url}/ours.json")
        for words in ("Loaded the dataset of 2 examples", "tiny-chatglm", "散射。", "[2] b"):
            expect(page.get_by_text(words).first).to_be_attached()
        page.get_by_title("Click to see individual ratings").first.click()
        expect(page.get_by_text("clearer").first).to_be_attached()
        assert errors == []
