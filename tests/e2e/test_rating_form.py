"""The rating form: when it opens, what it counts, what its keys do and leave alone."""

import pytest
from playwright.sync_api import expect

from db import Side
from tests.e2e.compare_page import ROWS, ComparePage
from tests.e2e.conftest import RunningApp
from tests.e2e.visits import Visit

pytestmark = pytest.mark.browser

MEMORY = ("left.memory", "right.memory")


@pytest.fixture
def answered(fake_app: RunningApp, visit: Visit) -> ComparePage:
    """A page with one complete turn."""
    page = visit(fake_app)
    page.ask("你好")
    page.wait_rateable()
    return page


def press(page: ComparePage, *keys: str) -> None:
    for key in keys:
        page.page.keyboard.press(key)


def test_keys_and_mouse_do_nothing_until_both_answers_are_complete(
    fake_app: RunningApp, visit: Visit
) -> None:
    for model in fake_app.models:
        model.says("春眠不觉晓，处处闻啼鸟。", hold_after=6)
    page = visit(fake_app)
    page.expect_locked()
    page.ask("你好")
    expect(page.answers(Side.LEFT)).to_have_text("春眠不觉晓，")
    page.page.locator("h2#tp-rating-title").click()  # out of the prompt box
    press(page, "5", "n", "1", "c", "Control+Enter")
    expect(page.option("left.understanding", 5)).to_be_disabled()
    page.label("left.understanding", 5).click(force=True)
    fake_app.models[0].release()
    page.expect_locked()  # one of two is not enough
    assert page.entered() == {}
    fake_app.models[1].release()
    page.wait_rateable()
    assert page.entered() == {}  # and nothing was kept for later
    page.expect_missing("11 entries missing")


def test_digits_in_the_prompt_box_and_in_the_comment_are_text(answered: ComparePage) -> None:
    answered.prompt.click()
    answered.page.keyboard.type("1 + 2 = 3? n c")
    answered.comment.click()
    answered.page.keyboard.type("45 n ?")
    expect(answered.prompt).to_have_value("1 + 2 = 3? n c")
    expect(answered.comment).to_have_value("45 n ?")
    expect(answered.keys_dialog).to_be_hidden()
    assert answered.entered() == {}
    press(answered, "Escape")  # out of the comment, back to the keys
    press(answered, "4")
    assert answered.entered() == {"left.understanding": "4"}


def test_the_counter_says_what_is_missing_until_all_is_there(answered: ComparePage) -> None:
    for done, row in enumerate(ROWS[:-1]):
        answered.expect_missing(f"{11 - done} entries missing")
        answered.choose(row, "na" if row in MEMORY else 3)
    answered.expect_missing("1 entry missing")
    answered.choose("left.coherence", 4)  # a second thought is not a further entry
    answered.expect_missing("1 entry missing")
    answered.choose("preference", "both_bad")
    answered.expect_missing("Complete")


def test_saving_too_early_leads_to_the_first_missing_row(answered: ComparePage) -> None:
    answered.choose("left.understanding", 2)
    answered.save_button.click()
    expect(answered.row("right.understanding").locator("input").first).to_be_focused()
    press(answered, "Control+Enter")
    expect(answered.reveal).to_have_count(0)
    answered.expect_missing("10 entries missing")


def test_arrows_go_to_rows_and_scores_and_tab_goes_from_row_to_row(answered: ComparePage) -> None:
    expect(answered.option("left.understanding", 1)).to_be_focused()
    press(answered, "ArrowDown", "ArrowDown")
    expect(answered.option("left.coherence", 1)).to_be_focused()
    press(answered, "ArrowUp")
    expect(answered.option("right.understanding", 1)).to_be_focused()
    press(answered, "ArrowRight")
    assert answered.entered() == {"right.understanding": "2"}
    press(answered, "ArrowLeft", "Tab")
    assert answered.entered() == {"right.understanding": "1"}
    expect(answered.option("left.coherence", 1)).to_be_focused()
    press(answered, "Shift+Tab", "Shift+Tab")
    expect(answered.row("left.understanding").locator("input:focus")).to_have_count(1)


def test_every_digit_goes_to_the_row_that_has_the_focus(answered: ComparePage) -> None:
    answered.label("right.reasoning", 1).click()
    press(answered, "3")
    assert answered.entered() == {"right.reasoning": "3"}
    expect(answered.row("preference").locator("input").first).to_be_focused()
    press(answered, "5")  # the preference has four choices
    assert answered.entered() == {"right.reasoning": "3"}
    press(answered, "4")
    assert answered.entered() == {"right.reasoning": "3", "preference": "both_bad"}
    expect(answered.save_button).to_be_focused()


def test_memory_does_not_apply_after_one_turn_and_can_be_scored_after_two(
    fake_app: RunningApp, answered: ComparePage
) -> None:
    for row in MEMORY:
        expect(answered.option(row, 3)).to_be_disabled()
        expect(answered.option(row, "na")).to_be_enabled()
    answered.label("left.memory", "na").click()
    press(answered, "5")
    assert answered.entered() == {"left.memory": "na"}
    answered.ask("还有呢？")
    answered.wait_rateable(turns=2)
    answered.fill_in({"left.memory": 5, "right.memory": 2})
    answered.save_button.click()
    answered.wait_revealed()
    query = "SELECT score FROM scores WHERE dimension = 'memory' ORDER BY id DESC LIMIT 2"
    assert fake_app.rows(query) == [(2,), (5,)]


def test_the_question_mark_lists_the_keys_and_escape_closes_the_list(
    answered: ComparePage,
) -> None:
    press(answered, "?")
    expect(answered.keys_dialog).to_be_visible()
    expect(answered.keys_dialog).to_contain_text("Ctrl+Enter")
    press(answered, "3")
    assert answered.entered() == {}  # the list is in front
    press(answered, "Escape")
    expect(answered.keys_dialog).to_be_hidden()
    answered.page.get_by_role("button", name="Keys").click()
    answered.page.get_by_role("button", name="Close").click()
    expect(answered.keys_dialog).to_be_hidden()


def test_a_saved_rating_stays_on_the_page_and_cannot_be_changed(answered: ComparePage) -> None:
    answered.rate({"left.coherence": 4}, "left")
    expect(answered.save_button).to_have_count(0)
    expect(answered.option("left.coherence", 4)).to_be_checked()
    expect(answered.option("left.coherence", 5)).to_be_disabled()
    press(answered, "1")
    expect(answered.option("left.coherence", 4)).to_be_checked()
