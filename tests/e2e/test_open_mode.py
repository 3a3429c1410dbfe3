"""`--open`: who is who from the start, each answer as it comes, with live speed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from benchmarks.app_process import running
from db import Side
from tests.e2e.conftest import RunningApp
from tests.e2e.fake_model import FakeModel
from tests.e2e.visits import Visit

pytestmark = [pytest.mark.browser, pytest.mark.slow]

POEM = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。"


@pytest.fixture(scope="module")
def app(folder: Path, fake_models: tuple[FakeModel, FakeModel]) -> Iterator[RunningApp]:
    url = f"sqlite:///{folder}/open.db"
    options = ("--open", "--left", fake_models[0].spec, "--right", fake_models[1].spec)
    with running(folder / "open.log", *options, "--database-url", url) as process:
        process.wait_ready()
        yield RunningApp(process, url, fake_models)


def test_names_and_live_speed_are_shown_and_no_side_waits_for_the_other(
    app: RunningApp, visit: Visit
) -> None:
    quick, slow = app.models
    quick.says("我是Qwen。" + POEM)
    slow.says(POEM, hold_after=6)
    page = visit(app)
    expect(page.page.locator(".tp-mode")).to_contain_text("Open: you see which model is which")
    page.ask("写一首诗")
    page.stop_button.and_(page.page.locator(":enabled")).wait_for()
    sides = {model: side for side, model in app.sides(page.trial).items()}
    fast_side, slow_side = sides[quick.key], sides[slow.key]
    expect(page.answers(fast_side)).to_have_text("我是Qwen。" + POEM)  # nothing is masked
    expect(page.answers(slow_side)).to_have_text(POEM[:6])
    for side in Side:
        expect(page.foot(side)).to_contain_text("first token")
        expect(page.foot(side)).to_contain_text("tokens/s")
    expect(page.foot(fast_side)).to_contain_text(quick.key)
    expect(page.foot(slow_side)).to_contain_text(slow.key)
    slow.release()
    page.wait_rateable()
    page.rate()
    expect(page.reveal).to_contain_text("The rating is final.")
    query = "SELECT blind, flags FROM trials WHERE id = ?"
    assert app.rows(query, page.trial) == [(0, "[]")]
