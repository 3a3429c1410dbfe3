"""Frequent questions: answered again from the database, marked, bounded, and never in the way."""

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, text

from backends.catalog import Sampling
from backends.client import Message, Piece
from db import (
    Answer,
    Base,
    CachedAnswer,
    Database,
    FinishReason,
    Side,
    TrialState,
    queries,
)
from rating import record
from rating.answer_cache import AnswerCache, CacheLimits, identify
from rating.blinding import MASK
from rating.run import Outcome, Question, Recordable
from rating.session import Panel
from rating.trial import AnswerStatus, Timing, TrialView
from tests.db.postgres import running_server
from tests.rating.conftest import ANN, BOB, Stage, entries, until
from tests.rating.fake_models import DIE, FakeModel, Script, spoken

PROMPT = "解释一下什么是机器学习？"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Database]:
    with running_server() as server:
        opened = Database.open(server.new_database().url)
        yield opened
        opened.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, migrated_file: Path, tmp_path: Path
) -> Iterator[Database]:
    """Both databases: every test here is about what they keep."""
    if request.param == "sqlite":
        opened = Database.open(f"sqlite:///{shutil.copy(migrated_file, tmp_path)}")
        yield opened
        opened.close()
        return
    shared: Database = request.getfixturevalue("postgres")
    yield shared
    with shared.write() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(delete(table))


Open = Callable[..., Stage]


@pytest.fixture
async def opened(stage: Stage) -> AsyncIterator[Open]:
    """Opens further panels over the same models, with a cache."""
    panels: list[Panel] = []

    def open_panel(
        *, blind: bool = False, also_in_blind: bool = False, at_once: bool = False
    ) -> Stage:
        first, second = stage.models.values()
        cache = AnswerCache(stage.database, blind=also_in_blind, at_once=at_once)
        panels.append(Panel(stage.database, (first, second), blind=blind, cache=cache))
        return replace(stage, panel=panels[-1])

    yield open_panel
    for panel in panels:
        await panel.close()


def kept(database: Database) -> list[CachedAnswer]:
    with database.read() as session:
        return list(session.scalars(select(CachedAnswer).order_by(CachedAnswer.text)))


async def asked(stage: Stage, prompt: str = PROMPT) -> tuple[str, list[TrialView]]:
    """Ask in a new trial; return its id and what was shown."""
    trial_id = (await stage.panel.new_trial(ANN)).id
    return trial_id, await stage.ask(trial_id, prompt)


async def asked_and_kept(stage: Stage, prompt: str = PROMPT) -> str:
    """Ask in a new trial whose answers aren't known, and wait until they are kept."""
    before = len(kept(stage.database))
    trial_id, _ = await asked(stage, prompt)
    await until(lambda: len(kept(stage.database)) == before + 2)
    return trial_id


def requests(stage: Stage) -> int:
    return sum(len(model.requests) for model in stage.models.values())


def by_model(stage: Stage, trial_id: str) -> dict[str, Answer]:
    return {answer.model_key: answer for answer in stage.answers(trial_id)}


# --- a hit ----------------------------------------------------------------------------------------


async def test_a_question_that_was_asked_before_is_not_put_to_the_models_again(
    opened: Open,
) -> None:
    stage = opened()
    for model in stage.models.values():
        model.script = ["春眠", 0.05, f"不觉晓，{model.model.key}"]
    first = by_model(stage, await asked_and_kept(stage))
    for model in stage.models.values():
        model.script = ["别的话"]
    trial_id, views = await asked(stage)
    assert requests(stage) == 2
    assert views[-1].state is TrialState.RATEABLE
    again = by_model(stage, trial_id)
    for key, answer in again.items():
        assert answer.raw_text == answer.text == f"春眠不觉晓，{key}"
        assert (answer.cached, first[key].cached) == (True, False)
        assert answer.finish_reason is FinishReason.STOP
        assert (answer.prompt_tokens, answer.completion_tokens) == (7, 2)
        assert answer.first_token_s == first[key].first_token_s
        assert answer.total_s == first[key].total_s
        assert answer.seed == answer.settings["seed"] == first[key].seed
    assert [row.hits for row in kept(stage.database)] == [1, 1]


