"""The results page's events: what is shown, what is withheld, and what leads to which trials.

The models are two endpoints that nobody serves: nothing here needs them to be there.
"""

import asyncio
import base64
import csv
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import gradio as gr
import pytest
from sqlalchemy import text
from starlette.requests import Request

from db import Database, Dimension, Language, Preference, ResultsRule, Trial, new_id
from rating.session import Panel, Visitor
from tests.db import rows
from tests.rating.rated import NOON, OTHER, TINY, rated, store
from tests.ui.conftest import lineup_of_nobody
from tests.ui.results.test_watch import counted
from ui import results
from ui.api import build as build_api
from ui.language import texts_in
from ui.operator import Operator
from ui.results.finder import Finder
from ui.visitor import COOKIE

EVERYTHING = (None, "any", "any", "", "", None, False)
NO_LIMIT = ("any", "any", "any", "")
SHOWN = ("lead", "forest", "radar", "distribution", "progress", "figures")


def request(visitor: str = "", client: str = "10.1.2.3", **asked: str) -> gr.Request:
    headers = [(b"host", b"127.0.0.1:7860"), (b"origin", b"http://127.0.0.1:7860")]
    if visitor:
        headers.append((b"cookie", f"{COOKIE}={visitor}".encode()))
    scope = {
        "type": "http",
        "scheme": "http",
        "path": "/",
        "headers": headers,
        "client": (client, 5),
        "query_string": urlencode(asked).encode(),
    }
    return gr.Request(request=Request(scope), session_hash="x")


OPERATOR = request(client="127.0.0.1")
STRANGER = request()


@dataclass(frozen=True)
class Pages:
    """The page and the programming interface, and what they have behind them."""

    blocks: gr.Blocks
    panel: Panel
    database: Database

    async def call(self, name: str, *given: Any) -> Any:
        for one in self.blocks.fns.values():
            if one.fn is not None and getattr(one.fn, "__qualname__", "").endswith(f".{name}"):
                result = one.fn(*given)
                return await result if asyncio.iscoroutine(result) else result
        raise LookupError(name)

    async def show(self, who: gr.Request, *, entries: tuple[Any, ...] = EVERYTHING) -> Any:
        return dict(zip(SHOWN, await self.call("show", *entries, who), strict=True))

    async def trials(self, who: gr.Request, *about: Any, pair: str | None = None) -> list[str]:
        """The first prompts of the trials that are listed."""
        given = (pair, *EVERYTHING[1:], *(about or NO_LIMIT), who)
        return re.findall(r"<summary>.*? · (.*)</summary>", await self.call("list_trials", *given))

    async def trials_of(self, query: str) -> list[str]:
        """The same, of those that an address on the page leads to."""
        asked = dict(parse_qsl(unescape(query)))
        opened = await self.call("open", request(**asked))
        given = [one["value"] if isinstance(one, dict) else one for one in opened[3:]]
        listed = await self.call("list_trials", *given, STRANGER)
        return re.findall(r"<summary>.*? · (.*)</summary>", listed)


@pytest.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Pages]:
    database = Database.open(f"sqlite:///{tmp_path}/twopane.db")
    lineup = lineup_of_nobody("Hidden-Qwen", "Hidden-ChatGLM")
    panel, operator = Panel(database, lineup.backends, blind=True), Operator(None)
    with gr.Blocks() as blocks:
        finder = Finder(database)
        build_api(panel, finder, operator)
        results.build(blocks, panel, finder, operator)
    yield Pages(blocks, panel, database)
    await panel.close()
    database.close()


def words(name: str, **values: object) -> str:
    return texts_in(Language.EN)(name, **values)


def content_of(made: str) -> str:
    """What the browser would save."""
    _, address = json.loads(made)
    return base64.b64decode(address.partition(",")[2]).decode()


def many(models: tuple[str, str] = TINY, **changes: Any) -> list[Trial]:
    """Trials of eight prompts: the second model is plainly better."""
    return [
        rated(
            models,
            left=n % 2,
            scores=(2, 4 + n % 2),
            prompt=f"prompt {n}",
            preference=Preference.LEFT if n % 2 else Preference.RIGHT,
            rated_at=NOON + timedelta(hours=n),
            **changes,
        )
        for n in range(8)
    ]


