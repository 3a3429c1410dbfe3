"""The models page: what everybody may read, what the operator sees and does, what is withheld."""

import json
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from benchmarks.app_process import running
from db import Side
from tests.backends.hub_server import HubServer, Trouble, running_hub
from tests.e2e.compare_page import ComparePage
from tests.e2e.conftest import RunningApp
from tests.e2e.legibility import faint_texts, nameless, overflowing
from tests.e2e.models_page import ModelsPage, call
from tests.e2e.visits import Visit, Visits
from tests.paths import TINY

pytestmark = [pytest.mark.browser, pytest.mark.slow]

KEY = "open sesame"
PAIR = ("tiny-qwen", "tiny-chatglm")
AT_HUB = "someone/distant-parrot"
HUGE_WEIGHTS = 25_000_000_000

Open = Callable[..., ModelsPage]


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    """A hub from which weights come slowly."""
    with running_hub() as running_one:
        files = {file.name: file.read_bytes() for file in (TINY / "tiny-qwen").iterdir()}
        running_one.add(AT_HUB, files)
        running_one.troubles["model.safetensors"] = Trouble(pause_s=0.004)
        yield running_one


@pytest.fixture(scope="module")
def keyed_app(folder: Path, hub: HubServer) -> Iterator[RunningApp]:
    """The app with the built-in pair, whose operator is who knows the key."""
    url = f"sqlite:///{folder}/keyed.db"
    variables = {
        "TWOPANE_OPERATOR_KEY": KEY,
        "TWOPANE_CACHE": str(folder / "cache"),
        "HF_HOME": str(folder / "none"),
        "MODELSCOPE_CACHE": str(folder / "none"),
        **hub.environment(),
    }
    log = folder / "keyed.log"
    with running(log, "--database-url", url, variables=variables) as process:
        process.wait_ready()
        yield RunningApp(process, url)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint of another name."""
    folder = tmp_path_factory.mktemp("weights") / "little-parrot"
    shutil.copytree(TINY / "tiny-qwen", folder)
    return folder


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that says truly how large it is, with weights that are a hole in the disk."""
    folder = tmp_path_factory.mktemp("weights") / "giant"
    folder.mkdir()
    config = {"model_type": "qwen2", "max_position_embeddings": 64, "torch_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config))
    size = 4 * HUGE_WEIGHTS
    tensors = {"w": {"dtype": "F32", "shape": [HUGE_WEIGHTS], "data_offsets": [0, size]}}
    header = json.dumps(tensors).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
    return folder


@pytest.fixture
def look_up(visits: Visits) -> Open:
    """Open the models page as a new visitor."""

    def open_page(app: RunningApp, **options: Any) -> ModelsPage:
        return ModelsPage(visits.open(f"{app.url}/models", **options)).wait_loaded()

    return open_page


@pytest.fixture
def operate(look_up: Open) -> Open:
    """Open the models page as the operator."""

    def open_page(app: RunningApp, **options: Any) -> ModelsPage:
        page = look_up(app, **options)
        page.key.fill(KEY)
        page.enter_button.click()
        return page.wait_open()

    return open_page


def to_models(page: Page) -> ModelsPage:
    page.get_by_role("link", name=re.compile("^(Models|模型)$")).click()
    return ModelsPage(page)


def expect_ready(page: ModelsPage, *titles: str) -> None:
    expect(page.cards).to_have_count(2)
    for title in titles:
        expect(page.card(title)).to_contain_text("Ready", timeout=90_000)


# --- what they are, and how they are doing --------------------------------------------------------


def test_the_operator_sees_both_models_ready_with_what_they_are_and_need(
    tiny_app: RunningApp, look_up: Open
) -> None:
    page = look_up(tiny_app).wait_open()
    expect_ready(page, *PAIR)
    for card in page.cards.all():
        # Another test may have killed a model of this app: how often isn't this one's to say.
        expect(card).to_contain_text(
            re.compile(r"Memory needed: \d{3} MB · Restarts: \d+ · Threads: \d+")
        )
    expect(page.page.locator("#models-state")).to_contain_text(
        re.compile(r"Memory: 1\.\d GB needed for both, [\d.]+ [MG]B free")
    )
    for name, told in (
        ("Name", PAIR),
        ("From", ("built in", "built in")),
        ("Family", ("Qwen2", "ChatGLM-6B (v1)")),
        ("Precision", ("float32", "float32")),
        ("Parameters", ("1,906,176", "2,984,192")),
        ("Licence", ("Apache-2.0", "Apache-2.0")),
        ("Context", ("1,024 tokens", "1,024 tokens")),
        ("Size", ("3.8 MB on disk", "6.0 MB on disk")),
    ):
        expect(page.told(name)).to_have_text(list(told))


def test_what_is_looked_at_again_and_again_stays_where_it_was(
    tiny_app: RunningApp, look_up: Open
) -> None:
    page = look_up(tiny_app).wait_open()
    page.tables.first.evaluate("table => (table.seenBefore = true)")
    for _ in range(3):
        with page.page.expect_response(re.compile("queue/join")):
            pass
    assert page.tables.first.evaluate("table => table.seenBefore === true")


def test_what_a_pair_needs_shows_before_it_is_loaded_with_what_the_article_says(
    tiny_app: RunningApp, look_up: Open
) -> None:
    page = look_up(tiny_app).wait_open()
    page.choose_pair("article")
    expect(page.second).to_have_value("chatglm-6b-int4")
    page.check_button.click()
    expect(page.fit).to_contain_text("ChatGLM-6B (int4)")
    expect(page.fit).to_contain_text(re.compile(r"3\.9 GB (to fetch|on disk)"))
    expect(page.fit).to_contain_text(re.compile(r"\d\.\d GB needed for both, [\d.]+ [MG]B free"))
    expect_ready(page, *PAIR)  # nothing was loaded


def test_the_keyboard_alone_is_enough_to_check(tiny_app: RunningApp, look_up: Open) -> None:
    page = look_up(tiny_app).wait_open()
    page.first.focus()
    page.page.keyboard.press("Control+a")
    page.page.keyboard.type("chatglm-6b-int4")
    page.page.keyboard.press("Tab")
    while not page.check_button.evaluate("button => button === document.activeElement"):
        page.page.keyboard.press("Tab")
    page.page.keyboard.press("Enter")
    expect(page.fit).to_contain_text("ChatGLM-6B (int4)")
    expect(page.second).to_have_value("tiny-chatglm")


# --- another pair ---------------------------------------------------------------------------------


def test_the_pair_changes_while_the_app_runs_and_new_trials_ask_the_new_one(
    keyed_app: RunningApp, operate: Open, visit: Visit, copy: Path
) -> None:
    early = visit(keyed_app)
    page = operate(keyed_app).page
    page.bring_to_front()
    models = ModelsPage(page)
    models.type_models(str(copy), "tiny-chatglm")
    models.load_button.click()
    expect(models.fit).to_contain_text("little-parrot and tiny-chatglm take their places")
    expect(models.card("little-parrot").locator("progress")).to_be_visible()
    expect_ready(models, "little-parrot", "tiny-chatglm")
    expect(models.tables.first).to_contain_text(str(copy))
    early.come_back()
    early.ask("你好")  # the page was there before the change
    early.wait_rateable()
    early.rate()
    assert set(keyed_app.sides(early.trial).values()) == {
        *(key for key in keyed_app.sides(early.trial).values() if "little-parrot@" in key),
        "tiny-chatglm",
    }
    expect(early.reveal).to_contain_text("little-parrot@")
    page.bring_to_front()
    models.choose_pair("tiny")
    models.load_button.click()
    expect_ready(models, *PAIR)


def test_a_model_of_a_hub_arrives_with_progress_and_one_that_isn_t_there_can_be_changed_back(
    keyed_app: RunningApp, operate: Open
) -> None:
    models = operate(keyed_app)
    models.type_models(AT_HUB, "tiny-chatglm")
    models.check_button.click()
    expect(models.fit).to_contain_text("not known before its files are here")
    expect(models.fit).to_contain_text("can't be known yet")
    expect(models.anyway_button).to_be_visible()
    models.load_button.click()
    card = models.card("distant-parrot")
    expect(card).to_contain_text(
        re.compile(r"[\d.]+ [kM]B of \d\.\d MB · [\d.]+ [kM]B/s · \d+ s left · ModelScope")
    )
    share = card.locator("progress").evaluate("bar => bar.value")
    assert 0 < share < 1
    expect_ready(models, "distant-parrot")
    expect(models.tables.first).to_contain_text(f"ModelScope: {AT_HUB} @ newest")
    models.type_models("someone/nobody", "tiny-chatglm")
    models.load_button.click()
    card = models.card("nobody")
    expect(card).to_contain_text("Can't be loaded", timeout=90_000)
    expect(card.locator(".tp-bad")).to_contain_text("ModelScope")
    models.choose_pair("tiny")
    models.load_button.click()
    expect_ready(models, *PAIR)


def test_a_pair_in_use_stays_until_its_trials_are_rated(
    keyed_app: RunningApp, operate: Open, visit: Visit, copy: Path
) -> None:
    rater = visit(keyed_app)
    rater.ask("你好")
    rater.wait_rateable()
    models = operate(keyed_app)
    models.page.bring_to_front()
    models.type_models(str(copy), "tiny-chatglm")
    models.load_button.click()
    expect(models.toast).to_contain_text("wait for their rating: 1.")
    expect(models.first).to_have_value(str(copy))
    expect(models.anyway_button).to_be_hidden()
    expect_ready(models, *PAIR)
    rater.come_back().rate()
    models.page.bring_to_front()
    models.load_button.click()
    expect_ready(models, "little-parrot")
    models.choose_pair("tiny")
    models.load_button.click()
    expect_ready(models, *PAIR)


def test_an_old_trial_says_that_its_models_are_gone_and_gives_way_to_a_new_one(
    keyed_app: RunningApp, operate: Open, visit: Visit, copy: Path
) -> None:
    rater = visit(keyed_app)
    rater.ask("你好")
    rater.wait_rateable()
    long_ago(keyed_app)
    models = operate(keyed_app)
    models.page.bring_to_front()
    models.type_models(str(copy), "tiny-chatglm")
    models.load_button.click()
    expect_ready(models, "little-parrot")
    rater.come_back()
    rater.page.reload()
    rater.wait_rateable()
    expect(rater.hint).to_contain_text("The models have been exchanged since")
    expect(rater.ask_button).to_be_disabled()
    expect(rater.answers(Side.LEFT)).to_have_count(1)
    rater.rate()
    assert set(keyed_app.sides(rater.trial).values()) == set(PAIR)
    rater.new_button.click()
    rater.ask("你好")
    rater.wait_rateable()
    rater.rate()
    expect(rater.reveal).to_contain_text("little-parrot@")
    models.page.bring_to_front()
    models.choose_pair("tiny")
    models.load_button.click()
    expect_ready(models, *PAIR)


def long_ago(app: RunningApp) -> None:
    """Let all trials lie back an hour, as if their raters had gone."""
    app.execute("UPDATE trials SET updated_at = datetime(updated_at, '-1 hour')")
    app.execute(
        "UPDATE answers SET started_at = datetime(started_at, '-1 hour'),"
        " finished_at = datetime(finished_at, '-1 hour')"
    )


def test_what_doesn_t_fit_is_refused_with_the_figures_unless_forced_and_can_be_changed_back(
    keyed_app: RunningApp, operate: Open, huge: Path
) -> None:
    models = operate(keyed_app)
    models.type_models(str(huge), "tiny-chatglm")
    models.check_button.click()
    expect(models.fit).to_contain_text(re.compile(r"giant\s*100 GB on disk\s*1\d\d GB"))
    expect(models.fit).to_contain_text("That doesn't fit.")
    models.type_models(str(huge), "tiny-qwen")
    expect(models.anyway_button).to_be_hidden()
    models.load_button.click()
    expect(models.toast).to_contain_text(re.compile(r"1\d\d GB needed, [\d.]+ [MG]B free"))
    expect(models.first).to_have_value(str(huge))
    expect(models.fit).to_contain_text("That doesn't fit.")
    expect_ready(models, *PAIR)  # nothing has changed
    models.anyway_button.click()
    expect(models.card("giant")).to_contain_text("Can't be loaded", timeout=90_000)
    expect(models.card("giant").locator(".tp-bad")).not_to_be_empty()
    models.choose_pair("tiny")
    models.load_button.click()
    expect_ready(models, *PAIR)


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ("no-such-model", "'no-such-model' is no model that Twopane knows"),
        ("tiny-chatglm", "Both would be tiny-chatglm"),
        ("http://localhost:1/v1", "URL#model"),
    ],
)
def test_what_means_no_pair_is_told_and_stays_in_the_box(
    tiny_app: RunningApp, look_up: Open, first: str, words: str
) -> None:
    page = look_up(tiny_app).wait_open()
    page.type_models(first, "tiny-chatglm")
    page.load_button.click()
    expect(page.toast).to_contain_text(words)
    expect(page.first).to_have_value(first)
    expect(page.anyway_button).to_be_hidden()
    expect_ready(page, *PAIR)


