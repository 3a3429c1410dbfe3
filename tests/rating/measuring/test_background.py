"""The measurement in the app: who waits for it, what is stopped meanwhile, how it ends.

What is measured is scripted here: a real measurement takes its time, and can't be told when to go
on, to fail or to hang. Panel, lineup and database are real.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from backends.backend import State
from backends.catalog import Model
from backends.lineup import Lineup
from backends.measurement import Event, Machine, Plan, Resources, Step, TimedAnswer
from backends.specs import resolve
from backends.supervisor import ModelServer, Patience
from db import MeasurementState, Side, TrialState
from rating.errors import PairInUse, TrialError
from rating.measuring.background import Measuring
from rating.measuring.measurements import Measurements
from rating.session import Panel
from tests.backends.conftest import fake_command
from tests.rating.conftest import ANN, BOB, Stage, entries, until
from tests.rating.measuring.test_measurements import unrated_trial

PLAN = Plan(models=(resolve("tiny-qwen"),), prompts=("你好",), repeats=2, together=False)
ANSWER = TimedAnswer("tiny-qwen", 1, 1, together=False, first_token_s=0.25, total_s=1.5)

Script = Sequence[Event | asyncio.Event | Exception]


@dataclass
class Scripted:
    """What a measurement finds out, waits for, or fails of; and whether it was closed."""

    script: Script = ()
    plans: list[Plan] = field(default_factory=list)
    closed: int = 0

    async def __call__(self, plan: Plan) -> AsyncGenerator[Event, None]:
        self.plans.append(plan)
        try:
            for one in self.script:
                if isinstance(one, asyncio.Event):
                    await one.wait()
                elif isinstance(one, Exception):
                    raise one
                else:
                    yield one
        finally:
            await asyncio.sleep(0)  # servers take their time to end
            self.closed += 1


@dataclass(frozen=True)
class Bench:
    """A stage whose panel may be measured."""

    stage: Stage
    lineup: Lineup
    measurements: Measurements
    measured: Scripted
    measuring: Measuring

    @property
    def states(self) -> list[State]:
        return [backend.status.state for backend in self.lineup.backends]

    async def ready(self) -> None:
        await until(lambda: self.states == [State.READY, State.READY])

    async def over(self) -> None:
        await until(lambda: self.measuring.progress is None)


@pytest.fixture
async def bench(stage: Stage) -> AsyncIterator[Bench]:
    """A panel, models of it that run, and nothing to be found out yet."""
    pair = resolve("tiny-qwen"), resolve("tiny-chatglm")
    lineup = Lineup(pair, lambda models, _: (_server(models[0]), _server(models[1])))
    measurements, measured = Measurements(stage.database), Scripted()
    measuring = Measuring(stage.panel, lineup, measurements, measured)
    await lineup.start()
    one = Bench(stage, lineup, measurements, measured, measuring)
    await one.ready()
    yield one
    await measuring.close()
    await lineup.stop()


def _server(model: Model) -> ModelServer:
    """A process that starts faster than a model does: what it answers is nothing here."""
    patience = Patience(poll_s=0.02, kill_after_s=0.5)
    return ModelServer(model, command=fake_command(), patience=patience)


def waiting(go_on: asyncio.Event) -> Script:
    """With an answer that is stored when the second step begins, and then a wait."""
    return (Step(1, 3, "answer", "tiny-qwen"), ANSWER, Step(2, 3, "answer", "tiny-qwen"), go_on)


async def refusal(attempt: object) -> str:
    with pytest.raises(TrialError) as caught:
        await attempt  # type: ignore[misc]
    return caught.value.code


async def at_work(bench: Bench, step: int = 2) -> None:
    def there() -> bool:
        progress = bench.measuring.progress
        return bool(progress and progress.step and progress.step.number == step)

    await until(there)


async def test_while_it_runs_nothing_is_begun_or_asked_and_the_models_are_stopped(
    bench: Bench,
) -> None:
    panel, go_on = bench.stage.panel, asyncio.Event()
    trial_id = (await panel.new_trial(ANN)).id
    bench.measured.script = (*waiting(go_on), Step(3, 3, "answer", "tiny-qwen"))
    await bench.measuring.start(PLAN)
    await at_work(bench)
    assert bench.states == [State.STOPPED, State.STOPPED]
    assert await refusal(panel.new_trial(BOB)) == "measuring_left"
    assert await refusal(panel.ask(ANN, trial_id, "你好")) == "measuring_left"
    assert await refusal(panel.retry(ANN, trial_id, Side)) == "measuring_left"
    assert await refusal(bench.measuring.start(PLAN)) == "measuring_left"
    go_on.set()
    await bench.over()
    await bench.ready()
    assert panel.waits_for is None
    assert (await bench.stage.ask(trial_id))[-1].state is TrialState.RATEABLE
    assert bench.measured.plans == [PLAN]
    view = await bench.measurements.latest()
    assert view is not None
    assert (view.state, view.answers) == (MeasurementState.DONE, (ANSWER,))


async def test_before_anything_is_answered_nobody_is_told_how_long_it_takes(bench: Bench) -> None:
    go_on = asyncio.Event()
    bench.measured.script = (Step(1, 3, "prepare", "tiny-qwen"), go_on)
    await bench.measuring.start(PLAN)
    assert bench.measuring.progress is not None
    assert await refusal(bench.stage.panel.new_trial(BOB)) == "measuring"
    await at_work(bench, step=1)
    assert bench.measuring.progress.left_s is None
    assert await refusal(bench.stage.panel.new_trial(BOB)) == "measuring"


async def test_how_long_it_takes_is_judged_by_the_steps_that_are_done(bench: Bench) -> None:
    go_on, last = asyncio.Event(), asyncio.Event()
    answers = (Step(number, 4, "answer", "tiny-qwen") for number in (1, 2, 3, 4))
    first, second, third, fourth = answers
    bench.measured.script = (first, go_on, second, third, fourth, last)
    await bench.measuring.start(PLAN)
    await at_work(bench, step=1)
    await asyncio.sleep(0.3)
    go_on.set()
    await at_work(bench, step=4)
    progress = bench.measuring.progress
    assert progress is not None
    assert progress.left_s is not None
    assert 0.1 <= progress.left_s < 2  # three steps took 0.3 s and a little
    waits_for = bench.stage.panel.waits_for
    assert waits_for is not None
    assert waits_for.details == {"minutes": 1}


async def test_stop_ends_it_keeps_what_was_measured_and_starts_the_models_again(
    bench: Bench,
) -> None:
    bench.measured.script = waiting(asyncio.Event())
    await bench.measuring.start(PLAN)
    await at_work(bench)
    bench.measuring.stop()
    bench.measuring.stop()  # impatience changes nothing
    await bench.over()
    await bench.ready()
    assert bench.measured.closed == 1
    assert bench.measuring.trouble == ""
    view = await bench.measurements.latest()
    assert view is not None
    assert (view.state, view.answers) == (MeasurementState.STOPPED, (ANSWER,))
    await bench.stage.panel.new_trial(BOB)


async def test_stop_before_it_has_begun_measures_nothing(bench: Bench) -> None:
    await bench.measuring.start(PLAN)
    bench.measuring.stop()
    await bench.over()
    await bench.ready()
    assert bench.measured.plans == []


async def test_stop_without_a_measurement_does_nothing(bench: Bench) -> None:
    bench.measuring.stop()
    assert bench.states == [State.READY, State.READY]


async def test_a_measurement_that_breaks_is_said_to_have_and_everything_goes_on(
    bench: Bench,
) -> None:
    bench.measured.script = (ANSWER, RuntimeError("a defect"))
    await bench.measuring.start(PLAN)
    await bench.over()
    await bench.ready()
    assert bench.measuring.trouble == "measure_broken"
    view = await bench.measurements.latest()
    assert view is not None
    assert (view.state, view.answers) == (MeasurementState.FAILED, (ANSWER,))
    bench.measured.script = ()
    await bench.measuring.start(PLAN)
    assert bench.measuring.trouble == ""
    await bench.over()


async def test_two_never_measure_into_one_database_at_once(bench: Bench) -> None:
    go_on = asyncio.Event()
    bench.measured.script = waiting(go_on)
    await bench.measuring.start(PLAN)
    await at_work(bench)
    panel = bench.stage.another_panel()
    other = Measuring(panel, bench.lineup, bench.measurements, Scripted((ANSWER,)))
    await other.start(PLAN)
    await until(lambda: other.progress is None)
    assert other.trouble == "measured_elsewhere"
    assert panel.waits_for is None


async def test_while_another_process_measures_nothing_is_begun_or_asked(bench: Bench) -> None:
    stage, never = bench.stage, asyncio.Event()
    first, second = stage.models.values()
    panel = Panel(
        stage.database, (first, second), blind=True, measured=bench.measurements.under_way
    )
    trial_id = (await panel.new_trial(BOB)).id
    elsewhere = Measurements(stage.database)
    machine = Machine("a CPU", 2, 8_000_000_000, "Linux", {})
    async with aclosing(elsewhere.run(PLAN, Scripted((ANSWER, never))(PLAN), machine)) as running:
        await anext(running)
        assert await refusal(panel.ask(BOB, trial_id, "你好")) == "measuring"
        assert await refusal(panel.new_trial(BOB)) == "measuring"
    assert panel.waits_for is None


async def test_who_rates_is_not_disturbed(bench: Bench) -> None:
    trial_id = await bench.stage.rateable_trial()
    with pytest.raises(PairInUse):
        await bench.measuring.start(PLAN)
    assert bench.measuring.progress is None
    assert bench.states == [State.READY, State.READY]
    await bench.stage.panel.rate(ANN, trial_id, entries())
    await bench.measuring.start(PLAN)
    await bench.over()


async def test_who_rates_another_pair_in_a_copy_of_the_app_is_not_disturbed(bench: Bench) -> None:
    unrated_trial(bench.stage.database, pair="a|b", left_model="a", right_model="b")
    with pytest.raises(PairInUse):
        await bench.measuring.start(PLAN)
    assert bench.stage.panel.waits_for is None
    await bench.measuring.start(PLAN, force=True)
    await bench.over()


async def test_forced_it_stops_what_is_being_answered_and_takes_ratings_all_the_same(
    bench: Bench,
) -> None:
    stage, go_on, never = bench.stage, asyncio.Event(), asyncio.Event()
    rateable = await stage.rateable_trial(ANN)
    asked, left, _ = await stage.new_trial(BOB)
    left.script = ["好", never]
    await stage.panel.ask(BOB, asked, "你好")
    await until(lambda: bool(left.requests))
    bench.measured.script = waiting(go_on)
    await bench.measuring.start(PLAN, force=True)
    await at_work(bench)
    view = await stage.panel.current(BOB)
    assert view is not None
    assert Side.LEFT in view.to_retry
    assert (await stage.panel.rate(ANN, rateable, entries())).reveal is not None
    assert await refusal(stage.panel.retry(BOB, asked, Side)) == "measuring_left"
    go_on.set()
    await bench.over()
    left.script = ["好"]
    await stage.panel.retry(BOB, asked, view.to_retry)
    await until(lambda: stage.stored(asked, BOB).state is TrialState.RATEABLE)


async def test_the_end_of_the_app_ends_it_and_starts_no_model_again(bench: Bench) -> None:
    bench.measured.script = waiting(asyncio.Event())
    await bench.measuring.start(PLAN)
    await at_work(bench)
    await bench.measuring.close()
    assert bench.measured.closed == 1
    assert bench.states == [State.STOPPED, State.STOPPED]
    view = await bench.measurements.latest()
    assert view is not None
    assert view.state is MeasurementState.STOPPED


async def test_its_figures_are_there_while_it_goes_on(bench: Bench) -> None:
    go_on = asyncio.Event()
    taken = Resources("tiny-qwen", together=False, peak_bytes=5)
    bench.measured.script = (ANSWER, taken, Step(3, 3, "answer", "tiny-qwen"), go_on)
    await bench.measuring.start(PLAN)
    await at_work(bench, step=3)
    view = await bench.measurements.latest()
    assert view is not None
    assert bench.measuring.progress is not None
    assert view.id == bench.measuring.progress.measurement_id
    assert (view.state, view.models) == (MeasurementState.RUNNING, (taken,))
