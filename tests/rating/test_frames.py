import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest

from db import Answer, Database, Dimension, Language, Preference, Score, Side, Trial, public_name
from db.queries import Filters
from rating.frames import SCORES, fitting, long_scores, ratings_frame
from tests.db import rows
from tests.db.conftest import postgres, shared_postgres
from tests.rating.rated import NOON, OTHER, TINY, rated, store

__all__ = ["postgres", "shared_postgres"]  # fixtures

COLUMNS = {
    *("trial", "rater", "session", "prompt", "pair", "left_model", "right_model", "blind"),
    *("language", "kind", "repeat_of", "better", "preference", "guess", "n_turns", "rated_at"),
    *("rating_s", "ready_s", "left_chars", "right_chars", "flags"),
    *(f"{side}_{key}" for side in Side for key in Dimension),
}


def only(database: Database, filters: Filters | None = None) -> dict[str, Any]:
    """The one row of the frame."""
    frame = ratings_frame(database, filters or Filters())
    (row,) = frame.to_dict("records")
    return {str(name): value for name, value in row.items()}


def long_conversation() -> Trial:
    """Two turns; the second one's left side was asked twice."""
    trial = rated(
        OTHER,
        left=1,
        scores=(2, None),
        preference=Preference.BOTH_BAD,
        guess=Side.RIGHT,
        blind=False,
        language=Language.EN,
        flags=["masked"],
        rater=rows.rater(pseudonym="P7"),
    )
    turn = rows.turn(trial=trial, position=2, prompt="再来", prompt_id=None)
    late = NOON - timedelta(seconds=20)
    rows.answer(turn=turn, side=Side.LEFT, attempt=1, text="不算", finished_at=NOON)
    rows.answer(turn=turn, side=Side.LEFT, attempt=2, text="四个字啊", finished_at=late)
    rows.answer(turn=turn, side=Side.RIGHT, text="六个字在这里", finished_at=late)
    return trial


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest, database: Database) -> Iterator[Database]:
    """A database of each kind, to be emptied afterwards where it is shared."""
    if request.param == "sqlite":
        yield database
        return
    shared: Database = request.getfixturevalue("shared_postgres")
    yield shared
    with shared.write() as session:
        from db import Base  # noqa: PLC0415

        for table in reversed(Base.metadata.sorted_tables):
            session.execute(table.delete())


def test_an_empty_database_gives_a_frame_without_rows_and_with_all_columns(
    database: Database,
) -> None:
    frame = ratings_frame(database, Filters())
    assert (len(frame), set(frame.columns)) == (0, COLUMNS)
    assert len(fitting(frame, Filters(pair="a|b", since=NOON))) == 0


def test_a_row_says_all_of_a_rated_trial(either: Database) -> None:
    trial = long_conversation()
    store(either, trial)
    row = only(either)
    assert set(row) == COLUMNS
    assert (row["trial"], row["pair"]) == (trial.id, "alpha@host|beta@host")
    assert (row["left_model"], row["right_model"]) == ("beta@host", "alpha@host")
    assert row["rater"] == "P7"
    assert (row["blind"], row["language"], row["n_turns"]) == (False, "en", 2)
    assert (row["preference"], row["guess"]) == ("both_bad", "right")
    assert (row["prompt"], row["kind"]) == ("你好", "regular")
    assert [row[name] for name in ("session", "repeat_of", "better")] == [None, None, None]
    assert row["flags"] == ("masked",)
    assert row["rated_at"] == pd.Timestamp(NOON)
    assert (row["rating_s"], row["ready_s"]) == (120.0, 20.0)
    assert (row["left_chars"], row["right_chars"]) == (3 + 4, 3 + 6)
    assert row["right_memory"] == 2
    assert math.isnan(row["left_memory"])


def test_what_a_session_gave_out_is_known_by_its_prompt_s_id(either: Database) -> None:
    first, again = rated(prompt_id="other"), rated(rated_at=NOON + timedelta(hours=1))
    session = rows.rating_session()
    store(either, first, again, rows.assignment(trial=first, session=session, prompt_id="p1"))
    store(
        either,
        rows.assignment(
            *(), trial=again, session=session, prompt_id="p1", kind="repeat", repeat_of=first.id
        ),
    )
    frame = ratings_frame(either, Filters())
    assert list(frame["trial"]) == [again.id, first.id]
    assert list(frame["prompt"]) == ["p1", "p1"]
    assert list(frame["kind"]) == ["repeat", "regular"]
    assert list(frame["session"]) == [session.id, session.id]
    assert frame["repeat_of"].iloc[0] == first.id
    assert frame["repeat_of"].isna().iloc[1]


