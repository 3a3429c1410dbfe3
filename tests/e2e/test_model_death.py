"""A model server that dies in mid-answer costs its side the answer, and nothing else."""

import psutil
import pytest
from playwright.sync_api import expect

from benchmarks.app_process import until
from db import Side
from tests.e2e.conftest import RunningApp
from tests.e2e.visits import Visit

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def model_server(app: RunningApp, model: str) -> psutil.Process:
    """Return the process that serves `model`."""
    children = psutil.Process(app.process.process.pid).children()
    return next(child for child in children if model in child.cmdline())


def test_a_killed_model_server_costs_only_its_side_and_comes_back(
    tiny_app: RunningApp, visit: Visit
) -> None:
    server = model_server(tiny_app, "tiny-qwen")
    server.suspend()  # so that its death surely comes in the middle of the answer
    page = visit(tiny_app)
    page.ask("解释一下什么是机器学习？")
    page.stop_button.and_(page.page.locator(":enabled")).wait_for()
    killed = next(s for s in Side if tiny_app.sides(page.trial)[s] == "tiny-qwen")
    other = next(side for side in Side if side is not killed)
    server.kill()
    expect(page.foot(killed)).to_contain_text("its model broke off")
    expect(page.status).to_contain_text("A model is being started again: 1 of 2 ready")
    page.retry_button(killed).wait_for()
    expect(page.answers(other)).not_to_be_empty()
    expect(page.retry_button(other)).to_be_hidden()
    page.expect_locked()
    expect(page.status).to_contain_text("Both models are ready", timeout=60_000)
    answer = page.answers(other).inner_text()
    page.retry_button(killed).click()
    page.wait_rateable()
    expect(page.answers(killed)).not_to_be_empty()
    expect(page.answers(other)).to_have_text(answer)
    page.rate()
    assert model_server(tiny_app, "tiny-qwen").pid != server.pid


def test_a_side_can_be_asked_again_before_its_model_is_back(
    tiny_app: RunningApp, visit: Visit
) -> None:
    server = model_server(tiny_app, "tiny-chatglm")
    server.suspend()
    page = visit(tiny_app)
    page.ask("晚上睡不着怎么办？")
    page.stop_button.and_(page.page.locator(":enabled")).wait_for()
    killed = next(s for s in Side if tiny_app.sides(page.trial)[s] == "tiny-chatglm")
    server.kill()
    page.retry_button(killed).click()
    page.retry_button(killed).wait_for(state="hidden")
    page.page.locator("form[data-trial] fieldset:not([disabled])").wait_for(timeout=60_000)
    until(lambda: tiny_app.process.status_of("/readyz") == 200)
