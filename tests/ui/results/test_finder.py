"""Reading all ratings for who looks at results must keep no rater's save waiting."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import gradio as gr
import pandas as pd
import pytest
from sqlalchemy import Engine, event

from db import Database
from db.queries import Filters
from rating.measuring.measurements import Measurements
from tests.rating.rated import rated, store
from tests.ui.conftest import lineup_of_nobody, pages_over
from tests.ui.measure.measurements import stored
from tests.ui.measure.test_page import ANSWERS, TAKEN
from tests.ui.results.test_page import EVERYTHING, NO_LIMIT, STRANGER
from ui.results.finder import Finder

THREADS = 4
"""Of the pool that everything shares which waits for the database."""


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    database = Database.open(f"sqlite:///{tmp_path}/twopane.db")
    yield database
    database.close()


@dataclass(frozen=True)
class Gate:
    """Stops who reads all scores until it is opened."""

    reached: Event
    opened: Event

    async def closed_on_somebody(self) -> None:
        assert await asyncio.get_running_loop().run_in_executor(
            ThreadPoolExecutor(1), self.reached.wait, 20
        )


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate(Event(), Event())

    def wait(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM scores" in statement and not gate.opened.is_set():
            gate.reached.set()
            gate.opened.wait(20)

    event.listen(Engine, "before_cursor_execute", wait)
    yield gate
    gate.opened.set()
    event.remove(Engine, "before_cursor_execute", wait)


def event_of(blocks: gr.Blocks, module: str, name: str) -> Any:
    for one in blocks.fns.values():
        found = (getattr(one.fn, "__module__", ""), getattr(one.fn, "__name__", ""))
        if found == (module, name):
            return one.fn
    raise LookupError(name)


@pytest.mark.parametrize(
    ("module", "name", "given"),
    [
        ("ui.results.page", "show", EVERYTHING),
        ("ui.results.page", "list_trials", (*EVERYTHING, *NO_LIMIT)),
        ("ui.results.page", "make_report", EVERYTHING),
        ("ui.api", "summary", ()),
        ("ui.measure.results", "advise", (None, 0, 0, 0)),
    ],
)
async def test_however_many_look_at_results_the_threads_that_save_ratings_stay_free(
    database: Database, gate: Gate, module: str, name: str, given: tuple[Any, ...]
) -> None:
    store(database, rated())
    if module == "ui.measure.results":
        given = (await stored(Measurements(database), ANSWERS, TAKEN), *given[1:])
    blocks = pages_over(database, lineup_of_nobody("Hidden-Qwen", "Hidden-ChatGLM"))
    asked = event_of(blocks, module, name)
    where = (STRANGER, *given) if name == "summary" else (*given, STRANGER)
    waiting = [asyncio.create_task(asked(*where)) for _ in range(3 * THREADS)]
    await gate.closed_on_somebody()
    try:
        async with asyncio.timeout(5):
            await asyncio.gather(*(asyncio.to_thread(int) for _ in range(3 * THREADS)))
        assert not any(one.done() for one in waiting)
    finally:
        gate.opened.set()
        await asyncio.gather(*waiting)


async def test_who_leaves_is_no_longer_worked_for(database: Database, gate: Gate) -> None:
    finder, done = Finder(database), list[int]()
    first, second = (
        asyncio.create_task(finder.apply(lambda rated: done.append(len(rated)))) for _ in range(2)
    )
    await gate.closed_on_somebody()
    second.cancel()
    await asyncio.sleep(0)
    gate.opened.set()
    await first
    assert await finder.apply(len) == 0
    assert done == [0]


async def test_what_is_kept_has_no_rows_and_an_end(database: Database) -> None:
    store(database, rated(), rated())
    finder = Finder(database)
    everything = await finder.find(Filters(), include_flagged=False)
    assert await finder.find(Filters(), include_flagged=False) is everything
    kept = [everything.pairs[0].__dict__, everything.__dict__]
    assert not [value for one in kept for value in one.values() if isinstance(value, pd.DataFrame)]
    for n in range(40):
        await finder.find(Filters(session=f"{n}"), include_flagged=False)
    assert await finder.find(Filters(), include_flagged=False) is not everything
