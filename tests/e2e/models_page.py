"""The models page as an operator sees and uses it, and what a forged call to it gets."""

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.request import Request, urlopen

from playwright.sync_api import Locator, Page, expect

from backends.catalog import PAIRS
from tests.e2e.visits import NO_COOKIES

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class ModelsPage:
    """One tab with the models page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.title = page.get_by_role("heading", level=1)
        self.cards = page.locator(".tp-card")
        self.tables = page.locator("#models-table table")
        self.first = page.locator("#models-first input")
        self.second = page.locator("#models-second input")
        self.pair = page.locator("#models-pair input")
        self.check_button = page.locator("#models-check")
        self.load_button = page.locator("#models-load")
        self.anyway_button = page.locator("#models-anyway")
        self.fit = page.locator("#models-fit")
        self.key = page.locator("#operator-key input")
        self.enter_button = page.locator("#enter")
        self.toast = page.get_by_test_id("toast-text")

    def card(self, title: str) -> Locator:
        return self.cards.filter(has_text=title)

    def told(self, name: str) -> Locator:
        """What the table says of each model in the row of that name."""
        row = self.tables.first.get_by_role("row")
        named = row.filter(has=self.page.get_by_role("rowheader", name=name, exact=True))
        return named.get_by_role("cell")

    def wait_loaded(self) -> "ModelsPage":
        self.tables.first.wait_for()
        return self

    def wait_open(self) -> "ModelsPage":
        """Wait for all that the operator has."""
        self.cards.nth(1).wait_for()
        self.load_button.wait_for()
        return self

    def type_models(self, first: str, second: str) -> None:
        """Enter both by keyboard, as one enters what the list doesn't have."""
        for box, spec in ((self.first, first), (self.second, second)):
            box.click()
            box.fill(spec)
            box.press("Enter")

    def choose_pair(self, pair: str) -> None:
        self.pair.click()
        self.page.get_by_role("option", name=re.compile(f"^{pair}: ")).click()
        expect(self.first).to_have_value(PAIRS[pair].models[0])


def call(
    url: str,
    button: str,
    data: Sequence[Any],
    cookies: Mapping[str, str] = NO_COOKIES,
    headers: Mapping[str, str] = NO_HEADERS,
) -> dict[str, Any]:
    """Send what the page sends when that button is clicked, without the page; return what comes."""
    sent = {
        "Content-Type": "application/json",
        "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
        **headers,
    }
    session = uuid.uuid4().hex
    event = {"fn_index": _function(url, button), "data": list(data), "session_hash": session}
    body = json.dumps(event).encode()
    with urlopen(Request(f"{url}/gradio_api/queue/join", body, sent)):
        pass
    with urlopen(Request(f"{url}/gradio_api/queue/data?session_hash={session}", None, sent)) as s:
        for line in s:
            if line.startswith(b"data:"):
                message: dict[str, Any] = json.loads(line[5:])
                if message["msg"] == "process_completed":
                    return message
    raise AssertionError("the stream has ended without an answer")


def _function(url: str, button: str) -> int:
    with urlopen(f"{url}/config") as response:
        config = json.load(response)
    [component] = [c["id"] for c in config["components"] if c["props"].get("elem_id") == button]
    click = [component, "click"]
    found: int = next(d["id"] for d in config["dependencies"] if click in d["targets"])
    return found
