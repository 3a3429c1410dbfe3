"""Visitors of an app: browser contexts, watched for what no page may ever do.

A context is emptied after its test and used again: its cached scripts save a second a page.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, Request

from tests.e2e.compare_page import ComparePage

PATIENCE_MS = 30_000
NO_COOKIES: Mapping[str, str] = MappingProxyType({})

Visit = Callable[..., ComparePage]
"""Opens the compare page of an app; takes what `Visits.open` takes."""


class Contexts:
    """Browser contexts that nobody uses at the moment, by their options."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._idle: dict[str, list[BrowserContext]] = defaultdict(list)

    def take(self, options: Mapping[str, Any]) -> BrowserContext:
        idle = self._idle[str(options)]
        if idle:
            return idle.pop()
        context = self._browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        return context

    def give_back(self, context: BrowserContext, options: Mapping[str, Any]) -> None:
        """Close its pages and forget all but the cache."""
        context.set_offline(False)
        for page in context.pages:
            if page.url.startswith("http"):
                page.evaluate("localStorage.clear()")
            page.close()
        context.clear_cookies()
        self._idle[str(options)].append(context)


class Visits:
    """The visitors of one test, each with cookies of their own, and what their pages did."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts
        self._used: list[tuple[BrowserContext, Mapping[str, Any]]] = []
        self._watched: list[Callable[[], None]] = []
        self._requests: list[tuple[Request, str]] = []
        self.script_errors: list[str] = []

    def open(
        self, url: str, cookies: Mapping[str, str] = NO_COOKIES, locale: str = "en-US", **more: Any
    ) -> Page:
        """Open `url` as a new visitor; `more` are options of a browser context."""
        options = {"locale": locale, **more}
        context = self._contexts.take(options)
        self._used.append((context, options))
        self._watch(context, _origin(url))
        context.add_cookies([{"name": k, "value": v, "url": url} for k, v in cookies.items()])
        page = context.new_page()
        page.goto(url)
        return page

    def _watch(self, context: BrowserContext, own: str) -> None:
        def watch(page: Page) -> None:
            page.on("request", lambda request: self._requests.append((request, own)))
            page.on("pageerror", lambda error: self.script_errors.append(str(error)))

        context.on("page", watch)
        self._watched.append(lambda: context.remove_listener("page", watch))

    def strays(self) -> list[str]:
        """Return what was asked of another host, unless the page's own policy kept it back."""
        return [
            request.url
            for request, own in self._requests
            if urlsplit(request.url).scheme not in ("data", "blob")
            and _origin(request.url) != own
            and request.failure != "csp"
        ]

    def end(self) -> None:
        """Close all pages."""
        for unwatch in self._watched:
            unwatch()
        for context, options in self._used:
            self._contexts.give_back(context, options)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