async def test_the_next_turn_is_another_question_and_is_known_by_the_whole_conversation(
    opened: Open,
) -> None:
    stage = opened(at_once=True)
    trial_id = await asked_and_kept(stage)
    await stage.ask(trial_id, "再说一遍")
    await until(lambda: len(kept(stage.database)) == 4)
    assert requests(stage) == 4
    trial_id, _ = await asked(stage)
    await stage.ask(trial_id, "再说一遍")
    assert requests(stage) == 4
    assert [answer.cached for answer in stage.answers(trial_id)] == [True] * 4
    await asked_and_kept(stage, "再说一遍")  # the same words without the turn before them
    assert requests(stage) == 6


async def test_an_answer_cut_off_at_its_limit_comes_back_as_that(opened: Open) -> None:
    stage = opened()
    for model in stage.models.values():
        model.finish = "length"
    await asked_and_kept(stage)
    trial_id, _ = await asked(stage)
    assert {answer.finish_reason for answer in stage.answers(trial_id)} == {FinishReason.LENGTH}


@pytest.mark.parametrize("words", [["👍🏽", "é\u200d", "\r\n\t"], ["\ud83d", "\udc4d好"], ["a\0b"]])
async def test_every_character_comes_back_as_it_was_shown(opened: Open, words: list[str]) -> None:
    stage = opened()
    for model in stage.models.values():
        model.script = words
    first = stage.answers(await asked_and_kept(stage))
    trial_id, _ = await asked(stage)
    again = stage.answers(trial_id)
    assert requests(stage) == 2
    assert {answer.raw_text for answer in again} == {answer.raw_text for answer in first}


async def test_a_cached_answer_has_its_mark_and_the_speed_of_its_recording_from_the_start(
    opened: Open,
) -> None:
    stage = opened()
    for model in stage.models.values():
        model.script = ["一", 0.2, "二", 0.2, "三"]
    first_id = await asked_and_kept(stage)
    recorded = dict(zip(Side, stage.answers(first_id), strict=True))
    first = await stage.panel.current(ANN)
    assert first is not None
    assert [answer.cached for answer in first.turns[0].answers.values()] == [False, False]
    _, views = await asked(stage)
    shown = [view.turns[0].answers for view in views if view.turns[0].answers[Side.LEFT].text]
    assert len({answers[Side.LEFT].text for answers in shown}) > 1
    for answers in shown:
        for side, answer in answers.items():
            assert answer.cached
            assert answer.timing is not None
            assert answer.timing.total_s == recorded[side].total_s
            assert answer.timing.completion_tokens == 3
    assert shown[-1][Side.LEFT].text == "一二三"
    assert shown[-1][Side.LEFT].status is AnswerStatus.COMPLETE


async def seconds_of(stage: Stage) -> float:
    begun = time.perf_counter()
    await asked(stage)
    return time.perf_counter() - begun


async def test_it_comes_as_fast_as_it_once_came_or_at_once(opened: Open) -> None:
    recorded, at_once = opened(), opened(at_once=True)
    for model in recorded.models.values():
        model.script = [0.3, "一", 0.3, "二", 0.3]
    await asked_and_kept(recorded)
    for model in recorded.models.values():
        model.script = ["快"]
    assert await seconds_of(recorded) >= 0.9
    assert await seconds_of(at_once) < 0.9
    assert requests(recorded) == 2


