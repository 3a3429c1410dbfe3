"""What a browser sees of two models, one ten times as fast, doesn't tell which is which.

Both fakes say the same, so that nothing but time could tell them apart. Each arrangement is played
once, as one conversation of four turns; the tests look at what was seen of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from benchmarks.app_process import running
from db import Database, Language, Rater, Side, new_id
from rating.assignment import pair_key, swapped
from tests.e2e.compare_page import ComparePage, Frame
from tests.e2e.conftest import RunningApp
from tests.e2e.fake_model import FakeModel, running_fake_model
from tests.e2e.recording import Recording, recording
from tests.e2e.visits import Contexts, Visits
from ui.visitor import COOKIE

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LONG = "春眠不觉晓处处闻啼鸟夜来风雨声花落知多少" * 3
SHORT = LONG[:30]
SLOW_PIECES_PER_S = 25.0
SLOW_FIRST_S = 0.6

Update = tuple[int, int]
"""How many characters of the left and of the right answer one event of the stream brought."""


@dataclass(frozen=True)
class Seen:
    """What the browser saw while the quick model was on `quick_side`."""

    quick_side: Side
    equal: list[Frame]
    updates: list[Update]
    quick_says_more: list[Frame]
    slow_says_more: list[Frame]
    left_again: list[Frame]


@pytest.fixture(scope="module")
def seen(contexts: Contexts, folder: Path) -> Iterator[list[Seen]]:
    """Both arrangements, in an app of its own: how long its models took so far matters."""
    url = f"sqlite:///{folder}/timing.db"
    visits = Visits(contexts)
    with running_fake_model("quick") as quick, running_fake_model("slow") as slow:
        options = ("--left", quick.spec, "--right", slow.spec, "--database-url", url)
        with running(folder / "timing.log", *options) as process, recording(process.port) as proxy:
            process.wait_ready()
            app = RunningApp(process, url, (quick, slow))
            yield [play(app, proxy, visits, model) for model in app.models]
    visits.end()


def play(app: RunningApp, proxy: Recording, visits: Visits, on_the_left: FakeModel) -> Seen:
    rater = rater_with_left(app, on_the_left)
    page = ComparePage(visits.open(proxy.url, {COOKIE: rater})).wait_loaded()
    proxy.exchanges.clear()
    equal = asked(page, app, 1, LONG, LONG)
    updates = [update_of(e) for e in proxy.events() if e["msg"] == "process_generating"]
    return Seen(
        quick_side=Side.LEFT if on_the_left is app.models[0] else Side.RIGHT,
        equal=equal,
        updates=updates,
        quick_says_more=asked(page, app, 2, LONG, SHORT),
        slow_says_more=asked(page, app, 3, SHORT, LONG),
        left_again=asked_again(page, app, 4),
    )


def rater_with_left(app: RunningApp, model: FakeModel) -> str:
    """Make a rater whose first trial has that model on the left."""
    pair = pair_key(*(each.key for each in app.models))
    wanted = pair.split("|").index(model.key) == 1
    seed = next(seed for seed in range(100) if swapped(seed, pair, 0) == wanted)
    rater_id = new_id()
    database = Database.open(app.database_url)
    with database.write() as session:
        session.add(Rater(id=rater_id, language=Language.EN, side_seed=seed))
    database.close()
    return rater_id


def asked(
    page: ComparePage, app: RunningApp, turn: int, quick_text: str, slow_text: str
) -> list[Frame]:
    """Ask, and return what the panes showed until both answers were complete."""
    speak(app, quick_text, slow_text)
    page.watch_panes(turn)
    page.ask("说吧")
    page.wait_rateable(turn)
    return page.frames()


def asked_again(page: ComparePage, app: RunningApp, turn: int) -> list[Frame]:
    """Stop before anything has come, and return what was shown of the left side asked again."""
    speak(app, LONG, LONG)
    page.ask("说吧")
    page.stop_button.click()
    page.retry_button(Side.LEFT).wait_for()
    page.watch_panes(turn)
    page.retry_button(Side.LEFT).click()
    expect(page.answers(Side.LEFT)).to_have_count(turn)
    expect(page.answers(Side.LEFT).last).to_have_text(LONG)
    return page.frames()


def speak(app: RunningApp, quick_text: str, slow_text: str) -> None:
    quick, slow = app.models
    quick.says(quick_text, pieces_per_s=10 * SLOW_PIECES_PER_S, first_s=SLOW_FIRST_S / 10)
    slow.says(slow_text, pieces_per_s=SLOW_PIECES_PER_S, first_s=SLOW_FIRST_S)


def update_of(event: dict[str, Any]) -> Update:
    _, left, right, *_ = event["output"]["data"]
    return added(left), added(right)


def added(change: Any) -> int:
    """Return how many characters of an answer a change of one pane brings."""
    if isinstance(change, dict):
        return 0 if change["role"] == "user" else len(change["content"][0]["text"])
    if change and isinstance(change[0], str):  # ["append", path, text] or ["add", path, message]
        return added(change[2]) if isinstance(change[2], dict) else len(change[2])
    return sum(map(added, change))


def growth(frames: list[Frame], side: Side) -> float:
    """Characters a second between the first and the last growth of one side."""
    lengths = [(frame.at_s, getattr(frame, side)) for frame in frames]
    growing = [now for before, now in pairwise(lengths) if now[1] > before[1]]
    (first_s, first), (last_s, last) = growing[0], growing[-1]
    return float((last - first) / (last_s - first_s))


def test_both_panes_start_together_and_are_equally_long_in_every_frame(seen: list[Seen]) -> None:
    for each in seen:
        assert [frame for frame in each.equal if frame.left != frame.right] == []
        assert each.equal[0].left == 0
        assert each.equal[-1].left == len(LONG)
        assert len(each.equal) > 10  # it does stream


def test_each_update_on_the_wire_brings_both_panes_equally_much(seen: list[Seen]) -> None:
    for each in seen:
        assert [update for update in each.updates if update[0] != update[1]] == []
        assert sum(left for left, _ in each.updates) == len(LONG)


def test_the_longer_answer_goes_on_at_the_pace_of_both(seen: list[Seen]) -> None:
    for each in seen:
        slow_side = next(side for side in Side if side is not each.quick_side)
        for frames, longer_side in (
            (each.quick_says_more, each.quick_side),
            (each.slow_says_more, slow_side),
        ):
            together = [f for f in frames if min(f.left, f.right) < len(SHORT)]
            alone = [f for f in frames if max(f.left, f.right) > len(SHORT)]
            assert [frame for frame in together if frame.left != frame.right] == []
            assert growth(alone, longer_side) < 2 * growth(together, longer_side)


def test_a_side_asked_again_comes_at_the_same_pace_whichever_model_it_is(seen: list[Seen]) -> None:
    growths = [growth(each.left_again, Side.LEFT) for each in seen]
    assert max(growths) < 1.5 * min(growths)
    for each in seen:
        start = next(frame for frame in each.left_again if frame.left)
        assert start.at_s - each.left_again[0].at_s > SLOW_FIRST_S / 2  # held back, if quick
