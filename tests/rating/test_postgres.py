"""What only a database that lets writers overlap can show: two requests for one trial at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from db import Database, Dimension, Language, Preference, Side, TrialState, queries
from rating import record
from rating.errors import PairInUse, WrongState
from rating.run import ChatModel
from rating.trial import RatingView, move
from tests.db import rows
from tests.db.postgres import running_server
from tests.rating.conftest import ANN, Stage, entries

RATING = RatingView({(s, d): 3 for s in Side for d in Dimension}, Preference.TIE, "")


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with running_server() as server:
        opened = Database.open(server.new_database().url)
        yield opened
        opened.close()


def rate(database: Database, trial_id: str, rater_id: str) -> bool:
    """Rate as a page does; return whether it was saved."""
    with database.write() as session:
        trial = queries.load_trial(session, trial_id, rater_id, for_update=True)
        assert trial is not None
        try:
            record.save_rating(trial, RATING)
        except WrongState:
            return False
    return True


def test_a_trial_that_is_left_and_rated_at_once_is_one_of_both(database: Database) -> None:
    with database.write() as session:
        trial = rows.trial(state=TrialState.RATEABLE)
        for side in Side:
            rows.answer(
                turn=rows.turn(trial=trial) if side is Side.LEFT else trial.turns[0], side=side
            )
        session.add(trial)
    with ThreadPoolExecutor(1) as other_tab:
        with database.write() as session:
            before = queries.latest_trial(session, trial.rater_id, for_update=True)
            assert before is not None
            saving = other_tab.submit(rate, database, trial.id, trial.rater_id)
            with pytest.raises(TimeoutError):
                saving.result(0.5)
            move(before, TrialState.ABANDONED)
        saved = saving.result(30)
    with database.read() as session:
        found = queries.load_trial(session, trial.id, trial.rater_id)
        assert found is not None
        assert (saved, found.rating is None) == (False, True)
        assert found.state is TrialState.ABANDONED


def leave(database: Database, rater_id: str) -> None:
    """What the beginning of a new trial locks."""
    with database.write() as session:
        queries.ensure_rater(session, rater_id, Language.EN)
        queries.latest_trial(session, rater_id, for_update=True)


def test_who_saves_a_rating_is_not_stopped_by_a_new_trial_of_theirs(database: Database) -> None:
    with database.write() as session:
        trial = rows.trial(state=TrialState.RATEABLE)
        turn = rows.turn(trial=trial)
        session.add_all([trial, *(rows.answer(turn=turn, side=side) for side in Side)])
    with ThreadPoolExecutor(1) as other_tab:
        with database.write() as session:
            rated = queries.load_trial(session, trial.id, trial.rater_id, for_update=True)
            assert rated is not None
            leaving = other_tab.submit(leave, database, trial.rater_id)
            with pytest.raises(TimeoutError):
                leaving.result(0.5)
            record.save_rating(rated, RATING)
        leaving.result(30)


async def test_a_whole_trial_goes_as_on_sqlite(stage: Stage) -> None:
    assert await stage.panel.current(ANN) is None
    trial = (await stage.panel.new_trial(ANN)).id
    last = (await stage.ask(trial))[-1]
    assert last.state is TrialState.RATEABLE
    assert await stage.panel.current(ANN) == last
    await stage.panel.save_draft(ANN, trial, {"comment": "so far"})
    saved = await stage.panel.rate(ANN, trial, entries())
    assert saved.state is TrialState.REVEALED
    assert (await stage.panel.new_trial(ANN)).id != trial


async def test_a_pair_in_use_keeps_its_models_as_on_sqlite(stage: Stage) -> None:
    first, second = stage.models.values()

    async def exchange() -> tuple[ChatModel, ChatModel]:
        return first, second

    await stage.panel.change_models(exchange)
    trial = (await stage.panel.new_trial(ANN)).id
    await stage.ask(trial)
    with pytest.raises(PairInUse):
        await stage.panel.change_models(exchange)
    await stage.panel.rate(ANN, trial, entries())
    await stage.panel.change_models(exchange)
