"""A person's whole way, with the built-in pair: ask, read, rate, see who was who, find the rating."""

import json
import subprocess
import sys

import pytest
from playwright.sync_api import Locator, expect

from db import Dimension, Side
from tests.e2e.compare_page import ROWS, ComparePage
from tests.e2e.conftest import RunningApp
from tests.e2e.visits import Visit
from tests.paths import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


def tab_to(page: ComparePage, goal: Locator) -> None:
    """Press Tab until the focus is where it is wanted."""
    for _ in range(80):
        if goal.evaluate("element => element === document.activeElement"):
            return
        page.page.keyboard.press("Tab")
    pytest.fail(f"Tab never comes to {goal}")


def press(page: ComparePage, *keys: str) -> None:
    for key in keys:
        page.page.keyboard.press(key)


def expect_in_summary(page: ComparePage, prompt: str, comment: str) -> None:
    """The newest row of the summary page is unfolded and shows the rating of `prompt`."""
    row = page.page.locator(".tp-trial").first
    expect(row).to_contain_text(prompt)
    expect(row).to_contain_text(comment)
    expect(row.locator("table")).to_be_visible()


def expect_printed_summary(app: RunningApp) -> None:
    """`python app.py summary` counts every rating in the file."""
    [(count,)] = app.rows("SELECT count(*) FROM ratings")
    printed = subprocess.run(
        [
            *(sys.executable, "app.py", "summary", "--format=json", "--include-flagged"),
            *("--database-url", app.database_url),
        ],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    [pair] = json.loads(printed.stdout)["pairs"]
    assert pair["models"] == ["tiny-chatglm", "tiny-qwen"]
    assert pair["n_trials"] == count
    assert "no measure of the real ones" in pair["note"]


def stored_scores(app: RunningApp, trial: str) -> dict[str, int | None]:
    """Return the scores of a trial's rating by row of the page."""
    query = (
        "SELECT side || '.' || dimension, score FROM scores JOIN ratings ON ratings.id = rating_id "
        "WHERE trial_id = ?"
    )
    return dict(app.rows(query, trial))


def test_a_person_asks_and_rates_by_keyboard_alone(tiny_app: RunningApp, visit: Visit) -> None:
    page = visit(tiny_app, locale="zh-CN")
    tab_to(page, page.prompt)
    page.page.keyboard.type("解释一下什么是机器学习？")
    press(page, "Enter")
    page.wait_rateable()
    trial = page.trial
    for side in Side:
        expect(page.answers(side)).not_to_be_empty()
    expect(page.option("left.understanding", 1)).to_be_focused()
    press(page, "?")
    expect(page.keys_dialog).to_be_visible()
    press(page, "Enter")
    expect(page.keys_dialog).to_be_hidden()
    press(page, "4", "5")  # each digit moves on to the next row
    press(page, "ArrowDown", "2", "ArrowUp", "ArrowUp", "3")  # right, then back to the left
    press(page, "ArrowDown", "n", "N")
    press(page, "ArrowRight", "ArrowRight")  # from 1 to 3, as radio buttons do
    press(page, "Tab", "1", "5", "4")
    page.expect_missing("还差 1 项")
    press(page, "1")
    page.expect_missing("已填完")
    press(page, "c")
    expect(page.comment).to_be_focused()
    page.page.keyboard.type("左边清楚，123 分")
    press(page, "Control+Enter")
    page.wait_revealed()
    sides = tiny_app.sides(trial)
    for side in Side:
        expect(page.foot(side)).to_contain_text(sides[side])
        expect(page.reveal).to_contain_text(sides[side])
    assert stored_scores(tiny_app, trial) == {
        "left.understanding": 4,
        "right.understanding": 5,
        "left.coherence": 3,
        "right.coherence": 2,
        "left.memory": None,
        "right.memory": None,
        "left.naturalness": 3,
        "right.naturalness": 1,
        "left.reasoning": 5,
        "right.reasoning": 4,
    }
    query = "SELECT preference, comment FROM ratings WHERE trial_id = ?"
    assert tiny_app.rows(query, trial) == [("left", "左边清楚，123 分")]
    tab_to(page, page.page.get_by_role("link", name="结果"))
    press(page, "Enter")
    page.page.locator(".tp-trial summary").first.focus()
    press(page, "Enter")
    expect_in_summary(page, "解释一下什么是机器学习？", "左边清楚，123 分")
    expect_printed_summary(tiny_app)


def test_a_person_asks_and_rates_by_mouse_alone(tiny_app: RunningApp, visit: Visit) -> None:
    page = visit(tiny_app)
    page.page.get_by_role("button", name="What is photosynthesis?").click()
    page.ask_button.click()
    page.wait_rateable()
    trial = page.trial
    scores: dict[str, str | int] = {row: 1 + i % 5 for i, row in enumerate(ROWS[:-1])}
    scores |= {"left.memory": "na", "right.memory": "na"}
    page.rate(scores, "right")
    expected = {row: None if score == "na" else score for row, score in scores.items()}
    assert stored_scores(tiny_app, trial) == expected
    page.page.get_by_role("link", name="Results").click()
    page.page.locator(".tp-trial summary").first.click()
    expect_in_summary(page, "What is photosynthesis?", "")


def test_a_person_asks_and_rates_by_touch_on_a_phone(tiny_app: RunningApp, visit: Visit) -> None:
    page = visit(tiny_app, locale="zh-CN", **PHONE)
    page.page.get_by_role("button", name="请写一首关于春天的五言诗。").tap()
    page.ask_button.tap()
    page.wait_rateable()
    trial = page.trial
    for dimension in Dimension:
        for side in Side:
            value = "na" if dimension is Dimension.MEMORY else 3
            page.label(f"{side}.{dimension}", value).tap()
    page.label("preference", "both_bad").tap()
    page.comment.tap()
    page.page.keyboard.type("都不好")  # what a phone's own keyboard sends
    page.save_button.tap()
    page.wait_revealed()
    assert set(stored_scores(tiny_app, trial).values()) == {3, None}
    page.page.get_by_role("link", name="结果").tap()
    page.page.locator(".tp-trial summary").first.tap()
    expect_in_summary(page, "请写一首关于春天的五言诗。", "都不好")