async def test_a_replay_can_be_stopped_and_then_tells_no_times_and_the_recording_stays(
    opened: Open,
) -> None:
    stage = opened()
    for model in stage.models.values():
        model.script = ["一", 0.4, "二"]
    await asked_and_kept(stage)
    trial_id = (await stage.panel.ask(ANN, None, PROMPT)).id
    async for view in stage.panel.watch(ANN, trial_id):
        if all(answer.text == "一" for answer in view.turns[0].answers.values()):
            await stage.panel.stop(ANN, trial_id)
    for answer in stage.answers(trial_id):
        assert (answer.finish_reason, answer.cached) == (FinishReason.STOPPED, True)
        assert answer.raw_text == "一"
        assert (answer.first_token_s, answer.total_s, answer.completion_tokens) == (None,) * 3
    await stage.retry(trial_id, *Side)
    assert {answer.raw_text for answer in stage.answers(trial_id)[2:]} == {"一二"}
    assert requests(stage) == 2


async def test_replays_count_for_no_usual_pace(opened: Open) -> None:
    stage = opened(at_once=True)
    await asked_and_kept(stage)
    with stage.database.read() as session:
        before = record.usual_pace(session, stage.models)
    assert before is not None
    for _ in range(3):
        await asked(stage)
    with stage.database.read() as session:
        for key in stage.models:
            assert len(queries.recent_timings(session, key, limit=20)) == 1
        assert record.usual_pace(session, stage.models) == before


# --- what makes a question another one ------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A question, for variations of it."""

    model: FakeModel
    question: Question


@pytest.fixture
def asking() -> Asked:
    model = FakeModel("tiny-qwen")
    messages = [Message("user", "你好"), Message("assistant", "好"), Message("user", "再见")]
    return Asked(model, Question(Side.LEFT, 1, model, messages, Sampling(seed=1)))


def key_of(question: Question) -> str:
    found = identify(question)
    assert found is not None
    return found.key


OTHER_SAMPLING: dict[str, Any] = {
    "temperature": 0.71,
    "top_p": 0.9,
    "top_k": None,
    "max_tokens": 256,
    "repetition_penalty": 1.1,
}


def test_every_sampling_setting_but_the_seed_makes_another_question(asking: Asked) -> None:
    sampling = asking.question.sampling
    assert set(OTHER_SAMPLING) | {"seed"} == set(vars(sampling))
    keys = {
        key_of(replace(asking.question, sampling=replace(sampling, **{name: value})))
        for name, value in OTHER_SAMPLING.items()
    }
    assert len(keys | {key_of(asking.question)}) == len(OTHER_SAMPLING) + 1


def test_the_seed_and_the_side_make_no_other_question(asking: Asked) -> None:
    other = replace(asking.question, side=Side.RIGHT, answer_id=2, sampling=Sampling(seed=2))
    assert key_of(other) == key_of(asking.question)
    assert identify(other) == Recordable(key_of(other), seed=2)


@pytest.mark.parametrize(
    "messages",
    [
        [Message("user", "再见")],
        [Message("user", "你好"), Message("assistant", "好"), Message("user", "再见 ")],
        [Message("user", "你好"), Message("assistant", "好。"), Message("user", "再见")],
        [Message("user", "你好"), Message("user", "好"), Message("user", "再见")],
        [Message("system", "好"), Message("user", "你好"), Message("user", "再见")],
        [Message("user", "你好好"), Message("assistant", ""), Message("user", "再见")],
    ],
)
def test_any_other_conversation_is_another_question(asking: Asked, messages: list[Message]) -> None:
    assert key_of(replace(asking.question, messages=messages)) != key_of(asking.question)


def test_another_model_or_revision_makes_another_question(asking: Asked) -> None:
    model, found = asking.model.model, {key_of(asking.question)}
    for other in (replace(model, key="tiny-chatglm"), replace(model, revision="another")):
        asking.model.model = other
        found.add(key_of(asking.question))
    assert len(found) == 3


def test_another_precision_makes_another_question(asking: Asked) -> None:
    before = key_of(asking.question)
    asking.model.precision = "int4"
    assert key_of(asking.question) != before


def without_precision(model: FakeModel) -> None:
    model.precision = ""


