"""Turns and trials: the next turn, stopping, asking a side again, beginning anew."""

from functools import partial

import pytest
from playwright.sync_api import expect

from benchmarks.app_process import until
from db import Side
from tests.e2e.conftest import RunningApp
from tests.e2e.fake_model import Answer, FakeModel, Script
from tests.e2e.visits import Visit

pytestmark = pytest.mark.browser

POEM = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。"


def model_on(app: RunningApp, trial: str, side: Side) -> FakeModel:
    return next(model for model in app.models if model.key == app.sides(trial)[side])


def counting(word: str) -> Script:
    """A model that says `word` and how much has been said."""
    return lambda said: Answer(f"{word}{len(said)}")


def is_idle(model: FakeModel) -> bool:
    return model.answering == 0


def test_the_second_turn_knows_the_first_and_each_model_only_its_own_words(
    fake_app: RunningApp, visit: Visit
) -> None:
    for model, word in zip(fake_app.models, ("甲", "乙"), strict=True):
        model.follows(counting(word))
    page = visit(fake_app)
    page.ask("我叫小明")
    page.wait_rateable()
    page.ask("我叫什么？")
    page.wait_rateable(turns=2)
    for side in Side:
        model = model_on(fake_app, page.trial, side)
        word = "甲" if model is fake_app.models[0] else "乙"
        asked = [message["content"] for message in model.conversations[-1]]
        assert asked == ["我叫小明", f"{word}1", "我叫什么？"]
        expect(page.answers(side)).to_have_text([f"{word}1", f"{word}3"])


def test_stop_ends_both_answers_and_each_side_can_be_asked_again(
    fake_app: RunningApp, visit: Visit
) -> None:
    for model in fake_app.models:
        model.says(POEM, hold_after=6)
    page = visit(fake_app)
    page.ask("写一首诗")
    for side in Side:
        expect(page.answers(side)).to_have_text(POEM[:6])
    expect(page.ask_button).to_be_disabled()
    page.stop_button.click()
    for side in Side:
        expect(page.foot(side)).to_contain_text("Stopped.")
        expect(page.answers(side)).to_have_text(POEM[:6])  # what was there stays
    page.expect_locked()
    expect(page.hint).to_contain_text("ask it again")
    for model in fake_app.models:
        model.says(POEM)
    page.retry_button(Side.RIGHT).click()
    expect(page.answers(Side.RIGHT)).to_have_text(POEM)
    page.expect_locked()  # the left side has no whole answer yet
    page.retry_button(Side.LEFT).click()
    page.wait_rateable()
    expect(page.answers(Side.LEFT)).to_have_text(POEM)
    expect(page.retry_button(Side.LEFT)).to_be_hidden()
    query = (
        "SELECT side, attempt, finish_reason FROM answers JOIN turns ON turns.id = turn_id "
        "WHERE trial_id = ? ORDER BY side, attempt"
    )
    assert fake_app.rows(query, page.trial) == [
        ("left", 1, "stopped"),
        ("left", 2, "stop"),
        ("right", 1, "stopped"),
        ("right", 2, "stop"),
    ]


def test_stopping_tells_the_models_to_stop(fake_app: RunningApp, visit: Visit) -> None:
    for model in fake_app.models:
        model.says(POEM * 100, pieces_per_s=50)
    page = visit(fake_app)
    page.ask("写很多")
    expect(page.answers(Side.LEFT)).to_be_visible()
    page.stop_button.click()
    page.retry_button(Side.LEFT).wait_for()
    for model in fake_app.models:  # each would go on for a minute
        until(partial(is_idle, model), 5.0)


