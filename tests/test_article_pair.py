"""`--pair article`, from the command line to two answers: small weights in published form."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client

from backends.catalog import MODELS
from benchmarks.app_process import running
from tests.backends.hub_server import COMMIT, HubServer, forget_settings, running_hub
from tests.backends.server.qwen2_checkpoints import CHATGLM

INT4 = CHATGLM.parent / "int4"


def files_in(*folders: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for folder in folders for path in folder.iterdir()}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """ModelScope and Hugging Face with both repositories under their published names."""
    forget_settings(monkeypatch)
    tiny = MODELS["tiny-qwen"].folder
    assert tiny is not None
    tokenizer = {"ice_text.model": (CHATGLM / "ice_text.model").read_bytes()}
    with running_hub() as running_one:
        running_one.add("Qwen/Qwen1.5-0.5B-Chat", files_in(tiny))
        running_one.add(
            "ZhipuAI/ChatGLM-6B-Int4",
            files_in(INT4) | tokenizer | {"modeling_chatglm.py": b"raise SystemExit"},
            revisions={"v1.0.3": COMMIT},
        )
        yield running_one


@pytest.mark.slow
def test_the_articles_pair_is_fetched_loaded_and_answers(hub: HubServer, tmp_path: Path) -> None:
    variables = hub.environment() | {
        "TWOPANE_CACHE": str(tmp_path / "cache"),
        "HOME": str(tmp_path),
    }
    options = ("--pair", "article", "--open", "--database-url", f"sqlite:///{tmp_path}/t.db")
    with running(tmp_path / "log", *options, variables=variables) as app:
        app.wait_ready()
        client = Client(app.url, verbose=False)
        trial = client.predict(api_name="/new_trial")["trial"]
        views = list(client.submit(trial, "你好，请介绍一下你自己。", api_name="/ask"))
        turn = views[-1]["turns"][-1]
        assert {turn[side]["status"] for side in ("left", "right")} == {"complete"}
    assert not [name for name, _ in hub.fetched() if name.endswith(".py")]
    assert hub.hubs_asked() == ["modelscope"]
    packed = (tmp_path / "cache").rglob("twopane/int4-*.safetensors")
    assert len(list(packed)) == 1
