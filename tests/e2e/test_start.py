"""Starting and ending: the page is there before the models, and nothing stays behind."""

import signal
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import expect

from benchmarks.app_process import AppProcess, running, start, until
from tests.e2e.compare_page import ComparePage
from tests.e2e.visits import Visits

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def model_servers(app: AppProcess) -> Sequence[psutil.Process]:
    return until(lambda: _both(psutil.Process(app.process.pid).children()))


def _both(children: list[psutil.Process]) -> list[psutil.Process]:
    return children if len(children) == 2 else []


def test_the_page_is_there_while_the_models_load_and_ctrl_c_ends_everything(
    tmp_path: Path, visits: Visits
) -> None:
    url = f"sqlite:///{tmp_path}/new/folder/twopane.db"
    app = start(tmp_path / "app.log", "--database-url", url)
    servers = model_servers(app)
    for server in servers:
        server.suspend()  # they take as long as the test needs
    page = ComparePage(visits.open(app.url)).wait_loaded()
    assert app.status_of("/healthz") == 200
    assert app.status_of("/readyz") == 503
    expect(page.status).to_contain_text("Loading the models: 0 of 2 ready")
    expect(page.status).to_contain_text("You can ask now")
    page.ask("你好")  # and it is answered once they are ready
    for server in servers:
        server.resume()
    expect(page.status).to_contain_text("Both models are ready", timeout=90_000)
    page.wait_rateable()
    assert app.status_of("/readyz") == 200
    page.page.goto("about:blank")
    assert app.interrupt() == 128 + signal.SIGINT
    _, alive = psutil.wait_procs(servers, timeout=5)
    assert alive == []
    assert "Traceback" not in app.log.read_text("utf-8")


def test_after_a_kill_of_the_app_no_model_server_stays_behind(tmp_path: Path) -> None:
    with running(tmp_path / "app.log", "--database-url", f"sqlite:///{tmp_path}/t.db") as app:
        servers = model_servers(app)
        app.kill()
        _, alive = psutil.wait_procs(servers, timeout=10)
        assert alive == []
