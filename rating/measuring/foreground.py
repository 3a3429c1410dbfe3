"""A measurement in the foreground, as the command line runs one: to its end, or to Ctrl+C.

Says how far it is, line by line. In the app it is `background`'s to run one in the background.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from backends.machine import this_machine
from backends.measurement import Event, Plan, Step
from db import DatabaseError
from rating.measuring.measurements import Measurements, MeasurementView, NotNow

logger = logging.getLogger(__name__)

_STEPS = {
    "prepare": "getting ready",
    "cold_start": "starting, files not in memory",
    "warm_start": "starting again",
    "answer": "answering",
    "together": "all answering at once",
}


async def measure_to_end(
    measurements: Measurements,
    plan: Plan,
    events: AsyncGenerator[Event, None],
    tell: Callable[[str], None],
    *,
    force: bool = False,
) -> MeasurementView:
    """Run `plan` and return all that was measured, also where it ends early; `state` tells.

    Under `asyncio.run`, Ctrl+C cancels this once: that is Stop, and the figures until then are
    returned all the same.

    Args:
        measurements: Where it is kept.
        plan: What is to be measured.
        events: What carries out the plan.
        tell: Takes a line for each step.
        force: Measure although raters are being served.

    Raises:
        NotNow: Raters are being served, or another measurement is running.
        DatabaseError: The database failed.
    """
    if not force:
        await measurements.refuse_while_serving()
    machine = await asyncio.to_thread(this_machine)
    measurement_id = ""
    try:
        async with aclosing(measurements.run(plan, events, machine)) as steps:
            async for step in steps:
                if isinstance(step, Step):
                    tell(step_text(step))
                else:
                    measurement_id = step
    except asyncio.CancelledError:
        if not measurement_id:
            raise
        logger.info("stopped; what was measured stays")
    except (NotNow, DatabaseError) as error:
        if not measurement_id:
            raise
        logger.error("the measurement can't go on: %s", error)
    except Exception:
        # Whatever it was: what was measured before it can be shown.
        logger.exception("the measurement failed")
    view = await measurements.find(measurement_id)
    assert view is not None  # it was begun, and nothing deletes measurements
    return view


def step_text(step: Step) -> str:
    """Return for example `[3/38] tiny-qwen: answering`."""
    who = f"{step.model_key}: " if step.model_key else ""
    return f"[{step.number}/{step.count}] {who}{_STEPS.get(step.kind, step.kind)}"
