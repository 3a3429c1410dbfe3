"""Both languages, both themes, every width: what is written can be read, reached and named."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from db import Side
from tests.e2e.compare_page import ComparePage
from tests.e2e.conftest import RunningApp
from tests.e2e.fake_model import Answer
from tests.e2e.legibility import faint_texts, nameless, overflowing
from tests.e2e.visits import Visit

pytestmark = pytest.mark.browser

ENDLESS = "a" * 300 + "这是一个很长的回答，" * 20 + "\n\n```\n" + "x = 1; " * 40 + "\n```"


def walk(app: RunningApp, page: ComparePage) -> Iterator[str]:
    """Bring the pages into all that they can look like, one after the other."""
    yield "nothing asked yet"
    page.ask("")
    expect(page.page.get_by_test_id("toast-body")).to_have_css("opacity", "1")  # it fades in
    yield "a message"
    for model in app.models:
        model.follows(lambda _: Answer(status=500))
    page.ask("x" * 200)
    for side in Side:
        page.retry_button(side).wait_for()
    yield "both sides have failed"
    for side in Side:
        for model in app.models:
            model.says("好的。")
        page.retry_button(side).click()
        page.retry_button(side).wait_for(state="hidden")
        expect(page.stop_button).to_be_disabled()
    page.wait_rateable()
    for model in app.models:
        model.says(ENDLESS, piece=20, pieces_per_s=20)
    page.ask("写长一点")
    page.wait_rateable(turns=2)
    yield "to be rated"
    page.page.get_by_role("button", name=re.compile("Keys|按键")).click()
    expect(page.keys_dialog).to_be_visible()
    yield "the list of keys"
    page.page.keyboard.press("Escape")
    page.rate()
    yield "revealed"
    page.page.get_by_role("link", name=re.compile("Results|结果")).click()
    page.page.locator(".tp-trial summary").first.click()
    page.page.locator("#include-flagged input").check()  # nobody reads as fast as a test
    expect(page.page.locator("#chart .main-svg").first).to_be_visible()
    yield "the results"


@pytest.mark.slow
@pytest.mark.parametrize(("theme", "locale"), [("light", "zh-CN"), ("dark", "en-US")])
def test_every_text_has_enough_contrast_and_every_control_a_name(
    fake_app: RunningApp, visit: Visit, theme: str, locale: str
) -> None:
    page = visit(fake_app, color_scheme=theme, locale=locale)
    faint, unnamed = {}, {}
    for state in walk(fake_app, page):
        faint[state] = faint_texts(page.page)
        unnamed[state] = nameless(page.page)
    assert {state: found for state, found in faint.items() if found} == {}
    assert {state: found for state, found in unnamed.items() if found} == {}


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 3840])
def test_no_page_is_wider_than_its_window(fake_app: RunningApp, visit: Visit, width: int) -> None:
    page = visit(fake_app, viewport={"width": width, "height": 800})
    wide = {state: overflowing(page.page) for state in walk(fake_app, page)}
    assert {state: found for state, found in wide.items() if found} == {}


def test_the_page_speaks_the_language_of_the_browser(fake_app: RunningApp, visit: Visit) -> None:
    chinese, english = visit(fake_app, locale="zh-CN"), visit(fake_app, locale="de-DE")
    for page, lang, ask, missing, message in (
        (chinese, "zh", "同时提问", "还差 11 项", "请先输入问题。"),
        (english, "en", "Ask both", "11 entries missing", "Type a prompt first."),
    ):
        page.come_back()
        expect(page.page.locator("html")).to_have_attribute("lang", re.compile(f"^{lang}"))
        expect(page.ask_button).to_have_text(ask)
        page.expect_missing(missing)
        page.ask_button.click()
        expect(page.toast).to_have_text(message)
    assert re.findall("[\u4e00-\u9fff]+", visible_words(english, but=".tp-suggestions")) == ["中文"]
    words = set(re.findall(r"[A-Za-z]{2,}", visible_words(chinese, but=".tp-suggestions")))
    assert words <= {"Twopane", "English", "Ctrl", "Enter", "Tab", "Shift", "Esc", "API"}


def visible_words(page: ComparePage, but: str) -> str:
    words: str = page.page.evaluate(
        "but => { document.querySelector(but).hidden = true; return document.body.innerText }", but
    )
    return words


def test_the_switch_changes_the_language_for_good_and_keeps_the_trial(
    fake_app: RunningApp, visit: Visit
) -> None:
    page = visit(fake_app)
    page.ask("你好")
    page.wait_rateable()
    page.choose("left.coherence", 4)
    trial = page.trial
    page.page.get_by_role("button", name="中文").click()
    expect(page.ask_button).to_have_text("同时提问")
    page.wait_rateable()
    page.expect_missing("还差 10 项")
    assert page.trial == trial
    page.page.get_by_role("link", name="结果").click()
    expect(page.page.get_by_role("heading", level=1)).to_have_text("分数证明了什么")
    page.page.get_by_role("button", name="English").click()
    expect(page.page.get_by_role("heading", level=1)).to_have_text("What the scores prove")


def test_the_theme_follows_the_system_until_it_is_switched(
    fake_app: RunningApp, visit: Visit
) -> None:
    page = visit(fake_app, color_scheme="dark")
    body = page.page.locator("body")
    expect(body).to_contain_class("dark")
    page.page.emulate_media(color_scheme="light")
    expect(body).not_to_contain_class("dark")
    page.page.get_by_role("button", name="Light or dark").click()
    expect(body).to_contain_class("dark")
    page.page.reload()
    page.wait_loaded()
    expect(body).to_contain_class("dark")


def test_tab_goes_through_the_page_in_the_order_of_reading(
    fake_app: RunningApp, visit: Visit
) -> None:
    page = visit(fake_app)
    page.ask("你好")
    page.wait_rateable()
    page.page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    page.page.locator(".tp-brand").focus()
    names = [focused(page)]
    while "Save rating" not in names[-1]:
        page.page.keyboard.press("Tab")
        names.append(focused(page))
        assert len(names) < 60
    positions = [first_index(names, words) for words in READING_ORDER]
    assert positions == sorted(positions)


READING_ORDER = (
    *("Twopane", "Compare", "Results", "中文", "Light or dark", "Your prompt", "Ask both"),
    *("New trial", "你好，请介绍一下你自己。", "Keys", "left.understanding", "right.understanding"),
    *("left.memory", "preference", "Comment", "Save rating"),
)


def focused(page: ComparePage) -> str:
    """Say what has the focus, by all that names it."""
    name: str = page.page.evaluate(
        "(e => [e.ariaLabel, e.name, e.labels?.[0]?.innerText, e.innerText].join(' | '))"
        "(document.activeElement)"
    )
    return name


def first_index(names: list[str], words: str) -> int:
    return next((index for index, name in enumerate(names) if words in name), -1)
