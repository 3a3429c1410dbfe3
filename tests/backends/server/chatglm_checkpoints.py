"""ChatGLM checkpoints in every published form, and what the original recorded of them."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from backends.server import ChatModel
from backends.server.checkpoints.weights import read_tensors
from tests.backends.server.qwen2_checkpoints import CHATGLM, GOLDEN
from tests.paths import ROOT

FORMS = ("fp16", "int8", "int4", "int4qe")
QUANTISED = {"int8": "int8", "int4": "int4", "int4qe": "int4"}
ARRAYS = np.load(GOLDEN / "cases.npz")
CASES: dict[str, Any] = {
    case["name"]: case for case in json.loads((GOLDEN / "cases.json").read_text())["cases"]
}
EMBEDDING = "transformer.word_embeddings"
HEAD = "lm_head"
REAL_TOKENIZER = Path(
    os.environ.get("CHATGLM_TOKENIZER") or ROOT.parent / "shared" / "chatglm" / "tokenizer"
)
needs_real_tokenizer = pytest.mark.skipif(
    not (REAL_TOKENIZER / "ice_text.model").exists(),
    reason="the real tokenizer file isn't part of the project; CHATGLM_TOKENIZER names its folder",
)


@dataclass(frozen=True)
class Recorded:
    """One form of the golden checkpoint, and what the original gave for it."""

    form: str
    model: ChatModel

    def has(self, name: str) -> bool:
        return f"{self.form}/{name}" in ARRAYS

    def array(self, name: str) -> NDArray[Any]:
        recorded: NDArray[Any] = ARRAYS[f"{self.form}/{name}"]
        return recorded

    def ids(self, case: str, array: str = "input_ids") -> list[int]:
        ids: list[int] = self.array(f"{case}/{array}")[0].tolist()
        return ids


def copy_golden(folder: Path, form: str = "fp16", **changes: Any) -> Path:
    """A copy that may be changed, with the tokenizer that the quantised forms lack."""
    shutil.copytree(GOLDEN / form, folder, dirs_exist_ok=True)
    shutil.copy(CHATGLM / "ice_text.model", folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def golden_tensors(form: str) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in read_tensors(GOLDEN / form)}


def drop_weights(folder: Path) -> None:
    for path in [*folder.glob("pytorch_model*"), *folder.glob("model*.safetensors*")]:
        path.unlink()


def write_safetensors(folder: Path, tensors: dict[str, Tensor]) -> Path:
    drop_weights(folder)
    save_file(tensors, folder / "model.safetensors")
    return folder


def assert_logits(ours: NDArray[Any] | Tensor, golden: NDArray[Any]) -> None:
    np.testing.assert_allclose(np.asarray(ours), golden, atol=2e-4, rtol=0)