# --- who sees what --------------------------------------------------------------------------------


def test_who_has_a_blind_trial_open_sees_nothing_of_the_models_and_finds_back(
    tiny_app: RunningApp, visit: Visit
) -> None:
    rater = visit(tiny_app)
    rater.ask("你好")
    rater.wait_rateable()
    models = to_models(rater.page)
    expect(rater.page.locator("#models-state")).to_contain_text("a blind trial of your own open")
    expect(models.cards).to_have_count(0)
    expect(models.tables).to_have_count(0)
    expect(models.load_button).to_be_hidden()
    rater.page.wait_for_timeout(2500)  # it is looked at every second
    held = rater.page.content()
    assert not [word for word in (*PAIR, "float32", " MB", "tp-card") if word in held]
    for button, data in (
        ("models-check", PAIR),
        ("models-load", PAIR),
        ("models-anyway", PAIR),
    ):
        answer = call(tiny_app.url, button, data, rater.cookies())
        assert answer["success"] is False
        assert "blind trial of your own" in answer["output"]["error"]
    rater.page.get_by_role("link", name="Back to the trial").click()
    rater.wait_rateable()
    rater.rate()
    to_models(rater.page).wait_open()


def test_who_is_not_the_operator_reads_what_the_models_are_and_no_more(
    keyed_app: RunningApp, look_up: Open
) -> None:
    page = look_up(keyed_app)
    for title in PAIR:
        expect(page.tables.first).to_contain_text(title)
    expect(page.page.locator("#models-lead")).to_contain_text("Enter the operator's key")
    expect(page.key).to_have_attribute("type", "password")
    expect(page.cards).to_have_count(0)
    expect(page.load_button).to_be_hidden()
    cookies = {c["name"]: c["value"] for c in page.page.context.cookies()}
    for button in ("models-check", "models-load", "models-anyway"):
        for who in ({}, cookies):
            answer = call(keyed_app.url, button, PAIR, who)
            assert answer["success"] is False
            assert "Only whoever runs this panel" in answer["output"]["error"]


