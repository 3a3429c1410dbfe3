"""The measure page's events: who may do what, what is refused, what is withheld.

The models are two endpoints that nobody serves: nothing here needs them to be there.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from sqlalchemy import text
from starlette.requests import Request

from backends.lineup import Lineup
from backends.measurement import Plan, Resources, TimedAnswer
from backends.resources import Monitor
from db import Database, Language, new_id
from rating.measuring.background import Measuring
from rating.measuring.measurements import Measurements
from rating.session import Panel, Visitor
from tests.ui.conftest import lineup_of_nobody, measure_nothing
from tests.ui.measure.measurements import stored
from ui.language import texts_in
from ui.pages import build_pages
from ui.visitor import COOKIE

NAMES = ("Hidden-Qwen", "Hidden-ChatGLM")
MODELS = ["tiny-qwen", "tiny-chatglm"]
PLAN = (MODELS, 5, True, False)
ANSWERS = (
    TimedAnswer("tiny-qwen", 1, 1, False, first_token_s=0.2, total_s=1.0),
    TimedAnswer("tiny-chatglm", 1, 1, False, first_token_s=0.4, total_s=2.0),
)
TAKEN = (
    Resources("tiny-qwen", together=False, peak_bytes=300_000_000),
    Resources("tiny-chatglm", together=False, peak_bytes=400_000_000),
)


def request(visitor: str = "", client: str = "127.0.0.1") -> gr.Request:
    headers = [(b"host", b"127.0.0.1:7860"), (b"origin", b"http://127.0.0.1:7860")]
    if visitor:
        headers.append((b"cookie", f"{COOKIE}={visitor}".encode()))
    scope = {
        "type": "http",
        "scheme": "http",
        "path": "/",
        "headers": headers,
        "client": (client, 5),
    }
    return gr.Request(request=Request(scope), session_hash="x")


OPERATOR = request()
STRANGER = request(client="10.1.2.3")


@dataclass(frozen=True)
class Pages:
    """The pages, and what they have behind them."""

    blocks: gr.Blocks
    panel: Panel
    lineup: Lineup
    measuring: Measuring
    monitor: Monitor
    database: Database

    def event(self, name: str, module: str = "ui.measure.page") -> Callable[..., Any]:
        """What the page calls on an event of that name."""
        for one in self.blocks.fns.values():
            found = (getattr(one.fn, "__module__", ""), getattr(one.fn, "__qualname__", ""))
            if one.fn is not None and found == (module, f"_Events.{name}"):
                return one.fn
        raise LookupError(name)

    async def call(self, name: str, *given: Any) -> Any:
        result = self.event(name)(*given)
        return await result if asyncio.iscoroutine(result) else result

    async def results(self, name: str, *given: Any) -> Any:
        return await self.event(name, "ui.measure.results")(*given)

    async def refusal(self, name: str, *given: Any) -> str:
        with pytest.raises(gr.Error) as caught:
            await self.call(name, *given)
        return str(caught.value.message)

    def is_measuring(self) -> bool:
        return self.measuring.progress is not None

    def is_stopping(self) -> bool:
        return self.measuring.progress is not None and self.measuring.progress.stopping

    def plan(self) -> Plan:
        """What is being measured."""
        assert self.measuring.progress is not None
        return self.measuring.progress.plan

    async def blind_trial_of(self, visitor: str) -> None:
        """Leave a rater with a blind trial that waits; its answers have failed, all the same."""
        await self.panel.ask(Visitor(visitor, Language.EN), None, "你好")
        await self.panel.close()


@pytest.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Pages]:
    database = Database.open(f"sqlite:///{tmp_path}/twopane.db")
    lineup = lineup_of_nobody(*NAMES)
    panel = Panel(database, lineup.backends, blind=True)
    measuring = Measuring(panel, lineup, Measurements(database), measure_nothing)
    monitor = Monitor(lineup)
    blocks = build_pages(panel, database, lineup, measuring, monitor)
    yield Pages(blocks, panel, lineup, measuring, monitor, database)
    await measuring.close()
    await lineup.stop()
    database.close()


def words(name: str, **values: object) -> str:
    return texts_in(Language.EN)(name, **values)


# --- who may do what ------------------------------------------------------------------------------


async def test_only_the_operator_begins_and_stops_a_measurement(pages: Pages) -> None:
    assert await pages.refusal("start", *PLAN, STRANGER) == words("operator_only")
    assert await pages.refusal("stop", STRANGER) == words("operator_only")
    assert not pages.is_measuring()
    await pages.call("start", *PLAN, OPERATOR)
    plan = pages.plan()
    assert [model.key for model in plan.models] == MODELS
    assert (plan.repeats, plan.together) == (5, True)
    await pages.call("stop", OPERATOR)
    assert pages.is_stopping()


async def test_only_the_operator_sees_how_far_it_is_and_what_is_taken(pages: Pages) -> None:
    await pages.monitor.read()
    await pages.call("start", *PLAN, OPERATOR)
    progress, live, start, stop, phase = await pages.call("look", OPERATOR)
    assert words("step_making_room") in progress
    assert words("the_app") in live
    assert (start["interactive"], stop["interactive"]) == (False, True)
    assert phase == "open"
    progress, live, *_ = await pages.call("look", STRANGER)
    assert (progress, live) == ("", "")


async def test_the_operator_is_offered_the_loaded_models_and_others_nothing(pages: Pages) -> None:
    *_, setup, timer, models = await pages.call("open", OPERATOR)
    assert setup["visible"] is True
    assert timer["active"] is True
    assert models["value"] == [backend.model.spec for backend in pages.lineup.backends]
    assert {"tiny-qwen", "chatglm-6b-int4"} < set(models["choices"])
    *_, setup, timer, models = await pages.call("open", STRANGER)
    assert setup["visible"] is False
    assert timer["active"] is False
    assert (models["choices"], models["value"]) == ([], [])


async def test_who_has_a_blind_trial_open_sees_nothing_of_it(pages: Pages) -> None:
    rater = new_id()
    await stored(pages.measuring.measurements, ANSWERS, TAKEN)
    await pages.blind_trial_of(rater)
    who = request(rater)
    shown = [
        await pages.call("open", who),
        await pages.call("look", who),
        await pages.results("list_all", who),
    ]
    view = await pages.measuring.measurements.latest()
    assert view is not None
    shown.append(await pages.results("show", view.id, 0, 0, 0, who))
    shown.append(await pages.results("advise", view.id, 0, 0, 0, who))
    said = str(shown).lower()
    assert not [hidden for hidden in ("qwen", "chatglm", " mb", "plotly") if hidden in said]
    assert words("models_hidden") in shown[1][0]
    assert await pages.refusal("start", *PLAN, who) == words("models_hidden")
    seen = await pages.results("show", view.id, 0, 0, 0, STRANGER)
    assert "tiny-chatglm" in seen[0]


async def test_raters_at_a_trial_are_not_disturbed_unless_it_is_forced(pages: Pages) -> None:
    await pages.blind_trial_of(new_id())
    refused = await pages.refusal("start", *PLAN, OPERATOR)
    assert refused == words("pair_in_use", count=1, minutes=30)
    await pages.call("start", MODELS, 5, True, True, OPERATOR)
    assert pages.is_measuring()


# --- what can't be measured -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("models", "repeats", "refused"),
    [
        ([], 5, words("choose_models")),
        (None, 5, words("choose_models")),
        ("tiny-qwen", 5, words("choose_models")),
        (["tiny-qwen"] * 2, 5, words("same_model_twice", model="tiny-qwen")),
        ([f"http://h/v1#{n}" for n in range(5)], 5, words("too_many_models", most=4)),
        (MODELS, 0, words("bad_repeats", most=100)),
        (MODELS, 101, words("bad_repeats", most=100)),
        (MODELS, 2.5, words("bad_repeats", most=100)),
        (MODELS, None, words("bad_repeats", most=100)),
        (MODELS, float("nan"), words("bad_repeats", most=100)),
        (MODELS, "5", words("bad_repeats", most=100)),
    ],
)
async def test_what_can_t_be_measured_is_refused_with_what_to_do(
    pages: Pages, models: object, repeats: object, refused: str
) -> None:
    assert await pages.refusal("start", models, repeats, True, False, OPERATOR) == refused
    assert not pages.is_measuring()


async def test_an_unknown_model_is_refused_with_those_that_are_known(pages: Pages) -> None:
    refused = await pages.refusal("start", ["no-such-model"], 5, True, False, OPERATOR)
    assert "'no-such-model' is no model that Twopane knows" in refused


async def test_a_whole_number_may_come_as_the_browser_sends_it(pages: Pages) -> None:
    await pages.call("start", MODELS, 3.0, False, False, OPERATOR)
    assert pages.plan().repeats == 3
    assert pages.plan().together is False


# --- results --------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", ["x", "\0", "\ud800", None, ["x"], {"a": 1}])
async def test_a_measurement_that_is_none_shows_nothing(pages: Pages, chosen: object) -> None:
    await stored(pages.measuring.measurements, ANSWERS, TAKEN)
    tables, *_ = await pages.results("show", chosen, 0, 0, 0, STRANGER)
    assert "<table" not in tables
    assert (await pages.results("advise", chosen, 0, 0, 0, STRANGER))[0] == ""


async def test_before_anything_is_measured_the_page_says_how_to(pages: Pages) -> None:
    offered = await pages.results("list_all", STRANGER)
    assert (offered["choices"], offered["visible"]) == ([], False)
    tables, *_, choice, advice, scatter = await pages.results("show", None, 0, 0, 0, STRANGER)
    assert words("measure_empty") in tables.replace("&#39;", "'")
    assert choice["visible"] is scatter["visible"] is False
    assert advice == ""


async def test_what_was_measured_shows_and_limits_change_the_advice(pages: Pages) -> None:
    await stored(pages.measuring.measurements, ANSWERS, TAKEN)
    offered = await pages.results("list_all", STRANGER)
    [(label, measurement)] = offered["choices"]
    assert "tiny-qwen · tiny-chatglm" in label
    assert offered["value"] == measurement
    tables, latency, first, memory, choice, advice, scatter = await pages.results(
        "show", measurement, 0, 0, 0, STRANGER
    )
    assert "300 MB" in tables
    assert latency["visible"] is first["visible"] is memory["visible"] is choice["visible"] is True
    assert scatter["visible"] is False  # nobody has rated them
    assert words("no_points") in advice
    verdict, _ = await pages.results("advise", measurement, 0.35, 0, 0, STRANGER)
    assert "Take tiny-qwen: of the models measured" in verdict
    verdict, _ = await pages.results("advise", measurement, 0.1, None, 0, STRANGER)
    assert "No model keeps to the limits" in verdict


async def test_the_newest_measurement_with_figures_is_chosen(pages: Pages) -> None:
    first = await stored(pages.measuring.measurements, ANSWERS, TAKEN)
    second = await stored(pages.measuring.measurements, ANSWERS, TAKEN)
    await stored(pages.measuring.measurements, (), ())
    offered = await pages.results("list_all", STRANGER)
    assert [value for _, value in offered["choices"]] == [second, first]
    assert (offered["value"], offered["visible"]) == (second, True)


@pytest.mark.parametrize("limit", [-1, float("nan"), float("inf"), "much"])
async def test_a_limit_that_is_none_is_told(pages: Pages, limit: object) -> None:
    measurement = await stored(pages.measuring.measurements, ANSWERS, TAKEN)
    with pytest.raises(gr.Error) as caught:
        await pages.results("advise", measurement, limit, 0, 0, STRANGER)
    assert "is no limit" in str(caught.value.message)


@pytest.mark.parametrize(
    ("event", "module", "given"),
    [
        ("open", "ui.measure.page", ()),
        ("look", "ui.measure.page", ()),
        ("start", "ui.measure.page", PLAN),
        ("list_all", "ui.measure.results", ()),
        ("show", "ui.measure.results", ("x", 0, 0, 0)),
        ("advise", "ui.measure.results", ("x", 0, 0, 0)),
    ],
)
async def test_an_event_that_fails_says_so_in_the_visitor_s_language(
    pages: Pages, event: str, module: str, given: tuple[Any, ...]
) -> None:
    with pages.database.write() as session:
        session.execute(text("DROP TABLE trials"))
    with pytest.raises(gr.Error) as caught:
        await pages.event(event, module)(*given, OPERATOR)
    assert caught.value.message == words("unexpected")