def in_session(rule: ResultsRule, trials: list[Trial]) -> list[Any]:
    session = rows.rating_session(results=rule, models=list(OTHER))
    return [
        rows.assignment(trial=trial, session=session, prompt_id=str(n))
        for n, trial in enumerate(trials)
    ]


# --- what is shown --------------------------------------------------------------------------------


async def test_without_ratings_the_page_says_so_and_draws_nothing(pages: Pages) -> None:
    shown = await pages.show(STRANGER)
    assert words("summary_empty") in shown["lead"]
    assert [shown[name]["visible"] for name in SHOWN[1:5]] == [False] * 4
    assert shown["figures"] == ""
    assert await pages.call("list_trials", *EVERYTHING, *NO_LIMIT, STRANGER) == ""


async def test_verdicts_stand_first_and_charts_and_figures_follow(pages: Pages) -> None:
    store(pages.database, *many())
    shown = await pages.show(STRANGER)
    assert "tiny-qwen is better than tiny-chatglm" in shown["lead"]
    assert words("tiny_notice") in shown["lead"].replace("&#39;", "'")
    assert [shown[name]["visible"] for name in SHOWN[1:5]] == [True] * 4
    forest = shown["forest"]["value"]
    assert forest.data[0].x == (2.5,) * 5
    assert [len(trace.x) for trace in shown["progress"]["value"].data] == [3] * 5  # from 6 on
    assert shown["radar"]["value"].data[0].r == (2.0,) * 6
    fives = shown["distribution"]["value"].data[4]
    assert list(fives.customdata) == [0, 4] * 5
    assert ">4.50<" in shown["figures"]


async def test_a_careless_rating_is_left_out_until_the_switch_is_on(pages: Pages) -> None:
    hasty = rated(prompt="hasty", asked_at=NOON - timedelta(seconds=1))
    store(pages.database, *many(), hasty)
    left_out = (await pages.show(STRANGER))["lead"]
    assert "rated faster than the answers can be read: 1" in left_out
    assert words("results_count", n=8, prompts=8, raters=8) in left_out
    counted = (await pages.show(STRANGER, entries=(*EVERYTHING[:-1], True)))["lead"]
    assert words("results_count", n=9, prompts=9, raters=9) in counted
    assert words("flagged_included") in counted
    assert "hasty" in await pages.trials(STRANGER)
    assert "hasty" not in await pages.trials(STRANGER, "memory", "any", "any", "")


async def test_what_is_asked_for_in_the_address_is_chosen(pages: Pages) -> None:
    store(pages.database, *many(), *many(OTHER)[:2])
    asked = {"pair": "|".join(OTHER), "mode": "blind", "dimension": "memory", "score": "5"}
    _, _, _, pair, mode, *_, session, _, dimension, model, score, about = await pages.call(
        "open", request(**asked, model="beta@host", words="p")
    )
    assert (pair["value"], mode["value"]) == ("|".join(OTHER), "blind")
    assert (dimension["value"], model["value"], score["value"]) == ("memory", "beta@host", "5")
    assert (session["visible"], about) == (False, "p")
    nothing = {"dimension": "x", "score": "9", "model": "y", "language": "z", "flagged": "?"}
    *_, pair, _, language, _, _, _, flagged, dimension, model, score, about = await pages.call(
        "open", request(pair="<script>", **nothing)
    )
    assert pair["value"] == "|".join(TINY)
    assert [one["value"] for one in (language, dimension, model, score)] == ["any"] * 4
    assert flagged is False


@pytest.mark.parametrize(
    ("about", "found"),
    [
        (NO_LIMIT, [7, 6, 5, 4, 3, 2, 1, 0]),
        (("memory", "any", "any", ""), [7, 5, 3, 1, 6, 4, 2, 0]),
        (("memory", "tiny-qwen", "5", ""), [7, 5, 3, 1]),
        (("memory", "tiny-chatglm", "5", ""), []),
        (("any", "any", "4", ""), [6, 4, 2, 0]),
        (("any", "any", "any", "PROMPT 3"), [3]),
        (("no such", ["x"], {}, None), [7, 6, 5, 4, 3, 2, 1, 0]),
    ],
)
async def test_a_figure_leads_to_its_trials(
    pages: Pages, about: tuple[Any, ...], found: list[int]
) -> None:
    store(pages.database, *many())
    assert await pages.trials(STRANGER, *about) == [f"prompt {n}" for n in found]


