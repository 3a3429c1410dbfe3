"""No event of a page is lost, however late its event stream closes: `ui/static/stream.js`.

The first tests put the app behind a slow line. The others load the script alone and script what
`fetch` gives: broken streams and refusals that no server gives on demand.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, TimeoutError

from tests.e2e.compare_page import ComparePage
from tests.e2e.conftest import RunningApp
from tests.e2e.recording import Recording, recording
from tests.e2e.visits import Visits
from tests.paths import ROOT

pytestmark = pytest.mark.browser

LAG_S = 0.4
LOADS = 8
STREAM_JS = ROOT / "ui" / "static" / "stream.js"

CLOSING = 'data: {"msg":"close_stream","event_id":null}\n\n'
BREAK = None

# Each stream says its texts and ends; `null` breaks it off. A number instead refuses it.
_SCRIPTED_FETCH = """([streams, joins]) => {
  window.asked = 0;
  window.fetch = async (resource) => {
    if (String(resource.url ?? resource).includes("queue/join")) {
      const [status, answer] = joins.shift();
      return new Response(JSON.stringify(answer), { status });
    }
    resource.signal.throwIfAborted(); // nothing is asked then
    window.asked += 1;
    const texts = streams.shift();
    if (typeof texts === "number") return new Response("no", { status: texts });
    const pull = (controller) => {
      if (!texts.length) return controller.close();
      const text = texts.shift();
      if (text === null) return controller.error(new TypeError("broken off"));
      controller.enqueue(new TextEncoder().encode(text));
    };
    return new Response(new ReadableStream({ pull }));
  };
}"""

_FOLLOW = """async (atOnce) => {
  const stop = new AbortController();
  const request = new Request("/gradio_api/queue/data?session_hash=x", { signal: stop.signal });
  const response = await fetch(request);
  if (!response.ok) return response.status;
  if (atOnce) stop.abort();
  let said = "";
  try {
    for (const reader = response.body.pipeThrough(new TextDecoderStream()).getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) return said;
      said += value;
    }
  } catch (error) {
    return error.message;
  }
}"""


@pytest.fixture
def slow_line(fake_app: RunningApp) -> Iterator[Recording]:
    """The app behind a line on which the closing of a stream comes late."""
    with recording(fake_app.process.port, closing_lag_s=LAG_S) as proxy:
        yield proxy


@pytest.mark.slow
def test_a_page_hardly_ever_waits_for_ever_on_a_slow_line(
    slow_line: Recording, visits: Visits
) -> None:
    """Of about 45 reloads on such a line one still hung (2026-11-22); without the script most do."""
    page = ComparePage(visits.open(slow_line.url)).wait_loaded()
    assert sum(_reload_hangs(page) for _ in range(LOADS)) <= 1


def _reload_hangs(page: ComparePage) -> bool:
    page.page.reload()
    page.page.set_default_timeout(8_000)
    try:
        page.wait_loaded()
    except TimeoutError:
        return True
    return False


@pytest.mark.slow
def test_without_our_script_such_a_line_makes_gradio_wait_for_ever(
    slow_line: Recording, visits: Visits
) -> None:
    """If this fails, Gradio has mended it: away with `stream.js`."""
    page = ComparePage(visits.open(slow_line.url)).wait_loaded()
    page.page.route("**/stream.js*", lambda route: route.abort())
    assert any(hangs(page) for _ in range(LOADS))


def hangs(page: ComparePage) -> bool:
    page.page.reload()
    page.page.set_default_timeout(5_000)
    try:
        page.wait_loaded()
        page.ask("你好")
        page.wait_rateable(turns=2)
    except TimeoutError:
        return True
    return False


class ScriptedPage:
    """A page with nothing but the script, and a `fetch` that does as it is told."""

    def __init__(self, page: Page, streams: list[Any], joins: list[Any]) -> None:
        self._page = page
        page.evaluate(_SCRIPTED_FETCH, [streams, joins])
        page.add_script_tag(path=STREAM_JS)

    def join(self) -> int:
        """Send an event; return the status of its acknowledgement."""
        status: int = self._page.evaluate(
            "fetch('/gradio_api/queue/join?', { method: 'POST' }).then((r) => r.json().then(() => r.status))"
        )
        return status

    def follow(self, stop_at_once: bool = False) -> str | int:
        """Follow the event stream to its end; return all it said, or how it failed."""
        said: str | int = self._page.evaluate(_FOLLOW, stop_at_once)
        return said

    @property
    def streams_asked_for(self) -> int:
        asked: int = self._page.evaluate("window.asked")
        return asked


@pytest.fixture
def blank(fake_app: RunningApp, visits: Visits) -> Page:
    return visits.open(f"{fake_app.url}/healthz")


def acknowledged(event: str) -> list[Any]:
    return [200, {"event_id": event}]


def completed(event: str) -> str:
    message = {"msg": "process_completed", "event_id": event, "output": {}}
    return f"data: {json.dumps(message)}\n\n"


def test_a_closing_passes_when_no_event_is_under_way(blank: Page) -> None:
    page = ScriptedPage(blank, [[completed("a"), CLOSING]], [acknowledged("a")])
    page.join()
    assert page.follow() == completed("a") + CLOSING
    assert page.streams_asked_for == 1


def test_a_closing_waits_until_the_last_event_has_been_followed(blank: Page) -> None:
    streams = [[completed("a"), CLOSING], [completed("b") + CLOSING]]
    page = ScriptedPage(blank, streams, [acknowledged("a"), acknowledged("b")])
    page.join()
    page.join()
    assert page.follow() == completed("a") + completed("b") + CLOSING
    assert page.streams_asked_for == 2


def test_an_event_that_is_complete_before_its_acknowledgement_holds_nothing_up(
    blank: Page,
) -> None:
    streams = [[completed("a"), CLOSING], [CLOSING]]
    page = ScriptedPage(blank, streams, [acknowledged("a")])
    page.follow()
    page.join()
    assert page.follow() == CLOSING
    assert page.streams_asked_for == 2


def test_whatever_else_a_stream_says_passes_unchanged(blank: Page) -> None:
    texts = [': ping\n\ndata: {"msg":"heart', 'beat"}\n\ndata: 你好\n\n', "data: null\n\nan end"]
    page = ScriptedPage(blank, [texts], [])
    assert page.follow() == "".join(texts)


def test_a_stream_that_breaks_off_breaks_off_for_gradio_and_takes_its_events_with_it(
    blank: Page,
) -> None:
    page = ScriptedPage(blank, [[completed("a"), BREAK], [CLOSING]], [acknowledged("b")])
    page.join()
    assert page.follow() == "broken off"
    assert page.follow() == CLOSING
    assert page.streams_asked_for == 2


def test_a_refusal_reaches_gradio_as_it_is(blank: Page) -> None:
    page = ScriptedPage(blank, [404, [CLOSING]], [[503, {"detail": "Queue is full."}]])
    assert page.join() == 503
    assert page.follow() == 404
    assert page.follow() == CLOSING


def test_a_server_that_is_gone_when_asked_again_is_told_as_a_broken_stream(blank: Page) -> None:
    page = ScriptedPage(blank, [[CLOSING], 502], [acknowledged("a")])
    page.join()
    assert page.follow() == "The event stream is refused: 502"


def test_a_page_that_closes_the_stream_itself_asks_for_no_other(blank: Page) -> None:
    page = ScriptedPage(blank, [[CLOSING], [completed("a"), CLOSING]], [acknowledged("a")])
    page.join()
    assert "aborted" in str(page.follow(stop_at_once=True))
    assert page.streams_asked_for == 1
    assert page.follow() == completed("a") + CLOSING
    assert page.streams_asked_for == 2
