"""The models of a panel are exchanged while raters are about: who is asked, refused and kept."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from db import Answer, Side, Trial, TrialState, Turn, utc_now
from rating.errors import PairInUse, TrialError, WrongState
from rating.run import ChatModel
from rating.session import IN_USE_MIN, Panel
from tests.rating.conftest import ANN, BOB, PAIR, Stage, entries, until
from tests.rating.fake_models import DIE, FakeModel

Models = tuple[ChatModel, ChatModel]

OTHER_PAIR = "alpha|beta"


def others() -> tuple[FakeModel, FakeModel]:
    return FakeModel("beta"), FakeModel("alpha")


def exchange_to(models: Models) -> Callable[[], Awaitable[Models]]:
    async def exchange() -> Models:
        await asyncio.sleep(0)
        return models

    return exchange


async def in_use(stage: Stage) -> int:
    """How many trials keep the models from being exchanged."""
    with pytest.raises(PairInUse) as caught:
        await stage.panel.change_models(exchange_to(others()))
    return int(str(caught.value.details["count"]))


def age(stage: Stage, trial_id: str, minutes: float) -> None:
    """Let all that was done in the trial lie back that long."""
    then = utc_now() - timedelta(minutes=minutes)
    with stage.database.write() as session:
        session.execute(update(Trial).where(Trial.id == trial_id).values(updated_at=then))
        for answer in session.scalars(select(Answer).join(Turn).where(Turn.trial_id == trial_id)):
            answer.started_at = then
            answer.finished_at = then if answer.finish_reason else None


async def refusal(attempt: Awaitable[object]) -> str:
    with pytest.raises(TrialError) as caught:
        await attempt
    return caught.value.code


async def test_new_trials_ask_the_new_models_and_hide_their_names(stage: Stage) -> None:
    first, second = others()
    async with first.serving(), second.serving():
        first.script = ["我是beta。"]
        await stage.panel.change_models(exchange_to((first, second)))
        assert [model.key for model in stage.panel.models] == ["alpha", "beta"]
        view = await stage.panel.new_trial(ANN)
        *_, last = await stage.ask(view.id)
        assert stage.stored(view.id).pair == OTHER_PAIR
        assert len(first.requests) == len(second.requests) == 1
        assert {answer.model_key for answer in stage.answers(view.id)} == {"alpha", "beta"}
        assert last.state is TrialState.RATEABLE
        assert (await stage.panel.rate(ANN, view.id, entries())).reveal is not None


async def test_a_trial_that_is_being_answered_keeps_its_models(stage: Stage) -> None:
    trial_id, left, _ = await stage.new_trial()
    go_on = asyncio.Event()
    left.script = ["好", go_on]
    await stage.panel.ask(ANN, trial_id, "你好")
    age(stage, trial_id, IN_USE_MIN + 1)
    assert await in_use(stage) == 1
    go_on.set()
    await until(lambda: stage.stored(trial_id).state is TrialState.RATEABLE)


async def test_trials_that_wait_for_a_rating_keep_their_models_for_half_an_hour(
    stage: Stage,
) -> None:
    trials = [await stage.rateable_trial(ANN), await stage.rateable_trial(BOB)]
    assert await in_use(stage) == 2
    age(stage, trials[0], IN_USE_MIN + 1)
    age(stage, trials[1], IN_USE_MIN - 1)
    assert await in_use(stage) == 1
    age(stage, trials[1], IN_USE_MIN + 1)
    await stage.panel.change_models(exchange_to(others()))


async def test_what_a_rater_enters_counts_as_being_there(stage: Stage) -> None:
    trial_id = await stage.rateable_trial()
    age(stage, trial_id, IN_USE_MIN + 1)
    await stage.panel.save_draft(ANN, trial_id, {"comment": "半"})
    assert await in_use(stage) == 1


async def test_a_side_that_was_asked_again_counts_as_being_there(stage: Stage) -> None:
    trial_id, left, _ = await stage.new_trial()
    left.script = [DIE]
    await stage.ask(trial_id)
    age(stage, trial_id, IN_USE_MIN + 1)
    await stage.retry(trial_id, Side.LEFT)
    assert await in_use(stage) == 1


@pytest.mark.parametrize("end", ["rated", "left for a new one", "nothing was asked"])
async def test_a_trial_that_nobody_goes_on_with_keeps_nothing(stage: Stage, end: str) -> None:
    if end != "nothing was asked":
        trial_id = await stage.rateable_trial()
    if end == "rated":
        await stage.panel.rate(ANN, trial_id, entries())
    else:
        await stage.panel.new_trial(ANN)
    await stage.panel.change_models(exchange_to(others()))
    assert [model.key for model in stage.panel.models] == ["alpha", "beta"]


async def test_trials_of_another_pair_keep_nothing(stage: Stage) -> None:
    await stage.rateable_trial(ANN)
    await stage.rateable_trial(BOB)
    before = tuple(stage.models.values())
    panel = Panel(stage.database, others(), blind=True)  # as after a start with other models
    await panel.change_models(exchange_to((before[0], before[1])))
    with pytest.raises(PairInUse):
        await panel.change_models(exchange_to(others()))


async def test_nothing_is_begun_or_asked_while_the_models_are_exchanged(stage: Stage) -> None:
    trial_id = await stage.rateable_trial()
    age(stage, trial_id, IN_USE_MIN + 1)
    exchanging, go_on = asyncio.Event(), asyncio.Event()

    async def exchange() -> Models:
        exchanging.set()
        await go_on.wait()
        return others()

    change = asyncio.create_task(stage.panel.change_models(exchange))
    await exchanging.wait()
    assert await refusal(stage.panel.new_trial(BOB)) == "pair_changing"
    assert await refusal(stage.panel.ask(BOB, None, "你好")) == "pair_changing"
    assert await refusal(stage.panel.ask(ANN, trial_id, "你好")) == "pair_changing"
    assert await refusal(stage.panel.retry(ANN, trial_id, Side)) == "pair_changing"
    assert await refusal(stage.panel.change_models(exchange_to(others()))) == "pair_changing"
    go_on.set()
    await change
    assert stage.stored((await stage.panel.new_trial(BOB)).id, BOB).pair == OTHER_PAIR


async def test_an_exchange_that_fails_leaves_the_panel_as_it_was(stage: Stage) -> None:
    async def fail() -> Models:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError):
        await stage.panel.change_models(fail)
    assert [model.key for model in stage.panel.models] == PAIR.split("|")
    trial_id = await stage.rateable_trial()
    await stage.panel.rate(ANN, trial_id, entries())
    await stage.panel.change_models(exchange_to(others()))


async def test_an_old_trial_can_be_read_and_rated_but_not_asked(stage: Stage) -> None:
    trial_id = await stage.rateable_trial()
    age(stage, trial_id, IN_USE_MIN + 1)
    before = await stage.panel.current(ANN)
    await stage.panel.change_models(exchange_to(others()))
    view = await stage.panel.current(ANN)
    assert before is not None
    assert view is not None
    assert (before.other_models, view.other_models) == (False, True)
    assert view.turns == before.turns
    assert await refusal(stage.panel.ask(ANN, trial_id, "二")) == "other_pair"
    rated = await stage.panel.rate(ANN, trial_id, entries())
    assert rated.reveal is not None
    assert {identity.model_key for identity in rated.reveal.values()} == set(PAIR.split("|"))


async def test_a_side_that_failed_before_cant_be_asked_of_another_model(stage: Stage) -> None:
    trial_id, left, _ = await stage.new_trial()
    left.script = [DIE]
    await stage.ask(trial_id)
    age(stage, trial_id, IN_USE_MIN + 1)
    await stage.panel.change_models(exchange_to(others()))
    assert await refusal(stage.panel.retry(ANN, trial_id, [Side.LEFT])) == "other_pair"
    assert len(stage.answers(trial_id)) == 2


async def test_a_trial_without_questions_gives_way_to_one_of_the_new_models(stage: Stage) -> None:
    empty = (await stage.panel.new_trial(ANN)).id
    first, second = others()
    async with first.serving(), second.serving():
        await stage.panel.change_models(exchange_to((first, second)))
        view = await stage.panel.ask(ANN, empty, "你好")
        await until(lambda: stage.stored(view.id).state is TrialState.RATEABLE)
    assert view.id != empty
    assert stage.stored(view.id).pair == OTHER_PAIR
    assert stage.stored(empty).state is TrialState.ABANDONED


async def test_an_empty_trial_of_somebody_else_is_not_given_way_to(stage: Stage) -> None:
    empty = (await stage.panel.new_trial(ANN)).id
    await stage.panel.change_models(exchange_to(others()))
    assert await refusal(stage.panel.ask(BOB, empty, "你好")) == "trial_not_found"
    assert stage.stored(empty).state is TrialState.DRAFTING


async def test_a_panel_without_trials_changes_at_once_and_back(stage: Stage) -> None:
    before = tuple(stage.models.values())
    await stage.panel.change_models(exchange_to(others()))
    await stage.panel.change_models(exchange_to((before[0], before[1])))
    with pytest.raises(WrongState):
        await stage.panel.retry(ANN, await stage.rateable_trial(), Side)
    assert [model.key for model in stage.panel.models] == PAIR.split("|")
