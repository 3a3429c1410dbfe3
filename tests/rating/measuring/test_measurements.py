"""What was measured is in the database as soon as it is known, however the measurement ends."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from backends.catalog import MODELS
from backends.measurement import Event, Machine, Plan, Resources, Step, TimedAnswer
from db import Answer, Database, Language, MeasurementState, Trial, TrialState, utc_now
from rating.measuring.measurements import INTERRUPTED, Measurements, MeasurementView, NotNow
from tests.db import rows
from tests.db.postgres import running_server
from tests.paths import ROOT
from tests.rating.conftest import until

MACHINE = Machine("a CPU", 2, 8_000_000_000, "Linux", {"Python": "3.11", "torch": "2.13.0"})
PLAN = Plan((MODELS["tiny-qwen"], MODELS["tiny-chatglm"]), repeats=2)
STEP = Step(1, 9, "cold_start", "tiny-qwen")
ANSWER = TimedAnswer("tiny-qwen", 1, 1, False, 0.25, 1.5, 12, 30, 40)
TAKEN = Resources(
    "tiny-qwen",
    together=False,
    revision="1",
    precision="int8",
    threads=2,
    size_bytes=4_000_000,
    peak_bytes=2**33,
    cold_start_s=2.5,
    warm_start_s=1.5,
    cpu_share=0.9,
    disk_free_bytes=2**40,
)
DEAD = Resources("tiny-chatglm", together=False, error="was ended by SIGKILL")
FAILED = TimedAnswer("tiny-chatglm", 1, 1, together=True, error="no answer in 1800 s")


class Scripted:
    """Stands for `backends.measure.measure`, which can't be told what it finds out and when."""

    def __init__(self, *events: Event | Exception | asyncio.Event) -> None:
        self._events = events
        self.closed = False

    async def __call__(self) -> AsyncGenerator[Event, None]:
        try:
            for event in self._events:
                if isinstance(event, Exception):
                    raise event
                if isinstance(event, asyncio.Event):
                    await event.wait()
                else:
                    yield event
        finally:
            await asyncio.sleep(0)  # as ending a server takes its time
            self.closed = True


async def run(database: Database, *events: Event) -> str:
    """Run a measurement of these events to its end; return its id."""
    steps = Measurements(database).run(PLAN, Scripted(*events)(), MACHINE)
    told = [step async for step in steps]
    return str(told[0])


async def found(database: Database, measurement_id: str) -> MeasurementView:
    view = await Measurements(database).find(measurement_id)
    assert view is not None
    return view


@pytest.fixture(scope="module")
def postgres() -> Iterator[Database]:
    with running_server() as server:
        opened = Database.open(server.new_database().url)
        yield opened
        opened.close()


@pytest.mark.parametrize("kind", ["database", "postgres"])
async def test_all_that_was_measured_comes_back_as_it_was(
    request: pytest.FixtureRequest, kind: str
) -> None:
    database: Database = request.getfixturevalue(kind)
    before = utc_now()
    measurement_id = await run(database, STEP, ANSWER, TAKEN, DEAD, FAILED)
    view = await found(database, measurement_id)
    assert view.state is MeasurementState.DONE
    assert view.models == (TAKEN, DEAD)
    assert view.answers == (ANSWER, FAILED)
    assert view.machine == MACHINE
    assert view.plan.models == ("tiny-qwen", "tiny-chatglm")
    assert (view.plan.prompts, view.plan.repeats, view.plan.together) == (PLAN.prompts, 2, True)
    assert view.finished_at is not None
    assert before <= view.started_at <= view.finished_at <= utc_now()
    assert await Measurements(database).latest(["tiny-qwen"]) == view


async def test_the_id_comes_first_and_then_the_steps(database: Database) -> None:
    second = replace(STEP, number=2)
    events = Scripted(STEP, ANSWER, second, TAKEN)()
    told = [one async for one in Measurements(database).run(PLAN, events, MACHINE)]
    assert told[1:] == [STEP, second]
    assert (await found(database, str(told[0]))).answers == (ANSWER,)


