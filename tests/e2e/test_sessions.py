"""A rating session from its prompt set to the reveal, as operator and raters go through it."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from benchmarks.app_process import running
from tests.e2e.compare_page import ComparePage
from tests.e2e.conftest import RunningApp, answer_once
from tests.e2e.recording import Recording, recording
from tests.e2e.sessions_page import SessionsPage
from tests.e2e.visits import Visits

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SET = """
- {id: spring, language: zh, category: naturalness, turns: [写一首关于春天的诗。]}
- {id: name, language: zh, category: memory, turns: [我叫小明。, 我叫什么名字？]}
- {id: apples, language: zh, category: reasoning, turns: [五个苹果吃了两个还剩几个？]}
- id: gold
  language: zh
  category: reasoning
  turns: [二加二等于几？]
  gold: {better: [四。], worse: [五。]}
"""
PROMPTS = ["写一首关于春天的诗。", "我叫小明。", "五个苹果吃了两个还剩几个？"]
TELLING = re.compile(r"repeat_of|attention|gold|prompt set|\bcached|recorded|assign|\bkind\b", re.I)
"""What the events of a rater's page would have to say to tell one kind of trial from another."""


@pytest.fixture
def session_app(folder: Path, fake_app: RunningApp) -> Iterator[RunningApp]:
    """An app of the test's own, since every visitor of it is in the session."""
    url = f"sqlite:///{folder}/sessions.db"
    specs = [model.spec for model in fake_app.models]
    options = ("--left", specs[0], "--right", specs[1], "--database-url", url)
    with running(folder / "sessions.log", *options) as process:
        process.wait_ready()
        answer_once(process.url)
        yield RunningApp(process, url, fake_app.models)


def make_session(operator: SessionsPage, file: Path) -> None:
    """Take in the prompt set, and open a session after a first try that is refused."""
    operator.wait_open()
    operator.choose_file(file)
    operator.add_set.click()
    expect(operator.prompt_set).to_have_value(re.compile("^monday "))
    operator.raters.fill("2")
    operator.repeats.fill("34")
    operator.attention.fill("34")
    operator.guess.check()
    operator.create.click()
    expect(operator.toast).to_contain_text("Give the session a name")
    operator.name.fill("Monday")
    operator.create.click()
    expect(operator.session("Monday")).to_contain_text("0 of 6 ratings")
    expect(operator.name).to_have_value("")
    expect(operator.repeats).to_have_value("34")


def rate(page: ComparePage) -> None:
    page.fill_in()
    page.page.keyboard.press("ArrowDown")  # from the preference to the guess
    page.page.keyboard.press("3")
    expect(page.option("guess", "none")).to_be_checked()
    page.save_button.click()


_SHAPE = """() => [...document.querySelectorAll(
  "#rating form, #rating form *, .tp-foot, .tp-foot *, #reveal section, #reveal section *"
)].map((one) => [
  one.tagName,
  ...["data-row", "name", "value", "aria-label"].map((name) => one.getAttribute(name)),
  one.childElementCount ? "" : one.textContent.trim(),
].join(" "))"""


def shape(page: ComparePage) -> str:
    """All that a rated trial's page says beside the conversation."""
    return "\n".join(page.page.evaluate(_SHAPE))


def events_of(proxy: Recording) -> str:
    return "".join(text for path, text in proxy.said().items() if "/queue/data" in path)


def test_a_session_from_the_prompt_set_to_the_reveal(
    session_app: RunningApp, visits: Visits, folder: Path
) -> None:
    file = folder / "monday.yaml"
    file.write_text(SET, encoding="utf-8")
    operator = SessionsPage(visits.open(f"{session_app.url}/sessions"))
    make_session(operator, file)
    for model in session_app.models:
        model.says("好的，三个。")
    with recording(session_app.process.port) as proxy:
        page = ComparePage(visits.open(proxy.url))
        session = page.page.locator(".tp-session")
        expect(session).to_contain_text("0 of 5 rated")
        expect(page.prompt).to_be_hidden()
        assert not any(prompt in "".join(proxy.said().values()) for prompt in PROMPTS)
        page.new_button.click()
        shapes: dict[str | None, set[str]] = defaultdict(set)
        for number in range(1, 6):
            page.page.locator("form fieldset:not([disabled])").wait_for()
            expect(page.new_button).to_be_disabled()
            if number == 2:
                come_back_after_a_pause(page, operator)
            trial = page.trial
            rate(page)
            expect(session).to_contain_text(f"{number} of 5 rated")
            assert TELLING.findall(events_of(proxy)) == []
            if number < 5:
                expect(page.reveal).to_contain_text("“Next” brings the next prompt")
                expect(page.new_button).to_be_focused()
                turns = page.form.get_attribute("data-turns")
                shapes[turns].add(shape(page))
                page.page.keyboard.press("Enter")
                expect(page.form).not_to_have_attribute("data-trial", trial)
        assert all(len(same) == 1 for same in shapes.values())
        expect_reveal(page, session_app)
        expect(operator.session("Monday")).to_contain_text("3 of 6 ratings · Raters: 1")
        operator.act("Monday", "close")
        expect(operator.session("Monday")).to_contain_text("Closed")
        page.page.reload()
        expect(page.prompt).to_be_visible()


def come_back_after_a_pause(page: ComparePage, operator: SessionsPage) -> None:
    """The session is paused meanwhile, and the rater comes back: what was begun can be rated."""
    page.choose("left.coherence", 4)
    operator.act("Monday", "pause")
    expect(operator.session("Monday")).to_contain_text("Paused")
    page.page.reload()
    expect(page.page.locator(".tp-session")).to_contain_text("The session is paused")
    expect(page.option("left.coherence", 4)).to_be_checked()
    operator.act("Monday", "resume")
    expect(operator.session("Monday")).to_contain_text("Open")


def expect_reveal(page: ComparePage, app: RunningApp) -> None:
    """The three prompts with who was where, and not a word of the checks."""
    listed = page.page.locator(".tp-session .tp-trial")
    expect(listed).to_have_count(3)
    expect(page.page.locator(".tp-panes")).to_be_hidden()
    for place in range(3):
        words = listed.nth(place).locator("summary").inner_text()
        [prompt] = [one for one in PROMPTS if one in words]
        query = (
            "SELECT left_model FROM trials JOIN assignments ON trials.id = assignments.trial_id "
            "JOIN turns ON turns.trial_id = trials.id WHERE kind = 'regular' AND position = 1 AND prompt = ?"
        )
        [(left,)] = app.rows(query, prompt)
        model = next(model for model in app.models if model.key == left)
        assert re.search(rf"Left: {re.escape(model.name)}\b", words), words
    kinds = app.rows("SELECT kind, count(*) FROM assignments GROUP BY kind ORDER BY kind")
    assert kinds == [("attention", 1), ("regular", 3), ("repeat", 1)]
    assert app.rows("SELECT count(*) FROM ratings WHERE guess IS NULL") == [(5,)]
