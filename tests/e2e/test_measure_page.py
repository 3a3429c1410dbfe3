"""The measure page: a measurement from its start to its end, and how the page looks."""

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from backends.measurement import Resources, TimedAnswer
from benchmarks.app_process import running
from db import Database
from rating.measuring.measurements import Measurements
from tests.e2e.compare_page import ComparePage
from tests.e2e.conftest import RunningApp
from tests.e2e.legibility import faint_texts, nameless, overflowing
from tests.e2e.visits import Visit, Visits
from tests.ui.measure.measurements import stored

pytestmark = [pytest.mark.browser, pytest.mark.slow]

STEP_MS = 120_000
"""A start takes seconds on a free machine; on a busy one, many."""


class MeasurePage:
    """One tab with the measure page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.repeats = page.locator("#measure-repeats input")
        self.start = page.locator("#measure-start")
        self.stop = page.locator("#measure-stop")
        self.progress = page.locator("#measure-progress")
        self.live = page.locator("#measure-live")
        self.results = page.locator("#measure-results")
        self.advice = page.locator("#measure-advice")
        self.memory = page.locator("#limit-memory input")
        self.toast = page.get_by_test_id("toast-text")

    def wait_loaded(self) -> "MeasurePage":
        """Wait for all that the operator has, down to the last chart."""
        self.start.wait_for()
        self.advice.locator(".tp-verdict").wait_for()
        self.page.locator("#measure-memory .main-svg").first.wait_for()
        return self


@pytest.fixture(scope="module")
def measured_app(folder: Path) -> Iterator[RunningApp]:
    """The app with the built-in pair, and a measurement of the article's pair from before."""
    url = f"sqlite:///{folder}/measured.db"
    with running(folder / "measured.log", "--database-url", url) as process:
        with ThreadPoolExecutor() as aside:  # in this thread runs the browser's loop
            aside.submit(asyncio.run, _leave_a_measurement(url)).result()
        process.wait_ready()
        yield RunningApp(process, url)


async def _leave_a_measurement(url: str) -> None:
    models = ("qwen1.5-0.5b-chat", "chatglm-6b-int4")
    answers = [
        TimedAnswer(model, prompt, repeat, together, 0.3 * repeat, 1.5 * repeat, 8, 30, 60)
        for together in (False, True)
        for model in models
        for prompt in (1, 2, 3)
        for repeat in (1, 2)
    ]
    taken = [
        Resources(models[0], together=False, size_bytes=1_200_000_000, peak_bytes=900_000_000),
        Resources(models[1], together=False, peak_bytes=4_000_000_000, cold_start_s=18.5),
        Resources(models[0], together=True, peak_bytes=950_000_000),
        Resources(models[1], together=True, error="was ended by SIGKILL: " + "x" * 200),
    ]
    database = Database.open(url)
    await stored(Measurements(database), answers, taken, models)
    database.close()


def test_raters_wait_while_the_operator_measures_and_go_on_afterwards(
    measured_app: RunningApp, visit: Visit, visits: Visits
) -> None:
    rater = visit(measured_app)
    rater.ask("你好")
    rater.wait_rateable()
    expect_nothing_shown_to(rater)
    page = MeasurePage(visits.open(f"{measured_app.url}/measure")).wait_loaded()
    expect(page.results).to_contain_text("Qwen1.5-0.5B-Chat · ChatGLM-6B (int4)")
    expect(page.live).to_contain_text("tiny-chatglm")
    page.repeats.fill("1")
    page.start.click()
    expect(page.toast).to_contain_text("wait for their rating: 1.")
    rater.come_back().rate()
    rater.new_button.click()
    expect(rater.ask_button).to_be_enabled()

    page.page.bring_to_front()
    page.start.click()
    expect(page.progress).to_contain_text(re.compile(r"Step \d+ of 16"), timeout=STEP_MS)
    expect(page.start).to_be_disabled()
    expect_waiting(rater.come_back())
    page.page.bring_to_front()
    page.page.reload()  # it goes on, and whoever comes next sees it
    expect(page.progress).to_contain_text(re.compile(r"Step \d+ of 16"), timeout=STEP_MS)
    expect(page.results).to_contain_text("It is still running", timeout=STEP_MS)
    page.stop.click()
    expect(page.results).to_contain_text("stopped before its end", timeout=STEP_MS)
    expect(page.start).to_be_enabled()
    expect(page.results.locator("table")).to_have_count(2)
    expect_advice(page.wait_loaded())
    expect_download(page)

    rater.come_back()
    expect(rater.status).to_contain_text("Both models are ready", timeout=STEP_MS)
    rater.ask_button.click()  # what was to be asked is in the box still
    rater.wait_rateable()


def expect_nothing_shown_to(rater: ComparePage) -> None:
    rater.page.get_by_role("link", name="Measure").click()
    page = MeasurePage(rater.page)
    expect(page.progress).to_contain_text("a blind trial of your own open")
    rater.page.wait_for_timeout(2500)  # it is looked at every two seconds
    expect(page.start).to_be_hidden()
    held = rater.page.content().lower()
    assert not [word for word in ("qwen", "chatglm", " mb", "main-svg") if word in held]
    rater.page.get_by_role("link", name="Back to the trial").click()
    rater.wait_rateable()


def expect_waiting(rater: ComparePage) -> None:
    expect(rater.status).to_contain_text("The models are being measured")
    rater.new_button.click()
    expect(rater.toast.last).to_contain_text("The models are being measured")
    rater.ask("再见")
    expect(rater.toast).to_have_count(2)
    expect(rater.prompt).to_have_value("再见")


def expect_advice(page: MeasurePage) -> None:
    expect(page.advice).to_contain_text("tiny-qwen is the only model measured")
    page.memory.fill("0.01")
    page.memory.press("Enter")
    expect(page.advice).to_contain_text("No model keeps to the limits")
    expect(page.advice).to_contain_text("peak memory")


def expect_download(page: MeasurePage) -> None:
    with page.page.expect_download() as coming:
        page.page.get_by_role("link", name="Download as Markdown").click()
    assert coming.value.suggested_filename.endswith(".md")
    assert "| tiny-qwen |" in coming.value.path().read_text("utf-8")


@pytest.mark.parametrize(
    ("theme", "locale", "width"), [("light", "zh-CN", 360), ("dark", "en-US", 1400)]
)
def test_the_page_can_be_read_reached_and_named_at_every_width(
    measured_app: RunningApp, visits: Visits, theme: str, locale: str, width: int
) -> None:
    size = {"width": width, "height": 800}
    opened = visits.open(
        f"{measured_app.url}/measure", color_scheme=theme, locale=locale, viewport=size
    )
    page = MeasurePage(opened).wait_loaded()
    page.repeats.fill("0")
    page.start.click()
    expect(page.page.get_by_test_id("toast-body")).to_have_css("opacity", "1")
    assert faint_texts(page.page) == []
    assert nameless(page.page) == []
    assert overflowing(page.page) == []
