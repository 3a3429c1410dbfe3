"""Fixtures: one Chromium, running apps, and pages that are watched for what no page may do."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from playwright.sync_api import Browser, expect, sync_playwright

from benchmarks.app_process import AppProcess, running
from db import Side
from tests.e2e.compare_page import ComparePage
from tests.e2e.fake_model import FakeModel, running_fake_model
from tests.e2e.visits import PATIENCE_MS, Contexts, Visit, Visits

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_BROWSER_OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run", "--disable-quic"),
)


@dataclass(frozen=True)
class RunningApp:
    """An app, its database, and the models it asks if they are fakes."""

    process: AppProcess
    database_url: str
    models: tuple[FakeModel, ...] = ()

    @property
    def url(self) -> str:
        return self.process.url

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Look into the SQLite file as any other program may."""
        file = self.database_url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            return connection.execute(query, values).fetchall()

    def execute(self, statement: str) -> None:
        """Change the SQLite file behind the app's back."""
        file = self.database_url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute(statement)

    def sides(self, trial: str) -> dict[Side, str]:
        """Return which model a trial has on which side."""
        query = "SELECT left_model, right_model FROM trials WHERE id = ?"
        return dict(zip(Side, self.rows(query, trial)[0], strict=True))

    def sides_of_last_trial(self) -> dict[Side, str]:
        """The same of the trial that was begun last."""
        [(trial,)] = self.rows("SELECT id FROM trials ORDER BY created_at DESC LIMIT 1")
        return self.sides(trial)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium; closed with this package's last test, since its loop would disturb asyncio."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        pytest.fail(f"The end-to-end tests need one of {', '.join(_BROWSERS)}: see .ci/")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=_BROWSER_OPTIONS)
        yield launched
        launched.close()


@pytest.fixture(scope="package")
def contexts(browser: Browser) -> Contexts:
    """The browser's contexts, to be used again."""
    return Contexts(browser)


@pytest.fixture
def visits(contexts: Contexts) -> Iterator[Visits]:
    """Pages of this test. Whatever it tests: nothing goes to another host, no script fails."""
    opened = Visits(contexts)
    yield opened
    strays, script_errors = opened.strays(), opened.script_errors
    opened.end()
    assert strays == []
    assert script_errors == []


@pytest.fixture
def visit(visits: Visits) -> Visit:
    """Open an app's compare page as a new visitor."""

    def open_page(app: RunningApp, **options: Any) -> ComparePage:
        return ComparePage(visits.open(app.url, **options)).wait_loaded()

    return open_page


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the apps of this package keep their databases and logs."""
    return tmp_path_factory.mktemp("apps")


@pytest.fixture(scope="package")
def tiny_app(folder: Path) -> Iterator[RunningApp]:
    """The app as it comes, with the built-in pair."""
    url = f"sqlite:///{folder}/tiny.db"
    with running(folder / "tiny.log", "--database-url", url) as process:
        process.wait_ready()
        yield RunningApp(process, url)


@pytest.fixture(scope="package")
def fake_models() -> Iterator[tuple[FakeModel, FakeModel]]:
    """Two fakes whose names must stay hidden."""
    with running_fake_model("Qwen-quick") as first, running_fake_model("ChatGLM-calm") as second:
        yield first, second


@pytest.fixture(scope="package")
def shared_fake_app(folder: Path, fake_models: tuple[FakeModel, FakeModel]) -> Iterator[RunningApp]:
    """An app that asks two fakes."""
    url = f"sqlite:///{folder}/fake.db"
    options = ("--left", fake_models[0].spec, "--right", fake_models[1].spec)
    with running(folder / "fake.log", *options, "--database-url", url) as process:
        process.wait_ready()
        answer_once(process.url)
        yield RunningApp(process, url, fake_models)


def answer_once(url: str) -> None:
    """Let the app learn its models' pace: until it knows one, a pause slows the whole answer."""
    client = Client(url, verbose=False)
    trial = client.predict(api_name="/new_trial")["trial"]
    client.predict(trial, "你好", api_name="/ask")
    client.close()


@pytest.fixture
def fake_app(shared_fake_app: RunningApp) -> RunningApp:
    """The app with two fakes, which answer shortly and at once until told otherwise."""
    for model in shared_fake_app.models:
        model.says("好的。")
    return shared_fake_app
