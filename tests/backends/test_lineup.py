from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from backends.backend import Backend, State
from backends.catalog import Model
from backends.lineup import Lineup, Models
from backends.memory import DoesNotFit
from backends.supervisor import ModelServer, Patience
from tests.backends.conftest import fake_command, until
from tests.backends.test_supervisor import alive

HASTY = Patience(poll_s=0.05, first_backoff_s=0.1, kill_after_s=0.5)


def model(key: str) -> Model:
    """A model of unknown size; one whose key begins with "bad" fails to load."""
    return Model(key=key, title=key.upper(), family="qwen2", folder=Path("/nowhere"))


def huge(key: str) -> Model:
    return replace(model(key), bits=32, parameters=10**15)


def make_backends(models: Models, force: bool) -> tuple[Backend, Backend]:
    def server(one: Model) -> Backend:
        bad = ["--fail-load", "damaged"] if one.key.startswith("bad") and not force else []
        return ModelServer(one, command=fake_command(*bad), patience=HASTY)

    first, second = map(server, models)
    return first, second


@pytest.fixture
async def lineup() -> AsyncIterator[Lineup]:
    """A and B, ready."""
    line = Lineup((model("a"), model("b")), make_backends)
    await line.start()
    await ready(line)
    yield line
    await line.stop()


async def ready(line: Lineup) -> None:
    for backend in line.backends:
        await backend.wait_ready(20)


def keys(line: Lineup) -> list[str]:
    return [backend.model.key for backend in line.backends]


def pids(line: Lineup) -> list[int | None]:
    return [one.pid for one in line.backends if isinstance(one, ModelServer)]


async def test_other_models_take_the_places_of_the_present_ones(lineup: Lineup) -> None:
    before = pids(lineup)
    await lineup.change((model("c"), model("d")))
    assert keys(lineup) == ["c", "d"]
    assert not any(map(alive, before)), "those that leave are gone when it returns"
    await ready(lineup)


async def test_a_model_that_stays_goes_on_running(lineup: Lineup) -> None:
    first, second = pids(lineup)
    await lineup.change((model("b"), model("c")))
    await ready(lineup)
    assert keys(lineup) == ["b", "c"]
    assert pids(lineup)[0] == second
    assert not alive(first)


async def test_a_model_that_gets_another_share_of_the_cores_is_started_anew() -> None:
    threads = 2

    def make(models: Models, force: bool) -> tuple[Backend, Backend]:
        first, second = (
            ModelServer(one, threads=threads, command=fake_command(), patience=HASTY)
            for one in models
        )
        return first, second

    line = Lineup((model("a"), model("b")), make)
    await line.start()
    try:
        await ready(line)
        before = pids(line)
        threads = 1
        await line.change((model("a"), model("c")))
        await ready(line)
        assert set(before).isdisjoint(pids(line))
    finally:
        await line.stop()


async def test_a_model_that_failed_is_started_anew(lineup: Lineup) -> None:
    await lineup.change((model("a"), model("bad")))
    await until(lambda: lineup.backends[1].status.state is State.FAILED)
    assert lineup.backends[1].status.detail == "damaged"
    await lineup.change((model("a"), model("bad")), force=True)
    await ready(lineup)


async def test_what_does_not_fit_is_refused_and_nothing_changes(lineup: Lineup) -> None:
    before = pids(lineup)
    with pytest.raises(DoesNotFit, match=r"4400 TB needed \(C 4400 TB\), [\d.]+ GB free"):
        await lineup.change((model("a"), huge("c")))
    assert keys(lineup) == ["a", "b"]
    assert pids(lineup) == before
    await lineup.change((model("a"), huge("c")), force=True)
    assert keys(lineup) == ["a", "c"]


async def test_what_models_need_follows_the_precisions_that_are_wanted() -> None:
    models = replace(huge("a"), bits=16), replace(huge("b"), bits=16)
    small, large = (
        Lineup(models, make_backends, precisions=wanted).fit(models).needed_bytes
        for wanted in (("int4",), ("float32",))
    )
    assert 4 * small < large


async def test_what_the_present_models_hold_counts_as_free(lineup: Lineup) -> None:
    fit = lineup.fit((model("a"), huge("c")))
    assert fit.per_model[1][0] == "C"
    assert not fit.fits
    held = lineup.fit((model("a"), model("b"))).free_bytes
    await lineup.stop()
    assert abs(held - lineup.fit((model("a"), model("b"))).free_bytes) < 2_000_000_000
