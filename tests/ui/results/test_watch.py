"""A page that is left open must cost next to nothing, and still notice all that changes it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from db import Database, RatingSession, ResultsRule, SessionState, TrialState, utc_now
from tests.db import rows
from tests.rating.rated import NOON, rated, store
from tests.rating.test_results_rule import PROMPTS, give, session_of
from ui.results.watch import Watch


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(f"sqlite:///{tmp_path}/twopane.db")
    yield database
    database.close()


@contextmanager
def counted() -> Iterator[list[str]]:
    """Collect what the database is asked."""
    asked: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", count)
    yield asked
    event.remove(Engine, "before_cursor_execute", count)


def test_looking_again_asks_for_no_session_and_no_trial(database: Database) -> None:
    ann = rows.rater()
    prompts = rows.prompt_set(prompts=PROMPTS)
    for _ in range(5):
        session = session_of(ResultsRule.OWN_DONE, prompt_set=prompts)
        give(database, session, "p1", rater=ann)
    watch = Watch(database)
    with counted() as asked:
        before = watch.look(ann.id, operator=False)
        first = len(asked)
        assert watch.look(ann.id, operator=False) == before
    again = [one for one in asked[first:] if "FROM" in one]
    assert len(again) == 2
    assert not [one for one in again if "trials" in one or "count(" not in one]


def test_a_rating_that_ends_a_session_for_its_rater_changes_what_they_are_told(
    database: Database,
) -> None:
    session, watch = session_of(ResultsRule.OWN_DONE), Watch(database)
    ann, bob = rows.rater(), rows.rater()
    give(database, session, "p1", rater=ann)
    assert [watch.look(one.id, operator=False)[-1] for one in (ann, bob)] == ["1", "1"]
    give(database, session, "p2", rater=ann)
    assert [watch.look(one.id, operator=False)[-1] for one in (ann, bob)] == ["0", "1"]
    assert watch.look(bob.id, operator=True)[-1] == "0"


def test_a_session_that_is_made_or_closed_changes_what_visitors_are_told(
    database: Database,
) -> None:
    watch = Watch(database)
    assert watch.look("f" * 32, operator=False)[-1] == "0"
    give(database, session := session_of(ResultsRule.CLOSED), "p1")
    assert watch.look("f" * 32, operator=False)[-1] == "1"
    with database.write() as writing:
        stored = writing.get_one(RatingSession, session.id)
        stored.state, stored.closed_at = SessionState.CLOSED, utc_now()
    assert watch.look("f" * 32, operator=False)[-1] == "0"


def test_what_neither_rating_nor_session_tells_is_noticed_a_little_later(
    database: Database,
) -> None:
    clock, session, ann = Clock(), session_of(ResultsRule.OWN_DONE), rows.rater()
    watch = Watch(database, clock)
    give(database, session, "p1", rater=ann)
    give(database, session, "p2", rater=ann)
    assert watch.look(ann.id, operator=False)[-1] == "0"
    give(database, session, "p2", rater=ann, state=TrialState.RATEABLE)
    clock.now_s = 61
    assert watch.look(ann.id, operator=False)[-1] == "1"


def test_every_new_rating_changes_what_visitors_are_told(database: Database) -> None:
    watch = Watch(database)
    told = {watch.look("f" * 32, operator=False)}
    for day in range(3):
        store(database, rated(rated_at=NOON + timedelta(days=day)))
        told.add(watch.look("f" * 32, operator=False))
    assert len(told) == 4