def without_revision(model: FakeModel) -> None:
    model.model = replace(model.model, revision="")


def elsewhere(model: FakeModel) -> None:
    model.model = replace(model.model, endpoint_url="http://127.0.0.1:1/v1", revision="remote")


@pytest.mark.parametrize("unknown", [without_precision, without_revision, elsewhere])
async def test_what_can_not_be_told_apart_later_is_never_kept(
    opened: Open, unknown: Callable[[FakeModel], None]
) -> None:
    stage = opened()
    for model in stage.models.values():
        unknown(model)
    for _ in range(2):
        await asked(stage)
    await stage.panel.close()  # nothing is under way any more
    assert requests(stage) == 4
    assert kept(stage.database) == []


async def test_a_model_loaded_in_another_precision_is_asked_anew(opened: Open) -> None:
    stage = opened()
    await asked_and_kept(stage)
    for model in stage.models.values():
        model.precision = "int4"
    await asked_and_kept(stage)
    assert requests(stage) == 4
    assert len(kept(stage.database)) == 4


async def test_an_answer_during_which_the_model_became_another_is_not_kept(opened: Open) -> None:
    stage, go_on = opened(), asyncio.Event()
    for model in stage.models.values():
        model.script = ["一", go_on, "二"]
    trial_id = (await stage.panel.ask(ANN, None, PROMPT)).id
    await until(lambda: requests(stage) == 2)
    for model in stage.models.values():
        model.model = replace(model.model, revision="started anew")
    go_on.set()
    await stage.watched(trial_id)
    await stage.panel.close()
    assert kept(stage.database) == []


# --- only whole answers ---------------------------------------------------------------------------


