"""What every backend does alike, wherever its model runs.

The tests share one event loop and one backend of each kind, since a real server takes seconds to
load; each leaves it ready.
"""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio

from backends.backend import Backend
from backends.catalog import MODELS
from backends.client import Finish, Message, ModelUnavailable, Piece, Sampling, stream_answer
from backends.specs import resolve
from backends.supervisor import ModelServer, RemoteModel, State
from tests.backends.conftest import Fake, fake_command

pytestmark = pytest.mark.asyncio(loop_scope="module")

# ChatGLM's architecture with random weights, small enough to load in seconds.
SMALL_CHATGLM = Path(__file__).parent / "server" / "golden" / "fp16"
HELLO = [Message("user", "你好")]
SHORT = Sampling(temperature=0, max_tokens=16, seed=1)


def make(kind: str, fake: Fake) -> Backend:
    match kind:
        case "small ChatGLM":
            return ModelServer(resolve(str(SMALL_CHATGLM)))
        case "built-in Qwen":
            return ModelServer(resolve("tiny-qwen"))
        case "fake server":
            return ModelServer(MODELS["tiny-qwen"], command=fake_command("--load-s", "0.2"))
        case _:
            return RemoteModel(resolve(f"{fake.url}#fake"))


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=["small ChatGLM", "built-in Qwen", "fake server", "remote endpoint"],
)
async def backend(request: pytest.FixtureRequest, shared_fake: Fake) -> AsyncIterator[Backend]:
    """A backend that is ready; beforehand it has been none."""
    backend = make(request.param, shared_fake)
    with pytest.raises(ModelUnavailable):
        await backend.wait_ready(30)
    await backend.start()
    await backend.wait_ready(60)
    yield backend
    await backend.stop()


async def test_a_backend_becomes_ready(backend: Backend) -> None:
    assert (backend.status.state, backend.status.restarts) == (State.READY, 0)
    assert backend.endpoint.base_url.endswith("/v1")


async def test_a_ready_backend_answers_and_counts(backend: Backend) -> None:
    *pieces, finish = [item async for item in stream_answer(backend.endpoint, HELLO, SHORT)]
    assert pieces
    assert all(isinstance(piece, Piece) and piece.text for piece in pieces)
    assert isinstance(finish, Finish)
    assert finish.first_token_s is not None
    assert 0 < finish.first_token_s <= finish.total_s
    assert (finish.prompt_tokens or 0) > 0
    assert 0 < (finish.completion_tokens or 0) <= 16


async def test_a_backend_answers_again_after_a_reader_that_left(backend: Backend) -> None:
    async with aclosing(stream_answer(backend.endpoint, HELLO, Sampling())) as answer:
        await anext(answer)
    items = [item async for item in stream_answer(backend.endpoint, HELLO, SHORT)]
    assert isinstance(items[-1], Finish)


async def test_a_stopped_backend_can_be_started_again(backend: Backend) -> None:
    await backend.stop()
    with pytest.raises(ModelUnavailable, match="stopped"):
        _ = backend.endpoint
    await backend.start()
    await backend.wait_ready(60)
    assert backend.status.restarts == 0


async def test_a_local_model_draws_as_its_checkpoint_says() -> None:
    server = ModelServer(resolve("tiny-qwen"))
    before = server.model.defaults
    await server.start()
    await server.wait_ready(60)
    await server.stop()
    assert server.model.folder is not None
    said = json.loads((server.model.folder / "generation_config.json").read_text())
    learned = server.model.defaults
    assert (learned.temperature, learned.top_k) == (said["temperature"], said["top_k"])
    assert learned.max_tokens == before.max_tokens
    assert server.precision == "float32"
