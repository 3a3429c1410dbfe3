"""A rater comes back to the same trial with all that was entered, whatever happened in between."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from benchmarks.app_process import AppProcess, running, start, until
from db import Side
from tests.e2e.compare_page import ComparePage
from tests.e2e.conftest import RunningApp
from tests.e2e.visits import Visit

pytestmark = pytest.mark.browser

POEM = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。"
ENTERED = {"left.understanding": "4", "right.memory": "na", "preference": "tie"}


def enter(page: ComparePage) -> None:
    for row, value in ENTERED.items():
        page.choose(row, value)
    page.comment.fill("左边更好读 <b>")
    page.prompt.fill("下一个问题，还没发")


def expect_entered(page: ComparePage) -> None:
    page.wait_rateable()
    expect(page.comment).to_have_value("左边更好读 <b>")
    assert page.entered() == ENTERED
    page.expect_missing("8 entries missing")


def test_a_reload_in_mid_answer_shows_what_was_there_and_goes_on(
    fake_app: RunningApp, visit: Visit
) -> None:
    for model in fake_app.models:
        model.says(POEM, hold_after=6)
    page = visit(fake_app)
    page.ask("写一首诗")
    expect(page.answers(Side.LEFT)).to_have_text(POEM[:6])
    page.page.reload()
    for side in Side:
        expect(page.answers(side)).to_have_text(POEM[:6])
    expect(page.stop_button).to_be_enabled()
    for model in fake_app.models:
        model.release()
    page.wait_rateable()
    for side in Side:
        expect(page.answers(side)).to_have_text(POEM)


def test_a_reload_while_rating_brings_back_entries_comment_and_the_unsent_prompt(
    fake_app: RunningApp, visit: Visit
) -> None:
    page = visit(fake_app)
    page.ask("你好")
    page.wait_rateable()
    enter(page)
    page.page.reload()  # at once, before anything has been sent to the server
    expect_entered(page)
    expect(page.prompt).to_have_value("下一个问题，还没发")
    page.page.reload()
    expect_entered(page)


def test_a_second_tab_shows_the_same_trial_and_entries(fake_app: RunningApp, visit: Visit) -> None:
    page = visit(fake_app)
    page.ask("你好")
    page.wait_rateable()
    with page.page.expect_response(lambda response: "queue/join" in response.url):
        enter(page)
    second = page.in_another_tab()
    expect_entered(second)
    assert second.trial == page.trial


def test_entries_come_back_in_another_browser_of_the_same_rater(
    fake_app: RunningApp, visit: Visit
) -> None:
    """What was entered is on the server, not only in the browser."""
    page = visit(fake_app)
    page.ask("你好")
    page.wait_rateable()
    enter(page)
    query = "SELECT count(*) FROM trials WHERE id = ? AND draft LIKE '%comment%'"
    until(lambda: fake_app.rows(query, page.trial) == [(1,)])
    elsewhere = visit(fake_app, cookies=page.cookies())
    expect_entered(elsewhere)


def test_an_answer_that_is_being_written_is_followed_in_both_tabs(
    fake_app: RunningApp, visit: Visit
) -> None:
    for model in fake_app.models:
        model.says(POEM, hold_after=6)
    page = visit(fake_app)
    page.ask("写一首诗")
    expect(page.answers(Side.LEFT)).to_have_text(POEM[:6])
    second = page.in_another_tab()
    expect(second.answers(Side.LEFT)).to_have_text(POEM[:6])
    for model in fake_app.models:
        model.release()
    for tab in (second, page.come_back()):
        tab.wait_rateable()
        expect(tab.answers(Side.RIGHT)).to_have_text(POEM)


def test_two_tabs_store_one_rating_and_the_late_one_is_told(
    fake_app: RunningApp, visit: Visit
) -> None:
    page = visit(fake_app)
    page.ask("你好")
    page.wait_rateable()
    second = page.in_another_tab()
    second.wait_rateable()
    second.fill_in({"left.coherence": 1}, "right")
    page.come_back().rate({"left.coherence": 5}, "left")
    second.come_back().save_button.click()
    expect(second.toast).to_contain_text("This trial was rated before")
    query = (
        "SELECT preference, score FROM ratings JOIN scores ON ratings.id = rating_id "
        "WHERE trial_id = ? AND side = 'left' AND dimension = 'coherence'"
    )
    assert fake_app.rows(query, page.trial) == [("left", 5)]
    second.page.reload()
    second.wait_revealed()
    expect(second.option("left.coherence", 5)).to_be_checked()


def test_the_same_rating_sent_from_two_tabs_is_stored_once_and_shown_in_both(
    fake_app: RunningApp, visit: Visit
) -> None:
    page = visit(fake_app)
    page.ask("你好")
    page.wait_rateable()
    second = page.in_another_tab()
    second.wait_rateable()
    second.fill_in({"left.coherence": 5}, "left")
    page.come_back().rate({"left.coherence": 5}, "left")
    second.come_back().save_button.click()
    second.wait_revealed()
    assert fake_app.rows("SELECT count(*) FROM ratings WHERE trial_id = ?", page.trial) == [(1,)]


def test_without_a_connection_entries_are_kept_and_saving_works_afterwards(
    fake_app: RunningApp, visit: Visit
) -> None:
    page = visit(fake_app)
    page.ask("你好")
    page.wait_rateable()
    page.page.context.set_offline(True)
    page.fill_in({"left.coherence": 5}, "left")
    page.comment.fill("im Tunnel")
    page.save_button.click()
    expect(page.toast.first).to_contain_text("Not connected")
    expect(page.reveal).to_have_count(0)
    page.page.context.set_offline(False)
    expect(page.toast).to_have_count(0)
    page.wait_rateable()
    expect(page.comment).to_have_value("im Tunnel")
    page.expect_missing("Complete")
    page.save_button.click()
    page.wait_revealed()
    query = "SELECT preference, comment FROM ratings WHERE trial_id = ?"
    assert fake_app.rows(query, page.trial) == [("left", "im Tunnel")]


@pytest.fixture
def mortal_app(folder: Path, fake_app: RunningApp) -> Iterator[RunningApp]:
    """An app of the test's own, to be killed; it asks the shared fakes."""
    url = f"sqlite:///{folder}/mortal.db"
    specs = [model.spec for model in fake_app.models]
    options = ("--left", specs[0], "--right", specs[1], "--database-url", url)
    with running(folder / "mortal.log", *options) as process:
        process.wait_ready()
        yield RunningApp(process, url, fake_app.models)