@pytest.mark.parametrize("script", [["半", DIE], [" ", "\n"], [DIE]])
async def test_an_answer_that_failed_is_not_kept(
    opened: Open, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    stage = opened()
    for model in stage.models.values():
        model.script = script
    await asked(stage)
    await stage.panel.close()
    assert kept(stage.database) == []
    assert "cache" not in caplog.text  # the schema needn't refuse it


async def stopped(stage: Stage) -> dict[str, Answer]:
    """Ask, stop as soon as both panes show something, and return what was recorded."""
    trial_id = (await stage.panel.ask(ANN, None, PROMPT)).id
    async for view in stage.panel.watch(ANN, trial_id):
        if all(answer.text for answer in view.turns[0].answers.values()):
            await stage.panel.stop(ANN, trial_id)
    await stage.panel.close()
    return by_model(stage, trial_id)


@pytest.mark.parametrize("blind", [False, True])
async def test_an_answer_that_was_stopped_is_not_kept(
    opened: Open, blind: bool, caplog: pytest.LogCaptureFixture
) -> None:
    stage = opened(blind=blind, also_in_blind=True)
    for model in stage.models.values():
        model.script = ["一", asyncio.Event()]
    answers = await stopped(stage)
    assert {answer.finish_reason for answer in answers.values()} == {FinishReason.STOPPED}
    assert kept(stage.database) == []
    assert "cache" not in caplog.text


async def test_an_answer_is_stopped_even_if_only_the_screen_was_behind(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    stage = opened(blind=True, also_in_blind=True)
    quick, slow = stage.models.values()
    quick.script, slow.script = ["快" * 500], [0.2, "慢", asyncio.Event()]
    answers = await stopped(stage)
    assert answers[quick.model.key].raw_text == "快" * 500
    assert kept(stage.database) == []
    assert "cache" not in caplog.text


# --- bounds ---------------------------------------------------------------------------------------


def outcome(key: str, words: str = "好", seed: int = 1) -> Outcome:
    return Outcome(
        side=Side.LEFT,
        answer_id=1,
        text=words,
        raw_text=words,
        reason=FinishReason.STOP,
        error=None,
        timing=Timing(0.5, 2.5, 7, 9),
        masked=False,
        pieces=(Piece(words, 0.5),),
        recordable=Recordable(key, seed),
    )


def keys(database: Database) -> set[str]:
    return {row.key for row in kept(database)}


async def test_of_more_answers_than_may_be_kept_the_longest_unused_go(database: Database) -> None:
    cache = AnswerCache(database, CacheLimits(entries=3))
    for key in ("a", "b", "c"):
        await cache.keep([outcome(key)])
    await cache.find("a")
    await cache.keep([outcome("d"), outcome("e")])
    assert keys(database) == {"a", "d", "e"}


async def test_of_more_bytes_than_may_be_kept_the_longest_unused_go(database: Database) -> None:
    cache = AnswerCache(database, CacheLimits(size_bytes=700))
    for key in ("a", "b", "c"):
        await cache.keep([outcome(key, "好" * 100)])  # 300 bytes and some for the times
    assert keys(database) == {"b", "c"}
    assert sum(row.size_bytes for row in kept(database)) <= 700
    await cache.keep([outcome("d", "好" * 180)])
    assert keys(database) == {"d"}


async def test_an_answer_larger_than_all_may_be_is_not_kept_and_costs_no_other(
    database: Database,
) -> None:
    cache = AnswerCache(database, CacheLimits(size_bytes=700))
    await cache.keep([outcome("a")])
    await cache.keep([outcome("b", "好" * 300)])
    assert keys(database) == {"a"}


async def test_a_smaller_bound_holds_from_the_next_answer_on(database: Database) -> None:
    await AnswerCache(database).keep([outcome(str(number)) for number in range(20)])
    await AnswerCache(database, CacheLimits(entries=2)).keep([outcome("new")])
    assert len(keys(database)) == 2
    assert "new" in keys(database)


async def test_it_can_be_emptied(database: Database) -> None:
    cache = AnswerCache(database)
    await cache.keep([outcome("a"), outcome("b")])
    assert cache.empty() == 2
    assert cache.empty() == 0
    assert await cache.find("a") is None


def test_of_answers_to_one_question_that_come_at_the_same_time_one_is_kept(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    cache = AnswerCache(database, CacheLimits(entries=5))

    def keep(seed: int) -> None:
        asyncio.run(cache.keep([outcome(key, f"第{seed}个", seed) for key in ("a", "b")]))

    with ThreadPoolExecutor(8) as raters:
        list(raters.map(keep, range(16)))
    rows = {row.key: row for row in kept(database)}
    assert set(rows) == {"a", "b"}
    assert all(row.text == f"第{row.seed}个" for row in rows.values())
    assert caplog.records == []


def test_answers_that_are_kept_while_others_are_given_stay_within_the_bounds(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    cache = AnswerCache(database, CacheLimits(entries=4))

    async def visit(number: int) -> None:
        await cache.find(str((number - 1) % 8))
        await cache.keep([outcome(str(number % 8))])

    with ThreadPoolExecutor(8) as raters:
        list(raters.map(lambda number: asyncio.run(visit(number)), range(64)))
    asyncio.run(cache.keep([outcome("last")]))
    assert len(kept(database)) == 4
    assert caplog.records == []


# --- blind trials ---------------------------------------------------------------------------------


async def test_a_blind_trial_neither_takes_nor_gives_unless_that_is_asked_for(
    opened: Open,
) -> None:
    blind = opened(blind=True)
    await asked(blind)
    await blind.panel.close()
    assert kept(blind.database) == []
    await asked_and_kept(opened())
    trial_id, _ = await asked(blind)
    assert requests(blind) == 6
    assert not any(answer.cached for answer in blind.answers(trial_id))


async def test_without_a_cache_every_answer_is_a_new_one(stage: Stage) -> None:
    for _ in range(2):
        await asked(stage)
    assert requests(stage) == 4
    assert kept(stage.database) == []


async def test_a_blind_rater_learns_of_the_cache_only_with_the_names(opened: Open) -> None:
    stage = opened(blind=True, also_in_blind=True, at_once=True)
    for model in stage.models.values():
        model.script = spoken(f"我是{model.model.names[0]}。", 0.02)
    await asked_and_kept(stage)
    trial_id, views = await asked(stage)
    await stage.panel.save_draft(ANN, trial_id, entries())
    current = await stage.panel.current(ANN)
    assert current is not None
    for view in [*views, current]:
        assert "cached=True" not in repr(view)
        assert all(answer.timing is None for answer in view.turns[0].answers.values())
        for model in stage.models.values():
            assert model.model.names[0] not in repr(view)
    assert MASK in current.turns[0].answers[Side.LEFT].text
    revealed = await stage.panel.rate(ANN, trial_id, entries())
    assert all(answer.cached for answer in revealed.turns[0].answers.values())
    assert requests(stage) == 2


async def test_in_a_blind_trial_a_recording_comes_at_its_own_pace_whatever_is_set(
    opened: Open,
) -> None:
    stage = opened(blind=True, also_in_blind=True, at_once=True)
    for model in stage.models.values():
        model.script = [0.4, *spoken("春眠不觉晓", 0.1)]
    await asked_and_kept(stage)
    begun, first_s = time.perf_counter(), None
    trial_id = (await stage.panel.ask(BOB, None, PROMPT)).id
    async for view in stage.panel.watch(BOB, trial_id):
        if first_s is None and view.turns[0].answers[Side.LEFT].text:
            first_s = time.perf_counter() - begun
    assert requests(stage) == 2
    assert first_s is not None
    assert first_s >= 0.4
    assert time.perf_counter() - begun >= 0.9


# --- trouble --------------------------------------------------------------------------------------


@contextmanager
def without_the_table(database: Database) -> Iterator[None]:
    """The cache can't be used, everything else can."""
    with database.write() as session:
        session.execute(text("ALTER TABLE cached_answers RENAME TO elsewhere"))
    try:
        yield
    finally:
        with database.write() as session:
            session.execute(text("ALTER TABLE elsewhere RENAME TO cached_answers"))


async def test_a_cache_that_fails_costs_no_answer_and_says_so_in_the_log_without_a_word_of_it(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stage = opened()
    for model in stage.models.values():
        model.script = ["秘密的回答"]
    with without_the_table(stage.database):
        _, views = await asked(stage, "秘密的问题")
        await stage.panel.close()
    assert views[-1].state is TrialState.RATEABLE
    assert requests(stage) == 2
    assert "the answer cache can't be read; the model is asked" in caplog.text
    assert "answers could not be kept in the answer cache" in caplog.text
    assert "秘密" not in caplog.text


@pytest.mark.parametrize("pieces", ["[]", "[[1, 2]]", '"x"', "[[9, 0], [9, 0]]", "[1]"])
async def test_a_damaged_recording_is_not_given_and_the_model_is_asked(
    opened: Open, pieces: str, caplog: pytest.LogCaptureFixture
) -> None:
    stage = opened()
    for model in stage.models.values():
        model.script = ["春眠", "不觉晓"]
    await asked_and_kept(stage)
    with stage.database.write() as session:
        session.execute(text("UPDATE cached_answers SET pieces = :pieces"), {"pieces": pieces})
    trial_id, views = await asked(stage)
    assert views[-1].state is TrialState.RATEABLE
    assert requests(stage) == 4
    assert {answer.raw_text for answer in stage.answers(trial_id)} == {"春眠不觉晓"}
    assert "the answer cache can't be read" in caplog.text


async def test_a_model_that_is_not_there_fails_its_side_whatever_is_kept(opened: Open) -> None:
    stage = opened()
    await asked_and_kept(stage)
    for model in stage.models.values():
        model.up = False
    trial_id, _ = await asked(stage)
    assert {answer.error for answer in stage.answers(trial_id)} == {"unavailable"}
