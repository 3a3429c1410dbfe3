"""A person at the app: Chromium asks, two answers come at a time, and the page's frames are timed.

    python -m benchmarks.peers.children.browser FOLDER PRECISION THREADS

One model server answers on both sides, under two addresses. Nothing is paced: the app runs open.
App and browser have the cores that the model leaves; if it uses all of them, they share them.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.app_process import running, until
from benchmarks.paths import ROOT
from benchmarks.peers.children.commands import Command, serve

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_READY_S = 600.0
_ANSWER_MS = 600_000
_PROMPT = "请介绍一下你自己，然后写一首关于春天的短诗。"
_COUNT = """SELECT sum(completion_tokens) FROM answers WHERE turn_id IN (
  SELECT id FROM turns WHERE trial_id = ?)"""

# Asks for a frame only when there is something to show: a loop would keep the browser busy.
_WATCH = """() => {
  const text = () => [...document.querySelectorAll("[data-testid=bot]")].map((e) => e.textContent);
  window.begun = window.changed = performance.now();
  let seen = "[]";
  const look = () => {
    const now = JSON.stringify(text());
    if (now === seen) return;
    seen = now;
    requestAnimationFrame((at) => { window.changed = at; });
  };
  const changes = { childList: true, characterData: true, subtree: true };
  new MutationObserver(look).observe(document.body, changes);
}"""


class Visitor:
    """A page of a running app.

    Args:
        page: A new one.
        url: The app's.
        database: Its SQLite file, in which the answers' tokens are counted.
    """

    def __init__(self, page: Page, url: str, database: Path) -> None:
        self._page = page
        self._url = url
        self._database = database

    def through(self) -> float:
        """Tokens of both answers a second, from the click to the last frame that shows a change."""
        page = self._page
        page.goto(self._url)
        form = page.locator("form[data-trial]")
        form.wait_for()
        page.locator("#prompt textarea").fill(_PROMPT)
        page.evaluate(_WATCH)
        page.locator("#ask").click()
        complete = page.locator('form[data-turns="1"] fieldset:not([disabled])')
        complete.wait_for(timeout=_ANSWER_MS)
        page.evaluate("new Promise((done) => setTimeout(done, 200))")
        seconds = float(page.evaluate("window.changed - window.begun")) / 1000
        tokens = self._tokens(form.get_attribute("data-trial") or "")
        page.locator("#new").click()
        page.locator('form[data-turns="0"]').wait_for(state="attached")
        # Browsers aren't stopped with us: an open page would take from whoever is measured next.
        page.goto("about:blank")
        return tokens / seconds

    def _tokens(self, trial: str) -> int:
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            return int(connection.execute(_COUNT, (trial,)).fetchone()[0])


def load(stack: ExitStack) -> Mapping[str, Command]:
    """Start model server, app and browser; what they need ends with the stack."""
    model, precision, threads = sys.argv[1:]
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    port = _serve_model(
        stack, folder, "--model", model, "--threads", threads, "--precision", precision
    )
    _leave_the_models_cores()
    left, right = (f"http://{host}:{port}#qwen" for host in ("127.0.0.1", "localhost"))
    database = folder / "browser.db"
    options = ("--open", "--left", left, "--right", right)
    app = stack.enter_context(
        running(folder / "app.log", *options, "--database-url", f"sqlite:///{database}")
    )
    app.wait_ready()
    # The memory of so many processes says nothing.
    return {"through": Visitor(_page(stack), app.url, database).through, "peak": lambda: 0}


def _serve_model(stack: ExitStack, folder: Path, *options: str) -> int:
    """Start a model server, wait until it is ready, return its port."""
    command = [sys.executable, "-m", "backends.server", "--port", "0", *options]
    log = stack.enter_context((folder / "server.log").open("wb"))
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log)
    stack.callback(server.wait)
    stack.callback(server.terminate)
    assert server.stdout is not None
    port = int(json.loads(server.stdout.readline())["port"])

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10):
                return True
        except urllib.error.HTTPError as error:  # it is loading, or has failed
            with error:
                if json.load(error)["status"] == "failed":
                    raise RuntimeError(f"no model: {command}") from error
            return False

    until(ready, _READY_S, f"ready: {command}")
    return port


def _leave_the_models_cores() -> None:
    """Go on, with all that is started from now on, on the machine's other cores, if it has any.

    This process has got as many cores as the model has threads: those that the bare engine has.
    """
    if others := os.sched_getaffinity(os.getppid()) - os.sched_getaffinity(0):
        os.sched_setaffinity(0, others)


def _page(stack: ExitStack) -> Page:
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    playwright = stack.enter_context(sync_playwright())
    arguments = ["--no-sandbox", "--disable-gpu"]
    browser = playwright.chromium.launch(executable_path=found, args=arguments)
    stack.callback(browser.close)
    return browser.new_page(locale="en-US")


if __name__ == "__main__":
    with ExitStack() as resources:
        serve(partial(load, resources), time.perf_counter)
