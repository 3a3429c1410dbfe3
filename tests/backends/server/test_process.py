"""A model server as a process: starting, loading, failing, ending."""

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backends.checkpoint import read_checkpoint
from tests.backends.server.processes import running_server, start_server
from tests.backends.server.qwen2_checkpoints import CHATGLM
from tests.backends.server.transformers_checkpoints import edit_json
from tests.paths import ROOT, TINY

QUESTION = [{"role": "user", "content": "a"}]


def test_the_server_answers_at_once_and_says_how_far_it_has_loaded() -> None:
    with running_server(CHATGLM) as server:
        began_s = time.monotonic()
        status, health = server.get("/health")
        assert time.monotonic() - began_s < 1
        assert status == 503
        assert health["status"] == "loading"
        assert 0 <= health["progress"] < 1
        status, body = server.chat(messages=QUESTION)
        assert (status, body["error"]["code"]) == (503, "loading")
        server.wait_until_ready()
        assert server.chat(messages=QUESTION, max_tokens=1)[0] == 200


def test_the_server_exits_at_once_when_its_parents_pipe_ends() -> None:
    with running_server(CHATGLM, "--watch-parent") as server:
        server.wait_until_ready()
        assert server.process.stdin is not None
        server.process.stdin.close()
        server.process.wait(1)
        server.process.stdin = None


def test_the_server_exits_with_its_parent_while_it_still_loads() -> None:
    with running_server(CHATGLM, "--watch-parent") as server:
        assert server.process.stdin is not None
        server.process.stdin.close()
        server.process.wait(1)
        server.process.stdin = None


@pytest.mark.parametrize("loaded", [True, False])
def test_sigterm_ends_the_server_quickly_also_in_mid_answer(loaded: bool) -> None:
    with running_server(CHATGLM) as server:
        if loaded:
            server.wait_until_ready()
            stream = server.client.chat.completions.create(
                model="any",
                messages=[{"role": "user", "content": "a"}],
                stream=True,
                max_tokens=2000,
            )
            next(iter(stream))
        server.process.terminate()
        server.process.wait(2)


def test_weights_that_do_not_fit_make_the_server_say_why(tmp_path: Path) -> None:
    shutil.copytree(CHATGLM, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_layers": 5}))
    with running_server(tmp_path) as server:
        deadline_s = time.monotonic() + 60
        while (health := server.get("/health"))[0] == 503:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        assert health[0] == 500
        assert health[1]["status"] == "failed"
        assert "don't fit" in health[1]["error"]
        status, body = server.chat(messages=QUESTION)
        assert status == 500
        assert "can't be loaded" in body["error"]["message"]


@pytest.mark.parametrize(
    "options",
    [
        ("--model", "/nowhere"),
        ("--model", str(Path(__file__).parent)),
        ("--model", "http://127.0.0.1:1/v1#x"),
        ("--model", str(CHATGLM), "--host", "203.0.113.1"),
        ("--model", str(CHATGLM), "--precision", "int3"),
    ],
)
def test_what_can_not_be_served_ends_with_one_message(options: tuple[str, ...]) -> None:
    process = start_server(*options)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert out == ""
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


def test_a_taken_port_ends_with_a_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start_server("--model", str(CHATGLM), "--port", str(port))
        _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert f"port {port}" in err


def test_the_command_line_is_ready_before_torch_is_imported() -> None:
    code = "import sys, backends.server.__main__; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_help_explains_every_option() -> None:
    process = start_server("--help")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    for option in (
        "--model",
        "--host",
        "--port",
        "--threads",
        "--watch-parent",
        "--precision",
        "--cache-memory",
    ):
        assert option in out


def test_the_health_of_a_ready_server_carries_what_only_the_files_told() -> None:
    with running_server(CHATGLM) as server:
        server.wait_until_ready()
        _, health = server.get("/health")
    assert health["checkpoint"] == vars(read_checkpoint(CHATGLM)) | {"folder": str(CHATGLM)}
    assert (health["precision"], health["threads"]) == ("float32", 1)


def test_a_tokenizer_that_makes_the_library_panic_is_said_to_be_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(TINY / "tiny-qwen", folder)
    edit_json(
        folder / "tokenizer.json", normalizer={"type": "Precompiled", "precompiled_charsmap": ""}
    )
    with running_server(folder) as server:
        status, health = server.wait_until_loaded()
    assert status == 500
    assert "no tokenizer that can be read" in health["error"]


def test_a_precision_that_the_weights_do_not_allow_is_named_with_those_they_do() -> None:
    with running_server(CHATGLM, "--precision", "int4") as server:
        status, health = server.wait_until_loaded()
    assert status == 500
    assert "possible: float32, bfloat16" in health["error"]


def test_of_several_precisions_the_first_that_the_weights_allow_is_taken() -> None:
    with running_server(CHATGLM, "--precision", "int8,bfloat16,float32") as server:
        server.wait_until_ready()
        assert server.get("/health")[1]["precision"] == "bfloat16"


@pytest.mark.parametrize(
    ("options", "least", "most"),
    [((), 256_000_000, 2_000_000_000), (("--cache-memory", "7"), 7_000_000, 7_000_000)],
)
def test_what_ended_answers_may_take_is_what_was_said_or_follows_what_is_free(
    options: tuple[str, ...], least: int, most: int
) -> None:
    with running_server(CHATGLM, *options) as server:
        server.wait_until_ready()
        kept = server.get("/health")[1]["prefix_cache"]
    assert least <= kept["limit_bytes"] <= most


def test_the_log_of_a_ready_server_says_with_what_it_computes() -> None:
    with running_server(CHATGLM) as server:
        server.wait_until_ready()
        server.process.terminate()
        _, log = server.process.communicate(timeout=10)
    assert "is ready: float32, threads: 1" in log


def test_what_needs_more_memory_than_is_free_is_not_loaded_unless_forced(tmp_path: Path) -> None:
    shutil.copytree(CHATGLM, tmp_path, dirs_exist_ok=True)
    # Says of itself that its weights stay as they are, and has a terabyte of them.
    config = json.loads((tmp_path / "config.json").read_text()) | {"quantization_bit": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with (tmp_path / "pytorch_model.bin").open("wb") as file:
        file.truncate(1_000_000_000_000)
    with running_server(tmp_path) as server:
        status, health = server.wait_until_loaded()
    assert status == 500
    assert "1.1 TB needed" in health["error"]
    with running_server(tmp_path, "--force") as server:
        assert "needed" not in server.wait_until_loaded()[1].get("error", "")
