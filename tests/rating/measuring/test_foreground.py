"""A measurement that somebody waits for: what is told, and what is returned however it ends."""

import asyncio
import logging
from dataclasses import replace

import pytest

from backends.measurement import Step
from db import Database, DatabaseError, MeasurementState
from rating.measuring.foreground import measure_to_end, step_text
from rating.measuring.measurements import Measurements, NotNow
from tests.rating.conftest import until
from tests.rating.measuring.test_measurements import (
    ANSWER,
    PLAN,
    STEP,
    TAKEN,
    Scripted,
    unrated_trial,
)


def silent(line: str) -> None:
    """Where nobody looks."""


async def test_each_step_is_told_and_all_figures_are_returned(database: Database) -> None:
    events = Scripted(STEP, ANSWER, replace(STEP, number=2, kind="together", model_key=""), TAKEN)
    told: list[str] = []
    view = await measure_to_end(Measurements(database), PLAN, events(), told.append)
    assert told == ["[1/9] tiny-qwen: starting, files not in memory", "[2/9] all answering at once"]
    assert (view.state, view.answers, view.models) == (MeasurementState.DONE, (ANSWER,), (TAKEN,))
    assert view.machine.cores >= 1
    assert "Python" in view.machine.versions


async def test_an_error_in_the_middle_returns_what_was_measured_and_is_logged(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    events = Scripted(ANSWER, OSError("the disk is gone"))
    with caplog.at_level(logging.ERROR):
        view = await measure_to_end(Measurements(database), PLAN, events(), silent)
    assert (view.state, view.error) == (MeasurementState.FAILED, "the disk is gone")
    assert view.answers == (ANSWER,)
    assert "the disk is gone" in caplog.text


async def test_a_database_that_fails_in_the_middle_costs_only_what_was_not_stored(
    database: Database,
) -> None:
    events = Scripted(ANSWER, DatabaseError("the disk is full"))
    view = await measure_to_end(Measurements(database), PLAN, events(), silent)
    assert (view.state, view.answers) == (MeasurementState.FAILED, (ANSWER,))


async def test_a_cancelled_measurement_returns_what_was_measured(database: Database) -> None:
    told: list[str] = []
    events = Scripted(ANSWER, STEP, asyncio.Event())
    task = asyncio.create_task(measure_to_end(Measurements(database), PLAN, events(), told.append))
    await until(lambda: bool(told))
    task.cancel()
    view = await task
    assert events.closed
    assert (view.state, view.answers) == (MeasurementState.STOPPED, (ANSWER,))


async def test_nothing_is_begun_while_raters_are_served_unless_it_is_forced(
    database: Database,
) -> None:
    unrated_trial(database)
    measurements = Measurements(database)
    with pytest.raises(NotNow, match="Raters are being served"):
        await measure_to_end(measurements, PLAN, Scripted(ANSWER)(), silent)
    assert await measurements.recent() == []
    view = await measure_to_end(measurements, PLAN, Scripted(ANSWER)(), silent, force=True)
    assert view.state is MeasurementState.DONE


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Step(3, 38, "answer", "tiny-qwen"), "[3/38] tiny-qwen: answering"),
        (Step(1, 38, "prepare", "tiny-qwen"), "[1/38] tiny-qwen: getting ready"),
        (Step(2, 38, "warm_start", "tiny-qwen"), "[2/38] tiny-qwen: starting again"),
        (Step(9, 38, "prepare"), "[9/38] getting ready"),
    ],
)
def test_a_step_is_said_in_words(step: Step, text: str) -> None:
    assert step_text(step) == text