def test_each_score_stands_in_its_own_column(database: Database) -> None:
    trial = rated()
    assert trial.rating is not None
    given: dict[tuple[Side, Dimension], int | None] = {}
    for number, side in enumerate(Side):
        for place, key in enumerate(Dimension):
            given[side, key] = None if (number, place) == (1, 2) else 1 + (place + 2 * number) % 5
    trial.rating.scores = [Score(side=s, dimension=d, score=n) for (s, d), n in given.items()]
    store(database, trial)
    row = only(database)
    found = {(side, key): row[SCORES[key][side]] for side in Side for key in Dimension}
    assert {who: None if math.isnan(n) else n for who, n in found.items()} == given


def test_a_rater_is_known_by_a_pseudonym_alone(database: Database) -> None:
    trial = rated()
    store(database, trial)
    frame = ratings_frame(database, Filters())
    assert list(frame["rater"]) == [public_name(trial.rater_id)]
    assert trial.rater_id not in frame.to_csv()


def test_a_prompt_of_a_set_is_known_by_its_id_another_by_its_words(database: Database) -> None:
    store(database, rated(prompt="你好！", prompt_id="hello"), rated(prompt="再见。"))
    assert set(ratings_frame(database, Filters())["prompt"]) == {"hello", "再见。"}


def test_what_was_never_asked_here_has_no_times_and_no_lengths(database: Database) -> None:
    trial = rated(asked_at=NOON + timedelta(days=1))  # imported a day after it was rated
    trial.turns[0].answers.clear()
    store(database, trial)
    row = only(database)
    assert all(math.isnan(row[n]) for n in ("rating_s", "ready_s", "left_chars", "right_chars"))
    assert row["n_turns"] == 1


def test_trials_that_are_not_rated_are_no_rows_however_many_answers_they_have(
    database: Database,
) -> None:
    begun = rows.trial(state="rateable")
    turn = rows.turn(trial=begun)
    answers = [rows.answer(turn=turn, side=side) for side in Side]
    store(database, *answers, rated())
    assert isinstance(answers[0], Answer)
    assert len(ratings_frame(database, Filters())) == 1


def test_the_newest_rating_comes_first(database: Database) -> None:
    hours = [3, 1, 2]
    store(database, *(rated(prompt=str(h), rated_at=NOON + timedelta(hours=h)) for h in hours))
    assert list(ratings_frame(database, Filters())["prompt"]) == ["3", "2", "1"]


def every_filter(session: str) -> list[Filters]:
    moment = timedelta(microseconds=1)
    none = Filters()
    return [
        none,
        replace(none, pair="|".join(OTHER)),
        replace(none, pair="no|such"),
        replace(none, blind=True),
        replace(none, blind=False),
        replace(none, language=Language.EN),
        replace(none, since=NOON),
        replace(none, since=NOON + moment),
        replace(none, until=NOON),
        replace(none, until=NOON + moment),
        replace(none, session=session),
        replace(none, session="no such"),
        replace(none, hidden_sessions=frozenset({session})),
        replace(none, session=session, hidden_sessions=frozenset({session})),
        replace(none, blind=True, pair="|".join(TINY), since=NOON, session=session),
    ]


def test_rows_are_chosen_from_a_frame_as_the_database_would_choose_them(either: Database) -> None:
    in_session = rated()
    session = rows.rating_session()
    store(
        either,
        in_session,
        long_conversation(),
        rated(blind=False, rated_at=NOON + timedelta(microseconds=1)),
        rated(OTHER, language=Language.EN, rated_at=NOON - timedelta(days=1)),
        rows.assignment(trial=in_session, session=session),
    )
    everything = ratings_frame(either, Filters())
    assert len(everything) == 4
    sizes = []
    for filters in every_filter(session.id):
        read = ratings_frame(either, filters)
        chosen = fitting(everything, filters).reset_index(drop=True)
        plain = [one.astype(object).where(one.notna(), None) for one in (read, chosen)]
        assert plain[0].to_dict("records") == plain[1].to_dict("records")
        sizes.append(len(read))
    assert sizes == [4, 2, 0, 2, 2, 2, 3, 1, 1, 3, 1, 0, 3, 0, 1]


def test_long_scores_belong_to_the_model_not_to_the_side(database: Database) -> None:
    store(database, rated(left=0, scores=(5, 1)), rated(left=1, scores=(5, 1)))
    scores = long_scores(ratings_frame(database, Filters()))
    assert len(scores) == 2 * 2 * 5
    assert scores.groupby("model")["score"].unique().map(list).to_dict() == {
        "tiny-chatglm": [5.0],
        "tiny-qwen": [1.0],
    }
