"""A model named by its hub id, from the first question to the hub to its first answer."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from backends.backend import State, Status
from backends.catalog import MODELS
from backends.client import Finish, Message, ModelUnavailable, stream_answer
from backends.hub import fetch, with_files
from backends.memory import needed_bytes
from backends.specs import resolve
from backends.supervisor import ModelServer
from tests.backends.hub_server import HubServer, Trouble, forget_settings, running_hub

REPO = "someone/small-model"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with the files of a built-in model, and nothing on this machine."""
    forget_settings(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TWOPANE_CACHE", str(tmp_path / "cache"))
    folder = MODELS["tiny-qwen"].folder
    assert folder is not None
    with running_hub() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        running.add(REPO, {path.name: path.read_bytes() for path in folder.iterdir()})
        yield running


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    one = ModelServer(resolve(REPO))
    yield one
    await one.stop()


async def statuses_until(server: ModelServer, state: State) -> list[Status]:
    seen = [server.status]
    while seen[-1].state is not state:
        await asyncio.sleep(0.02)
        if server.status != seen[-1]:
            seen.append(server.status)
        assert len(seen) < 10_000
    return seen


@pytest.mark.slow
async def test_a_model_at_a_hub_is_fetched_loaded_and_answers(
    hub: HubServer, server: ModelServer
) -> None:
    hub.troubles["model.safetensors"] = Trouble(pause_s=0.002)
    await server.start()
    seen = await asyncio.wait_for(statuses_until(server, State.READY), 120)
    downloads = [status.download for status in seen if status.download is not None]
    assert {one.source.hub for one in downloads} == {"modelscope"}
    assert any(0 < one.done_bytes < one.total_bytes for one in downloads)
    assert all(status.detail == "download" for status in seen if status.download)

    builtin = resolve("tiny-qwen")
    model = server.model
    assert (model.family, model.context) == (builtin.family, builtin.context)
    assert (model.parameters, model.size_bytes) == (builtin.parameters, builtin.size_bytes)
    assert model.key == REPO
    assert len(model.revision) == 16
    assert model.folder is not None
    stream = stream_answer(server.endpoint, [Message("user", "你好")], model.defaults)
    assert isinstance([event async for event in stream][-1], Finish)


def test_what_is_here_already_is_known_before_it_is_loaded(hub: HubServer) -> None:
    model = resolve(REPO)
    assert with_files(model) == model
    fetch(model.sources)
    found = with_files(model)
    assert (found.key, found.spec, found.family) == (REPO, REPO, "qwen2")
    assert found.parameters == resolve("tiny-qwen").parameters
    assert needed_bytes(found) > 0


@pytest.mark.slow
async def test_a_model_that_no_hub_has_fails_at_once_with_what_was_tried(
    hub: HubServer, server: ModelServer
) -> None:
    del hub.repositories[REPO]
    await server.start()
    with pytest.raises(ModelUnavailable):
        await server.wait_ready(60)
    assert server.status.state is State.FAILED
    assert "ModelScope" in server.status.detail
    assert "Hugging Face" in server.status.detail
    assert server.status.restarts == 0
