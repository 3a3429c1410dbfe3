"""Measurements as a real one would have left them, without measuring anything."""

from collections.abc import AsyncGenerator, Sequence

from backends.measurement import Event, Machine, Plan, Resources, TimedAnswer
from backends.specs import resolve
from rating.measuring.measurements import Measurements

MACHINE = Machine("Some CPU", 4, 8_000_000_000, "Linux 6.1", {"torch": "2.13"})


async def stored(
    measurements: Measurements,
    answers: Sequence[TimedAnswer],
    taken: Sequence[Resources],
    models: Sequence[str] = ("tiny-qwen", "tiny-chatglm"),
) -> str:
    """Store these figures, and return the measurement's id."""

    async def found() -> AsyncGenerator[Event, None]:
        for answer in answers:
            yield answer
        for one in taken:
            yield one

    plan = Plan(tuple(resolve(key) for key in models), repeats=2)
    ids = [one async for one in measurements.run(plan, found(), MACHINE)]
    assert isinstance(ids[0], str)
    return ids[0]