async def test_every_count_of_a_score_links_to_as_many_trials(pages: Pages) -> None:
    store(pages.database, *many())
    figures = (await pages.show(STRANGER))["figures"]
    links = re.findall(r'href="\./summary\?([^"#]*score=\d)#trials">(\d+)<', figures)
    assert len(links) == 3 * len(Dimension)
    for query, count in links:
        assert len(await pages.trials_of(query)) == int(count)


@pytest.mark.parametrize("place", range(2, 7))
async def test_under_each_filter_a_figure_leads_to_the_trials_it_was_counted_from(
    pages: Pages, place: int
) -> None:
    days = [NOON + timedelta(days=day) for day in (0, 5, 9)]
    store(
        pages.database,
        *in_session(ResultsRule.ALWAYS, [rated(prompt="session", rated_at=days[1])]),
        rated(prompt="early", rated_at=days[0]),
        rated(prompt="late", rated_at=days[2]),
        rated(prompt="English", rated_at=days[1], language=Language.EN),
        rated(prompt="hasty", rated_at=days[1], asked_at=days[1] - timedelta(seconds=1)),
    )
    opened = await pages.call("open", STRANGER)
    session = opened[3 + 5]["choices"][1][1]
    values = {2: "en", 3: "2026-03-01", 4: "2026-03-05", 5: session, 6: True}
    counted = {2: 1, 3: 3, 4: 3, 5: 1, 6: 5}
    entries = (*EVERYTHING[:place], values[place], *EVERYTHING[place + 1 :])
    shown = await pages.show(STRANGER, entries=entries)
    links = re.findall(r'href="\./summary\?([^"#]*)#trials"', shown["lead"] + shown["figures"])
    assert len(links) == 5 + 5 + 10
    for query in links:
        assert len(await pages.trials_of(query)) == counted[place]


async def test_the_page_changes_when_a_rating_arrives_and_only_then(pages: Pages) -> None:
    store(pages.database, *many())
    before = [await pages.call("look", STRANGER) for _ in range(2)]
    assert before[0] == before[1]
    first = (await pages.show(STRANGER))["lead"]
    store(pages.database, rated(prompt="new", scores=(1, 5), rated_at=NOON + timedelta(days=9)))
    assert await pages.call("look", STRANGER) != before[0]
    second = (await pages.show(STRANGER))["lead"]
    assert words("results_count", n=8, prompts=8, raters=8) in first
    assert words("results_count", n=9, prompts=9, raters=9) in second


async def test_a_page_that_is_left_open_reads_no_session_and_no_trial_again(pages: Pages) -> None:
    store(pages.database, *in_session(ResultsRule.OWN_DONE, many(OTHER)))
    rater = request(rows_rater(pages.database))
    before = await pages.call("look", rater)
    with counted() as asked:
        assert await pages.call("look", rater) == before
    assert not [one for one in asked if "rating_sessions.id" in one or "FROM trials" in one]


# --- what is withheld -----------------------------------------------------------------------------


async def test_who_has_a_blind_trial_open_sees_no_answers(pages: Pages) -> None:
    rater = new_id()
    store(pages.database, *many())
    await pages.panel.ask(Visitor(rater, Language.EN), None, "你好")
    await pages.panel.close()
    shown = await pages.call("list_trials", *EVERYTHING, *NO_LIMIT, request(rater))
    assert words("trials_hidden") in shown
    assert "tp-answer" not in shown
    assert len(await pages.trials(STRANGER)) == 8


@pytest.mark.parametrize("rule", [ResultsRule.NEVER, ResultsRule.OWN_DONE, ResultsRule.CLOSED])
async def test_a_session_s_results_wait_for_its_rule_everywhere(
    pages: Pages, rule: ResultsRule
) -> None:
    store(pages.database, *in_session(rule, many(OTHER)))
    rater = request(rows_rater(pages.database))
    for who in (STRANGER, rater):
        opened = str(await pages.call("open", who))
        shown = await pages.show(who)
        report = await pages.call("make_report", *EVERYTHING, who)
        said = [opened, shown, content_of(report)]
        said += [await pages.call("summary", who), await pages.trials(who)]
        assert "alpha@host" not in str(said)
        assert words("results_hidden", n=1) in shown["lead"]
    seen = await pages.show(OPERATOR)
    assert "beta@host is better than alpha@host" in seen["lead"]
    assert (await pages.call("summary", OPERATOR))["pairs"][0]["n_trials"] == 8