def test_a_side_that_breaks_off_says_so_and_the_other_goes_on(
    fake_app: RunningApp, visit: Visit
) -> None:
    first, second = fake_app.models
    first.says(POEM, hold_after=8, break_after=8)
    second.says(POEM, hold_after=8)
    page = visit(fake_app)
    page.ask("写一首诗")
    expect(page.answers(Side.LEFT)).to_have_text(POEM[:8])
    broken = next(s for s in Side if fake_app.sides(page.trial)[s] == first.key)
    whole = next(s for s in Side if s is not broken)
    first.release()
    expect(page.foot(broken)).to_contain_text("its model broke off")
    second.release()
    expect(page.answers(whole)).to_have_text(POEM)
    expect(page.retry_button(broken)).to_be_visible()
    expect(page.retry_button(whole)).to_be_hidden()
    page.expect_locked()
    first.says(POEM)
    page.retry_button(broken).click()
    page.wait_rateable()
    page.rate()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(status=429, error="busy"), "its model is busy"),
        (Answer(status=500, error="out of memory"), "gave no usable answer"),
        (Answer(text="  "), "answered nothing"),
    ],
    ids=["busy", "broken", "empty"],
)
def test_a_side_that_cannot_answer_says_why(
    fake_app: RunningApp, visit: Visit, answer: Answer, message: str
) -> None:
    fake_app.models[0].follows(lambda _: answer)
    page = visit(fake_app)
    page.ask("你好")
    page.retry_button(Side.LEFT).or_(page.retry_button(Side.RIGHT)).filter(visible=True).wait_for()
    failed = next(s for s in Side if fake_app.sides(page.trial)[s] == fake_app.models[0].key)
    expect(page.foot(failed)).to_contain_text(message)


def test_a_prompt_that_one_model_cannot_take_goes_back_into_the_box(
    fake_app: RunningApp, visit: Visit
) -> None:
    fake_app.models[1].follows(lambda _: Answer(status=400, error="context_length_exceeded"))
    page = visit(fake_app)
    page.ask("a very long story")
    expect(page.toast).to_contain_text("too long for one of the models")
    expect(page.prompt).to_have_value("a very long story")
    expect(page.answers(Side.LEFT)).to_have_count(0)
    fake_app.models[1].says("好的。")
    page.ask_button.click()
    page.wait_rateable()


def test_a_new_trial_begins_empty_and_an_empty_one_is_used_again(
    fake_app: RunningApp, visit: Visit
) -> None:
    page = visit(fake_app)
    page.ask("你好")
    page.wait_rateable()
    first = page.trial
    page.new_button.click()
    expect(page.form).to_have_attribute("data-turns", "0")
    second = page.trial
    assert second != first
    expect(page.answers(Side.LEFT)).to_have_count(0)
    expect(page.prompt).to_be_focused()
    page.new_button.click()
    page.ask("再来")
    page.wait_rateable()
    assert page.trial == second
    states = dict(fake_app.rows("SELECT id, state FROM trials WHERE id IN (?, ?)", first, second))
    assert states == {first: "abandoned", second: "rateable"}


def test_a_refusal_does_not_hide_the_answers(fake_app: RunningApp, visit: Visit) -> None:
    page = visit(fake_app)
    page.ask("你好")
    page.wait_rateable()
    page.ask_button.click()  # the box is empty
    expect(page.toast).to_have_text("Type a prompt first.")
    for side in Side:
        answer = page.answers(side)
        on_top = "e => { const r = e.getBoundingClientRect(); return e.contains("
        on_top += "document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2)) }"
        assert answer.evaluate(on_top)


def test_after_the_reveal_the_next_trial_is_one_key_away(
    fake_app: RunningApp, visit: Visit
) -> None:
    page = visit(fake_app)
    page.ask("你好")
    page.wait_rateable()
    page.rate()
    expect(page.new_button).to_be_focused()
    expect(page.ask_button).to_be_disabled()
    page.page.keyboard.press("Enter")
    expect(page.form).to_have_attribute("data-turns", "0")
    expect(page.reveal).to_have_count(0)
    page.ask("下一个")
    page.wait_rateable()


def test_suggested_prompts_fill_the_box_the_three_of_the_article_first(
    fake_app: RunningApp, visit: Visit
) -> None:
    page = visit(fake_app)
    suggestions = page.page.locator(".tp-suggestions button")
    assert suggestions.all_inner_texts()[:3] == [
        "你好，请介绍一下你自己。",
        "请写一首关于春天的五言诗。",
        "解释一下什么是机器学习？",
    ]
    suggestions.nth(2).click()
    expect(page.prompt).to_have_value("解释一下什么是机器学习？")
    expect(page.prompt).to_be_focused()
    page.page.keyboard.press("Enter")
    page.wait_rateable()
    query = "SELECT prompt_id FROM turns WHERE trial_id = ?"
    assert fake_app.rows(query, page.trial) == [("article-explain",)]