def test_the_key_opens_the_page_and_leaves_no_trace(keyed_app: RunningApp, look_up: Open) -> None:
    page = look_up(keyed_app)
    page.key.fill("sesame")
    page.key.press("Enter")
    expect(page.toast).to_have_text("That is not the operator's key.")
    expect(page.cards).to_have_count(0)
    page.key.fill(KEY)
    page.key.press("Enter")
    page.wait_open()
    expect(page.key).to_be_hidden()
    page.page.reload()
    page.wait_open()
    assert KEY not in page.page.content() + page.page.url
    assert KEY not in keyed_app.process.log.read_text("utf-8")


def test_a_visitor_through_a_proxy_is_not_on_this_machine(
    tiny_app: RunningApp, look_up: Open
) -> None:
    page = look_up(tiny_app, extra_http_headers={"X-Forwarded-For": "203.0.113.9"})
    expect(page.page.locator("#models-lead")).to_contain_text("TWOPANE_OPERATOR_KEY")
    expect(page.cards).to_have_count(0)
    expect(page.load_button).to_be_hidden()
    expect(page.key).to_be_hidden()


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.2", "https://evil.example"),
        ("127.0.0.1", "https://evil.example"),
        ("127.0.0.2", "null"),
    ],
)
def test_a_page_of_another_site_is_not_the_operator_s(
    tiny_app: RunningApp, host: str, origin: str
) -> None:
    port = tiny_app.url.rpartition(":")[2]
    sent = {"Host": f"{host}:{port}"}
    own = call(
        tiny_app.url, "models-check", PAIR, headers=sent | {"Origin": f"http://{host}:{port}"}
    )
    assert own["success"] is True
    answer = call(tiny_app.url, "models-check", PAIR, headers=sent | {"Origin": origin})
    assert answer["success"] is False


