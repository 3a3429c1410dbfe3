from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from backends.server import ChatModel, load_model
from tests.backends.server.processes import Server, running_server
from tests.backends.server.qwen2_checkpoints import CHATGLM, make_qwen2
from tests.backends.server.transformers_checkpoints import make

# These models are too small for more, and the machine may be busy.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def qwen2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_qwen2(tmp_path_factory.mktemp("qwen2"))


@pytest.fixture(scope="session")
def qwen2(qwen2_folder: Path) -> ChatModel:
    return load_model(qwen2_folder)


@pytest.fixture(scope="session")
def chatglm() -> ChatModel:
    return load_model(CHATGLM)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return load_model(make(tmp_path_factory.mktemp("llama"), "llama"))


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("gpt2"), "gpt2")


@pytest.fixture(scope="session")
def gpt2(gpt2_folder: Path) -> ChatModel:
    return load_model(gpt2_folder)


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    """Qwen2 again, but in eight bits: in native code wherever the CPU allows it."""
    folder = tmp_path_factory.mktemp("native")
    make_qwen2(folder, hidden_size=96, num_attention_heads=3, num_key_value_heads=3)
    return load_model(folder, "int8")


@pytest.fixture(params=["qwen2", "chatglm", "llama", "gpt2", "native"])
def model(request: pytest.FixtureRequest) -> ChatModel:
    loaded: ChatModel = request.getfixturevalue(request.param)
    return loaded


@pytest.fixture(params=["qwen2", "chatglm", "llama", "gpt2"])
def trainable(request: pytest.FixtureRequest) -> ChatModel:
    """Those that torch computes in float32."""
    loaded: ChatModel = request.getfixturevalue(request.param)
    return loaded


@pytest.fixture(params=["qwen2", "llama", "gpt2", "native"])
def chunkable(request: pytest.FixtureRequest) -> ChatModel:
    """Those whose tokens see only what is before them."""
    loaded: ChatModel = request.getfixturevalue(request.param)
    assert loaded.network.chunkable
    return loaded


@pytest.fixture(scope="session")
def qwen2_server(qwen2_folder: Path) -> Iterator[Server]:
    with running_server(qwen2_folder) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture(scope="session")
def chatglm_server() -> Iterator[Server]:
    with running_server(CHATGLM, "--places", "4", "--queue", "4") as server:
        server.wait_until_ready()
        yield server


@pytest.fixture(scope="session")
def gpt2_server(gpt2_folder: Path) -> Iterator[Server]:
    with running_server(gpt2_folder) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture(params=["qwen2_server", "chatglm_server", "gpt2_server"])
def server(request: pytest.FixtureRequest) -> Server:
    running: Server = request.getfixturevalue(request.param)
    return running