async def test_a_figure_can_be_read_while_the_measurement_goes_on(database: Database) -> None:
    measurements = Measurements(database)
    steps = measurements.run(PLAN, Scripted(ANSWER, STEP, TAKEN)(), MACHINE)
    async with aclosing(steps):
        measurement_id = str(await anext(steps))
        assert await anext(steps) == STEP
        view = await found(database, measurement_id)
        assert (view.state, view.finished_at) == (MeasurementState.RUNNING, None)
        assert (view.answers, view.models) == ((ANSWER,), ())


@pytest.mark.parametrize("seen", [1, 2])
async def test_stop_closes_what_measures_and_keeps_what_was_measured(
    database: Database, seen: int
) -> None:
    script = Scripted(STEP, ANSWER, replace(STEP, number=2), TAKEN)
    steps = Measurements(database).run(PLAN, script(), MACHINE)
    measurement_id = str(await anext(steps))
    for _ in range(seen):
        await anext(steps)
    await steps.aclose()
    view = await found(database, measurement_id)
    assert script.closed
    assert view.state is MeasurementState.STOPPED
    assert view.answers == (ANSWER,)[: seen - 1]


async def test_stop_before_the_first_step_is_a_stop_too(database: Database) -> None:
    steps = Measurements(database).run(PLAN, Scripted(STEP)(), MACHINE)
    measurement_id = str(await anext(steps))
    await steps.aclose()
    assert (await found(database, measurement_id)).state is MeasurementState.STOPPED


async def test_who_is_cancelled_while_waiting_has_stopped_it(database: Database) -> None:
    script = Scripted(ANSWER, STEP, asyncio.Event())
    told: list[Step | str] = []

    async def follow() -> None:
        async with aclosing(Measurements(database).run(PLAN, script(), MACHINE)) as steps:
            async for step in steps:
                told.append(step)

    task = asyncio.create_task(follow())
    await until(lambda: STEP in told)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert script.closed
    view = await found(database, str(told[0]))
    assert (view.state, view.answers) == (MeasurementState.STOPPED, (ANSWER,))


async def test_an_error_fails_the_measurement_with_its_words_and_keeps_the_rest(
    database: Database,
) -> None:
    events = Scripted(ANSWER, OSError("the disk is gone"))()
    steps = Measurements(database).run(PLAN, events, MACHINE)
    measurement_id = str(await anext(steps))
    with pytest.raises(OSError, match="the disk is gone"):
        await anext(steps)
    view = await found(database, measurement_id)
    assert (view.state, view.error) == (MeasurementState.FAILED, "the disk is gone")
    assert view.answers == (ANSWER,)


async def test_what_is_known_later_of_a_model_takes_the_place_of_what_was_known(
    database: Database,
) -> None:
    started = Resources("tiny-qwen", together=False, cold_start_s=2.5)
    beside = Resources("tiny-qwen", together=True, peak_bytes=7)
    measurement_id = await run(database, started, TAKEN, beside)
    assert (await found(database, measurement_id)).models == (TAKEN, beside)


DYING = """
import asyncio, os, sys
from backends.catalog import MODELS
from backends.measurement import Machine, Plan, Step, TimedAnswer
from db import Database
from rating.measuring.measurements import Measurements

async def events():
    yield TimedAnswer("tiny-qwen", 1, 1, False, 0.25, 1.5, 12, 30, 40)
    yield Step(2, 9, "answer", "tiny-qwen")

async def main():
    plan, machine = Plan((MODELS["tiny-qwen"],)), Machine("a CPU", 2, 8, "Linux", {})
    async for one in Measurements(Database.open(sys.argv[1])).run(plan, events(), machine):
        if isinstance(one, Step):
            print("measuring", flush=True)
            sys.stdin.read(1)
            os._exit(1)

asyncio.run(main())
"""


