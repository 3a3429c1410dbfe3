"""What sessions ask of PostgreSQL: raters who come at once, counts, the end."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from db import Database, Language, session_queries
from rating.errors import NothingToRate
from rating.session import Panel, Visitor
from rating.sessions import giving
from rating.sessions.sessions import Sessions
from tests.db.postgres import running_server
from tests.rating.conftest import Stage
from tests.rating.fake_models import FakeModel
from tests.rating.sessions.conftest import MODELS, Room, prompt


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with running_server() as server:
        opened = Database.open(server.new_database().url)
        yield opened
        opened.close()


@pytest.fixture
async def room(database: Database) -> AsyncIterator[Room]:
    models = {key: FakeModel(key) for key in MODELS}
    async with AsyncExitStack() as stack:
        for model in models.values():
            await stack.enter_async_context(model.serving())
        first, second = models.values()
        panel = Panel(database, (first, second), blind=True)
        stack.push_async_callback(panel.close)
        yield Room(Stage(database, models, panel), Sessions(database))


async def test_raters_who_come_at_once_get_different_prompts_and_all_is_counted(
    room: Room,
) -> None:
    session = room.open(*map(prompt, "abcd"), raters_per_prompt=1)
    visitors = [Visitor(f"{number}" * 32, Language.EN) for number in range(4)]
    views = await asyncio.gather(*(room.stage.panel.new_trial(one) for one in visitors))
    assert len({room.assignment(view.id).prompt_id for view in views}) == 4
    for visitor in visitors:
        view = await room.rate_next(visitor)
        assert await room.stage.panel.is_blinded(visitor) is (visitor is not visitors[-1])
    assert view.session == session
    [made] = room.sessions.overviews(MODELS)
    assert (made.raters, made.rated, made.wanted) == (4, 4, 4)
    # Who had to wait for the others is through now.
    assert not await room.stage.panel.is_blinded(visitors[0])
    standing = await room.stage.panel.standing(visitors[0])
    assert standing is not None
    assert (standing.finished, len(standing.revealed)) == (True, 1)


async def test_a_session_that_closes_while_a_rater_waits_for_it_gives_nothing_more(
    room: Room,
) -> None:
    for one in room.sessions.overviews(MODELS):
        room.sessions.close(one.id)
    chosen = room.open()
    with room.database.write() as session:
        seen = giving.current_session(session, MODELS)
        assert seen is not None
        await asyncio.to_thread(room.sessions.close, chosen)
        with pytest.raises(NothingToRate) as caught:
            giving.give(session, seen.id, "e" * 32, Language.EN)
    assert caught.value.code == "session_closed"


async def test_a_prompt_that_was_given_up_is_found_by_its_flag(room: Room) -> None:
    for one in room.sessions.overviews(MODELS):
        room.sessions.close(one.id)
    session = room.open(prompt("a"), prompt("b"))
    view = await room.stage.panel.new_trial(Visitor("f" * 32, Language.ZH))
    gone = room.assignment(view.id).prompt_id
    with room.database.write() as opened:
        trial = next(t for _, t in session_queries.given_to(opened, session, "f" * 32))
        giving.give_up(trial)
    [made] = [one for one in room.sessions.overviews(MODELS) if one.id == session]
    assert (made.left_out, gone in {one.prompt_id for one in made.prompts}) == (1, False)
