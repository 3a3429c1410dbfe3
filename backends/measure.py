"""Measures models on this machine, as the published comparison did: starts, answers, memory, CPU.

Each model alone, one after the other; then, if wanted, all at the same time. Stores nothing, shows
nothing, and doesn't see to it that nobody else uses the machine. What the figures mean:

- Cold start: from just before the server's process is started to the first piece of its answer to
  a short prompt, with the model's files (packed ones too) taken out of the system's file cache.
  Not those of Python and its packages. Fetching and packing come before and don't count.
- Warm start: the same at once again.
- Answers: each prompt in a conversation of its own, with the model's default sampling; the seed is
  the repeat's number. The server keeps nothing of ended answers meanwhile, or every repeat would
  find its prompt computed. How latency is timed is `client`'s to say.
- Peak memory: of the server process, from its warm start to its last answer; see `meter`. What the
  app lets a server keep of ended answers (`--cache-memory`) would come on top.
- CPU share: of all usable cores, from each request to its answer's end, averaged over the answers
  that succeeded by the time they took.
- Threads: alone, a model gets what the app would give it beside the others of the plan, so that
  the figures describe the app and those together can be compared with those alone.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing

from backends.measurement import Event, Plan, Step
from backends.single import Failure, ServerSettings, check_memory
from backends.subject import Subject

__all__ = ["ServerSettings", "measure", "planned_steps"]


async def measure(plan: Plan, settings: ServerSettings) -> AsyncGenerator[Event, None]:
    """Carry out `plan` and yield what it finds, each part as soon as it is known.

    A model that can't be measured, or not to the end, yields `Resources` that say why, and the next
    one's turn comes. Closing the generator at any point ends every server that it has started.

    Raises:
        ValueError: The plan asks for nothing, or for a model twice; says what to do.
    """
    _check(plan)
    *alone, together = _steps(plan)
    models, missing = [], []
    for model, steps in zip(plan.models, alone, strict=True):
        subject = Subject(model, plan, settings)
        async with aclosing(_measure_alone(subject, plan, steps)) as events:
            async for event in events:
                yield event
        models.append(subject.model)
        if subject.failure is not None:
            missing.append(model.title)
    if together:
        subjects = [Subject(model, plan, settings, together=True) for model in models]
        async with aclosing(_measure_together(subjects, plan, together, missing)) as events:
            async for event in events:
                yield event


def _check(plan: Plan) -> None:
    if not plan.models or not plan.prompts or plan.repeats < 1:
        raise ValueError("Nothing is to be measured. Give a model, a prompt and a repeat at least.")
    keys = [model.key for model in plan.models]
    if len(set(keys)) < len(keys):
        raise ValueError(f"A model is measured once, but {', '.join(keys)} are given.")


def planned_steps(plan: Plan) -> list[Step]:
    """Return all steps of `plan`, in their order; where a model fails, some of its are left out."""
    return list(itertools.chain.from_iterable(_steps(plan)))


def _steps(plan: Plan) -> list[list[Step]]:
    """Return the steps of each model alone, then those of all together, if any, all numbered."""
    asked = len(plan.prompts) * plan.repeats
    groups = []
    for model in plan.models:
        starts = ["prepare", *(["cold_start", "warm_start"] if model.local else [])]
        groups.append((model.key, [*starts, *["answer"] * asked]))
    is_joint = plan.together and len(plan.models) > 1
    groups.append(("", ["prepare", *["together"] * asked] if is_joint else []))
    count = sum(len(kinds) for _, kinds in groups)
    numbers = itertools.count(1)
    return [[Step(next(numbers), count, kind, key) for kind in kinds] for key, kinds in groups]


def _questions(plan: Plan) -> Iterator[tuple[int, int]]:
    """Yield prompt and repeat, both from 1, in the order in which they are asked."""
    return itertools.product(range(1, len(plan.prompts) + 1), range(1, plan.repeats + 1))


async def _measure_alone(
    subject: Subject, plan: Plan, steps: Sequence[Step]
) -> AsyncGenerator[Event, None]:
    coming = iter(steps)
    try:
        yield next(coming)
        await subject.prepare()
        if subject.model.local:
            yield next(coming)
            await subject.start_cold()
            yield next(coming)
            await subject.start_warm()
            yield subject.resources()  # whoever stops now keeps its starts
        for prompt, repeat in _questions(plan):
            yield next(coming)
            yield await subject.ask(prompt, repeat)
            yield subject.resources()
            if subject.failure is not None:
                break
    except Failure as failure:
        subject.give_up(failure)
    finally:
        await subject.stop()
    yield subject.resources()


async def _measure_together(
    subjects: Sequence[Subject], plan: Plan, steps: Sequence[Step], missing: Sequence[str]
) -> AsyncGenerator[Event, None]:
    """Ask all models at once; those `missing` could not even be measured alone."""
    coming = iter(steps)
    try:
        if missing:
            raise Failure(f"Not run together: {', '.join(missing)} can't be measured alone.")
        yield next(coming)
        await _start_all(subjects)
        for prompt, repeat in _questions(plan):
            yield next(coming)
            asked = (subject.ask(prompt, repeat) for subject in subjects)
            for answer in await asyncio.gather(*asked):
                yield answer
            for subject in subjects:
                yield subject.resources()
            _raise_failure(subjects)
    except Failure as failure:
        for subject in subjects:
            subject.give_up(failure)
    finally:
        await asyncio.gather(*(subject.stop() for subject in subjects))
    for subject in subjects:
        yield subject.resources()


async def _start_all(subjects: Sequence[Subject]) -> None:
    """Start all at the same time.

    Raises:
        Failure: They don't fit into memory together, or one can't be started.
    """

    async def start(subject: Subject) -> None:
        try:
            await subject.start()
        except Failure as failure:
            subject.give_up(failure)

    check_memory([subject.model for subject in subjects], subjects[0].settings)
    await asyncio.gather(*map(start, subjects))
    _raise_failure(subjects)


def _raise_failure(subjects: Iterable[Subject]) -> None:
    """Raise what the first that failed has failed of, in the words of the others."""
    for subject in subjects:
        if subject.failure is not None:
            raise Failure(f"{subject.model.title} failed: {subject.failure}")