# --- languages, looks -----------------------------------------------------------------------------


def walk(app: RunningApp, keyed: RunningApp, visits: Visits, **options: Any) -> Iterator[Page]:
    """Bring the page into all that it can look like."""
    page = ModelsPage(visits.open(f"{keyed.url}/models", **options)).wait_loaded()
    page.enter_button.wait_for()
    yield page.page
    rater = ComparePage(visits.open(app.url, **options)).wait_loaded()
    models = to_models(rater.page).wait_open()
    models.choose_pair("article")
    models.check_button.click()
    expect(models.fit).to_contain_text("ChatGLM-6B (int4)")
    yield rater.page
    models.type_models("x" * 200, "tiny-qwen")
    models.load_button.click()
    expect(models.page.get_by_test_id("toast-body")).to_have_css("opacity", "1")
    yield rater.page
    rater.page.get_by_role("link", name=re.compile("^(Compare|对比)$")).click()
    rater.wait_loaded().ask("你好")
    rater.wait_rateable()
    to_models(rater.page)
    rater.page.locator(".tp-hidden").wait_for()
    yield rater.page


@pytest.mark.parametrize(
    ("theme", "locale", "width"), [("light", "zh-CN", 360), ("dark", "en-US", 1400)]
)
def test_the_page_can_be_read_reached_and_named_at_every_width(
    tiny_app: RunningApp,
    keyed_app: RunningApp,
    visits: Visits,
    theme: str,
    locale: str,
    width: int,
) -> None:
    size = {"width": width, "height": 800}
    for page in walk(tiny_app, keyed_app, visits, color_scheme=theme, locale=locale, viewport=size):
        assert faint_texts(page) == []
        assert nameless(page) == []
        assert overflowing(page) == []


def test_the_page_speaks_both_languages(keyed_app: RunningApp, operate: Open) -> None:
    page = operate(keyed_app, locale="zh-CN")
    expect(page.title).to_have_text("两个模型")
    expect(page.cards.first).to_contain_text("就绪")
    expect(page.load_button).to_have_text("加载")
    page.type_models("no-such-model", "tiny-chatglm")
    page.load_button.click()
    expect(page.toast).to_contain_text("不能使用这个模型")
    page.page.get_by_role("button", name="English").click()
    expect(page.title).to_have_text("The two models")
    page.wait_open()
    expect(page.load_button).to_have_text("Load")