def rows_rater(database: Database) -> str:
    """The id of one of the raters."""
    with database.read() as session:
        return str(session.execute(text("SELECT rater_id FROM ratings")).scalars().first())


async def test_a_session_can_be_chosen_by_whoever_may_see_it(pages: Pages) -> None:
    store(pages.database, *in_session(ResultsRule.ALWAYS, many(OTHER)), *many(OTHER)[:3])
    session = (await pages.call("open", STRANGER))[3 + 5]
    assert session["visible"] is True
    chosen = session["choices"][1][1]
    shown = await pages.show(STRANGER, entries=(*EVERYTHING[:5], chosen, False))
    assert words("results_count", n=8, prompts=8, raters=8) in shown["lead"]


async def test_no_attention_trial_and_no_repeat_is_ever_listed(pages: Pages) -> None:
    first, again, gold = (rated(prompt=name) for name in ("first", "again", "gold"))
    session = rows.rating_session(results=ResultsRule.ALWAYS)
    store(pages.database, again, gold, rows.assignment(trial=first, session=session))
    store(
        pages.database,
        rows.assignment(trial_id=gold.id, session=session, kind="attention", better="left"),
        rows.assignment(trial_id=again.id, session=session, kind="repeat", repeat_of=first.id),
    )
    assert await pages.trials(OPERATOR) == ["first"]


# --- the report -----------------------------------------------------------------------------------


async def test_the_report_is_one_file_that_fetches_nothing_and_names_no_rater(
    pages: Pages,
) -> None:
    store(pages.database, *many())
    page = content_of(await pages.call("make_report", *EVERYTHING, STRANGER))
    assert page.startswith("<!doctype html>")
    assert "tiny-qwen is better than tiny-chatglm" in page
    assert page.count("<circle") == 5
    assert not re.findall(r"<script|<link|<img|@import|url\(|href=|src=", page)
    assert "prompt 1" not in page
    with pages.database.read() as session:
        secrets = session.execute(text("SELECT id FROM raters")).scalars().all()
    assert not [secret for secret in secrets if secret in page]


async def test_the_report_of_nothing_says_so(pages: Pages) -> None:
    made = await pages.call("make_report", *EVERYTHING, STRANGER)
    assert words("report_empty") in content_of(made)


async def test_the_operator_alone_exports_ratings(pages: Pages) -> None:
    store(pages.database, *many(), rated(prompt="hasty", asked_at=NOON - timedelta(seconds=1)))
    with pytest.raises(gr.Error, match="Only whoever runs this panel"):
        await pages.call("export", *EVERYTHING, "csv", STRANGER)
    name, _ = json.loads(made := await pages.call("export", *EVERYTHING, "csv", OPERATOR))
    assert name == "twopane-ratings.csv"
    lines = content_of(made).splitlines()
    assert len(lines) == 1 + 9 * 10
    assert sum("too_fast" in line for line in lines) == 10
    opened = [(await pages.call("open", who))[2]["visible"] for who in (OPERATOR, STRANGER)]
    assert opened == [True, False]


async def test_an_export_for_spreadsheets_has_no_cell_that_is_a_formula(pages: Pages) -> None:
    store(pages.database, rated(prompt='=HYPERLINK("http://x")'))
    plain = content_of(await pages.call("export", *EVERYTHING, "csv", OPERATOR))
    safe = content_of(await pages.call("export", *EVERYTHING, "spreadsheet", OPERATOR))
    assert [text.startswith("\ufeff") for text in (plain, safe)] == [False, True]
    formulas = [
        sum(cell.startswith("=") for row in csv.reader(text.splitlines()) for cell in row)
        for text in (plain, safe)
    ]
    assert formulas == [10, 0]
    boxes = [one for one in pages.blocks.blocks.values() if isinstance(one, gr.Dropdown)]
    (formats,) = (box for box in boxes if box.elem_id == "export-format")
    assert "spreadsheet" in [value for _, value in formats.choices or ()]