@pytest.mark.slow
def test_an_app_killed_and_started_again_finds_the_entries_and_offers_to_ask_again(
    folder: Path, mortal_app: RunningApp, visit: Visit
) -> None:
    rating, reading = visit(mortal_app), visit(mortal_app)
    rating.ask("你好")
    rating.wait_rateable()
    rating.fill_in({"left.coherence": 5}, "left")
    for model in mortal_app.models:
        model.says(POEM, hold_after=6)
    reading.ask("写一首诗")
    expect(reading.answers(Side.LEFT)).to_have_text(POEM[:6])
    port = mortal_app.process.port
    mortal_app.process.kill()
    rating.come_back().comment.fill("als sie weg war")
    expect(rating.toast.first).to_contain_text("Not connected")
    again = start(folder / "again.log", *mortal_app.process.options, port=port)
    try:
        expect_rating_goes_on(rating)
        for model in mortal_app.models:
            model.says(POEM)
        expect_answers_are_asked_again(reading)
    finally:
        stop(again)


def expect_rating_goes_on(page: ComparePage) -> None:
    expect(page.toast).to_have_count(0)
    page.wait_rateable()
    expect(page.comment).to_have_value("als sie weg war")
    page.expect_missing("Complete")
    page.save_button.click()
    page.wait_revealed()


def expect_answers_are_asked_again(page: ComparePage) -> None:
    for side in Side:
        expect(page.foot(side)).to_contain_text("the app was stopped in the middle")
        page.retry_button(side).click()
        expect(page.answers(side)).to_have_text(POEM)
    page.wait_rateable()


def stop(app: AppProcess) -> None:
    app.process.terminate()
    app.process.wait(30)
