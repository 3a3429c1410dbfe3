from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from backends.server import ChatModel, load_model
from tests.backends.server.checkpoints import CHATGLM, make_qwen2
from tests.backends.server.processes import Server, running_server

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


@pytest.fixture(params=["qwen2", "chatglm"])
def model(request: pytest.FixtureRequest) -> ChatModel:
    loaded: ChatModel = request.getfixturevalue(request.param)
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


@pytest.fixture(params=["qwen2_server", "chatglm_server"])
def server(request: pytest.FixtureRequest) -> Server:
    running: Server = request.getfixturevalue(request.param)
    return running
