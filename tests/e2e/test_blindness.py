"""Nothing that reaches a browser before the rating is saved says which model is which."""

import json
import re
from collections.abc import Iterable, Iterator
from urllib.request import urlopen

import psutil
import pytest
from playwright.sync_api import ConsoleMessage, Page, WebSocket, expect

from backends.catalog import Model
from backends.names import CHATGLM_NAMES, QWEN_NAMES
from backends.specs import resolve
from db import Side
from tests.e2e.compare_page import ComparePage
from tests.e2e.conftest import RunningApp
from tests.e2e.fake_model import Answer
from tests.e2e.recording import Recording, recording
from tests.e2e.visits import Visits

pytestmark = [pytest.mark.browser, pytest.mark.slow]

INTRODUCE = "你好，请介绍一下你自己。"
ADDRESSES = ("/gradio_api/info", "/config", "/gradio_api/openapi.json", "/openapi.json")
FIGURES = r'class="tp-timing"|"timing"|first_token_s|total_s|(prompt|completion)_tokens'
"""What timings and token counts of a side are called, on the page and in the API."""


def telltales(models: Iterable[Model], ports: Iterable[int]) -> "re.Pattern[str]":
    """Return what finds any word that says something about one of the models."""
    words = {*QWEN_NAMES, *CHATGLM_NAMES, "backends/tiny"}
    for model in models:
        words |= {model.key, model.title, str(model.folder or model.endpoint_url)}
        if len(model.revision) >= 8:  # a remote model's is just "remote"
            words.add(model.revision)
    spelled = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    # A port has five digits at random: those in the decimals of an icon's path are none.
    numbers = "|".join(rf"(?<![\d.]){port}\b" for port in ports)
    return re.compile(f"{spelled}|{numbers}|{FIGURES}", re.IGNORECASE)


class Witness:
    """All that one browser has got to see: what the app sent, the DOM, console and sockets."""

    def __init__(self, proxy: Recording, page: Page) -> None:
        self._proxy = proxy
        self._page = page
        self._seen: dict[str, str] = {}
        page.on("console", self._hear)
        page.on("websocket", self._meet)

    def _hear(self, message: ConsoleMessage) -> None:
        self._seen["console"] = self._seen.get("console", "") + message.text

    def _meet(self, socket: WebSocket) -> None:
        self._seen["websocket"] = socket.url  # there is none, and none could be recorded

    def look(self, moment: str) -> None:
        """Keep what the page, the storage and the cookies hold now."""
        self._seen[f"the page: {moment}"] = self._page.content()
        kept = self._page.evaluate("JSON.stringify(localStorage) + document.cookie")
        self._seen[f"the storage: {moment}"] = kept + str(self._page.context.cookies())

    def found(self, pattern: "re.Pattern[str]") -> list[str]:
        """Return where the pattern has been seen, and how."""
        places = {**self._proxy.said(), **self._seen}
        return [
            f"{place}: …{text[max(0, match.start() - 60) : match.end() + 60]}…"
            for place, text in places.items()
            for match in pattern.finditer(text)
        ]


def model_server_ports(app: RunningApp) -> Iterator[int]:
    for child in psutil.Process(app.process.process.pid).children():
        for connection in child.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                yield connection.laddr.port


def ask_for_what_is_public(proxy: Recording) -> None:
    """Ask for what describes the app to programs, where names could wait."""
    for address in (*ADDRESSES, "/healthz", "/readyz", "/summary"):
        try:
            with urlopen(proxy.url + address) as response:
                response.read()
        except OSError:  # not there: what it says is recorded all the same
            continue


def test_the_built_in_models_stay_unknown_until_the_rating_is_saved(
    tiny_app: RunningApp, visits: Visits
) -> None:
    pattern = telltales(map(resolve, ("tiny-qwen", "tiny-chatglm")), model_server_ports(tiny_app))
    with recording(tiny_app.process.port) as proxy:
        page = ComparePage(visits.open(proxy.url, locale="zh-CN"))
        witness = Witness(proxy, page.page)
        page.wait_loaded()
        witness.look("before anything is asked")
        page.ask(INTRODUCE)
        while not page.rateable:
            witness.look("while the answers come")
        page.fill_in()
        witness.look("just before saving")
        assert witness.found(pattern) == []
        page.save_button.click()
        page.wait_revealed()
        assert len(witness.found(re.compile("tiny-qwen"))) > 0
        assert len(witness.found(re.compile("tiny-chatglm"))) > 0


def boasts(name: str, maker: str) -> str:
    return f"我是{name}，{maker}训练的模型。{name[:3]} {name[3:]}！" + "春眠不觉晓，" * 6


def test_models_that_name_themselves_and_differ_in_speed_stay_unknown_until_the_rating_is_saved(
    fake_app: RunningApp, visits: Visits
) -> None:
    quick, calm = fake_app.models
    pattern = telltales(
        (resolve(quick.spec), resolve(calm.spec)),
        (quick.server_address[1], calm.server_address[1]),
    )
    quick.says(boasts("Qwen-quick", "阿里云"), pieces_per_s=200)
    calm.says(boasts("ChatGLM-6B", "清华大学KEG"), pieces_per_s=20)
    with recording(fake_app.process.port) as proxy:
        page = ComparePage(visits.open(proxy.url))
        witness = Witness(proxy, page.page)
        page.wait_loaded()
        ask_for_what_is_public(proxy)
        page.ask(INTRODUCE)
        while not page.rateable:
            witness.look("while the answers come")
        page.page.reload()
        page.wait_rateable()
        witness.look("after a reload")
        quick.follows(lambda _: Answer(status=400, error=f"Qwen can't, on {quick.server_address}"))
        page.ask("再说一遍")
        failed = next(side for side in Side if fake_app.sides(page.trial)[side] == quick.key)
        page.retry_button(failed).wait_for()
        witness.look("after one side failed")
        quick.says(boasts("Qwen-quick", "阿里云"))
        page.retry_button(failed).click()
        page.wait_rateable(turns=2)
        page.fill_in()
        witness.look("just before saving")
        assert witness.found(pattern) == []
        page.save_button.click()
        page.wait_revealed()
        for key in (quick.key, calm.key):
            assert len(witness.found(re.compile(re.escape(key)))) > 0
        page.page.reload()  # now the answers are shown as they were written
        page.wait_revealed()
        expect(page.page.locator(".tp-panes")).to_contain_text("KEG训练")


def test_what_is_public_says_nothing_and_answers_nothing_more_than_it_should(
    tiny_app: RunningApp,
) -> None:
    pattern = telltales(map(resolve, ("tiny-qwen", "tiny-chatglm")), model_server_ports(tiny_app))
    statuses = {}
    for address in (*ADDRESSES, "/docs", "/redoc", "/gradio_api/docs", "/healthz", "/readyz"):
        statuses[address] = tiny_app.process.status_of(address)
        if statuses[address] == 200:
            with urlopen(tiny_app.url + address) as response:
                text = response.read().decode() + str(response.headers)
            assert pattern.findall(text) == [], address
    assert {address for address, status in statuses.items() if status == 200} == {
        *("/gradio_api/info", "/config", "/healthz", "/readyz")
    }
    with urlopen(tiny_app.url + "/readyz") as response:
        assert json.load(response) == {"database": True, "models": True}
