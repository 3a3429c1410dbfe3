"""Loading what was packed before: fast, and without the libraries that packed it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.server.kernels import chosen_level
from benchmarks.random_weights import make_chatglm_6b_int4
from tests.backends.server.processes import running_server
from tests.backends.server.qwen2_checkpoints import make_qwen2
from tests.paths import ROOT

_LOAD = """
import json, sys
from pathlib import Path
from backends.server.generation import Limits
from backends.server.loading import load_engine
stages = []
load_engine(
    Path(sys.argv[1]), sys.argv[2], Limits(threads=1), lambda stage, _: stages.append(stage)
)
large = [name for name in ("torch", "transformers") if name in sys.modules]
print(json.dumps([large, "converting" in stages]))
"""


def _load(folder: Path, precision: str) -> list[object]:
    """The large libraries that a new process imports to load, and whether it converts weights."""
    command = [sys.executable, "-c", _LOAD, str(folder), precision]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    result: list[object] = json.loads(done.stdout)
    return result


def _make_qwen2(folder: Path) -> Path:
    return make_qwen2(
        folder,
        hidden_size=128,
        intermediate_size=256,
        num_attention_heads=2,
        num_key_value_heads=2,
        context=256,
    )


def _make_chatglm(folder: Path) -> Path:
    return make_chatglm_6b_int4(
        folder, hidden_size=128, num_layers=2, num_attention_heads=1, inner_hidden_size=256
    )


natively = pytest.mark.skipif(chosen_level() is None, reason="on this CPU torch computes")


@natively
@pytest.mark.parametrize(
    ("make", "precision"),
    [(_make_qwen2, "int8"), (_make_qwen2, "int4"), (_make_chatglm, "int4")],
)
def test_what_is_packed_is_loaded_without_torch_and_transformers(
    tmp_path: Path, make: Callable[[Path], Path], precision: str
) -> None:
    folder = make(tmp_path)
    assert _load(folder, precision) == [["torch"], True]
    assert _load(folder, precision) == [[], False]


@natively
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells")
def test_a_server_of_a_packed_model_never_maps_torch(tmp_path: Path) -> None:
    folder = _make_qwen2(tmp_path)
    _load(folder, "int8")
    with running_server(folder, "--precision", "int8") as server:
        server.wait_until_ready()
        assert server.chat(messages=[{"role": "user", "content": "a"}], max_tokens=2)[0] == 200
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "libtorch" not in maps
    assert "llvmlite" in maps  # by which it computes