@contextmanager
def another_process(database: Database) -> Iterator[subprocess.Popen[str]]:
    """A process that measures into the database and dies when it is written to."""
    url = database.url.render_as_string(hide_password=False)
    with subprocess.Popen(
        [sys.executable, "-c", DYING, url],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "measuring\n"
        yield process


async def test_a_crash_counts_as_a_failure_at_the_next_start_and_keeps_what_was_measured(
    database: Database,
) -> None:
    with another_process(database) as other:
        (view,) = await Measurements(database).recent()
        assert view.state is MeasurementState.RUNNING  # the other process is at it
        with pytest.raises(NotNow, match="Another measurement is running"):
            await run(database, ANSWER)
        other.communicate("x", timeout=30)
    (view,) = await Measurements(database).recent()
    assert (view.state, view.error) == (MeasurementState.FAILED, INTERRUPTED)
    assert view.finished_at is not None
    assert view.answers == (ANSWER,)
    await run(database, ANSWER)


async def test_a_measurement_that_was_left_running_is_closed_by_the_next_one_too(
    database: Database,
) -> None:
    measurements = Measurements(database)
    with database.write() as session:
        session.add(
            left := rows.measurement(plan=vars(PLAN) | {"models": []}, machine=vars(MACHINE))
        )
    steps = measurements.run(PLAN, Scripted(ANSWER)(), MACHINE)
    assert len([step async for step in steps]) == 1
    assert (await found(database, left.id)).error == INTERRUPTED


async def test_the_latest_is_the_last_one_that_timed_an_answer_of_these_models(
    database: Database,
) -> None:
    measurements = Measurements(database)
    assert await measurements.latest() is None
    both = await run(database, ANSWER, replace(ANSWER, model_key="tiny-chatglm"))
    qwen = await run(database, ANSWER)
    nothing = await run(database, TAKEN, replace(ANSWER, total_s=None, error="too slow"))
    wanted: list[tuple[Sequence[str] | None, str]] = [
        (None, qwen),
        (["tiny-qwen"], qwen),
        (["tiny-chatglm"], both),
        (["tiny-chatglm", "tiny-qwen"], qwen),
    ]
    for keys, expected in wanted:
        view = await measurements.latest(keys)
        assert view is not None
        assert view.id == expected
    assert await measurements.latest(["another"]) is None
    assert await measurements.latest([]) is None
    assert [view.id for view in await measurements.recent()] == [nothing, qwen, both]
    assert [view.id for view in await measurements.recent(1)] == [nothing]


def unrated_trial(database: Database, **changes: object) -> None:
    """Store a trial whose answers are there and whose rating is not."""
    with database.write() as session:
        trial = rows.trial(**{"state": TrialState.RATEABLE, "language": Language.EN} | changes)
        session.add(rows.answer(turn=rows.turn(trial=trial)))


@pytest.mark.parametrize("pair", ["tiny-chatglm|tiny-qwen", "a|b"])
async def test_raters_of_any_pair_are_not_to_be_disturbed(database: Database, pair: str) -> None:
    await Measurements(database).refuse_while_serving()
    unrated_trial(database, pair=pair)
    with pytest.raises(NotNow, match=r"Raters are being served: .*: 1\..*--force"):
        await Measurements(database).refuse_while_serving()


async def test_who_has_rated_or_gone_is_not_disturbed(database: Database) -> None:
    unrated_trial(database, state=TrialState.REVEALED)
    await Measurements(database).refuse_while_serving()
    unrated_trial(database)
    long_ago = utc_now() - timedelta(minutes=31)
    with database.write() as session:
        session.execute(update(Trial).values(updated_at=long_ago))
        session.execute(update(Answer).values(started_at=long_ago, finished_at=long_ago))
    await Measurements(database).refuse_while_serving()


async def test_whether_somebody_measures_can_be_asked_and_keeps_nobody_from_it(
    database: Database, tmp_path: Path
) -> None:
    measurements = Measurements(database)
    assert not measurements.under_way()
    link = tmp_path / "link"
    link.symlink_to(Path(str(database.url.database)).parent, target_is_directory=True)
    by_link = Database.open(f"sqlite:///{link}/{Path(str(database.url.database)).name}")
    events = Scripted(STEP, asyncio.Event())
    running = measurements.run(PLAN, events(), MACHINE)
    async with aclosing(running):
        await anext(running)
        assert Measurements(by_link).under_way()
        other = Measurements(by_link).run(PLAN, Scripted(STEP)(), MACHINE)
        with pytest.raises(NotNow):
            await anext(other)
    assert not measurements.under_way()
    by_link.close()
