"""ChatGLM in the precisions meant for speed, computed by torch, against the exact float32."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from backends.server import load_model
from backends.server.batch import FlatBatch, Span
from backends.server.chatglm import possible_precisions
from backends.server.checkpoints.int4 import kernel_layout
from backends.server.errors import CheckpointError
from tests.backends.server.chatglm_checkpoints import (
    FORMS,
    QUANTISED,
    Recorded,
    copy_golden,
    golden_tensors,
    write_safetensors,
)
from tests.backends.server.qwen2_checkpoints import CHATGLM, module_of
from tests.paths import ROOT

CASES = ("prompt_gmask", "prompt_mask", "both_masks_model_positions", "teacher_forced_loss")
# Of the logits' spread; three layers of 64 columns leave rounding little to average out over.
TOLERANCE = 0.08


def _relative_error(ours: NDArray[Any], exact: NDArray[Any]) -> float:
    return float(np.sqrt(np.square(ours - exact).mean()) / exact.std())


def _errors(recorded: Recorded) -> dict[str, float]:
    return {
        case: _relative_error(
            recorded.model.logits(recorded.ids(case)), recorded.array(f"{case}/logits")[0]
        )
        for case in CASES
    }


@pytest.fixture(scope="module", autouse=True)
def by_torch() -> Iterator[None]:
    """Also where there are kernels of our own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWOPANE_KERNELS", "torch")
        yield


@pytest.fixture(scope="module", params=QUANTISED)
def fast(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = copy_golden(tmp_path_factory.mktemp(request.param), request.param)
    return Recorded(request.param, load_model(folder, QUANTISED[request.param]))


def test_the_checkpoint_chooses_its_own_bits(tmp_path: Path) -> None:
    for form, precision in QUANTISED.items():
        folder = copy_golden(tmp_path / form, form)
        assert possible_precisions(folder) == (precision, "float32")
        assert load_model(folder, None).precision == precision


@pytest.mark.parametrize(
    ("form", "precision"),
    [("fp16", "int8"), ("fp16", "int4"), ("int8", "int4"), ("int4", "int8"), ("int4", "bfloat16")],
)
def test_a_precision_that_the_checkpoint_has_not_is_refused_with_those_it_has(
    tmp_path: Path, form: str, precision: str
) -> None:
    possible = "bfloat16" if form == "fp16" else form
    with pytest.raises(CheckpointError, match=f"{precision}.*possible: .*{possible}"):
        load_model(copy_golden(tmp_path, form), precision)


def test_logits_are_those_of_float32_up_to_rounding(fast: Recorded) -> None:
    assert max(_errors(fast).values()) < TOLERANCE
    logits = fast.model.logits(fast.ids("prompt_gmask"))
    assert logits.dtype == np.float32


def test_bfloat16_gives_the_logits_of_float32_up_to_rounding() -> None:
    recorded = Recorded("fp16", load_model(CHATGLM, "bfloat16"))
    assert max(_errors(recorded).values()) < TOLERANCE


def test_a_prompt_of_many_tokens_gives_the_same_logits(fast: Recorded) -> None:
    ids = fast.ids("long_prompt")
    whole = fast.model.logits(ids)[-4:]
    assert _relative_error(whole, fast.array("long_prompt/logits_last4")[0]) < 2 * TOLERANCE


def test_cached_steps_give_the_logits_of_a_whole_sequence(fast: Recorded) -> None:
    model = fast.model
    cache = model.network.new_cache()
    rows = [model.step([Span(tuple(fast.ids("incremental", "prompt_ids")), cache)])]
    steps = fast.ids("incremental", "step_ids")
    rows += [model.step([Span((token,), cache)]) for token in steps]
    whole = model.logits([*fast.ids("incremental", "prompt_ids"), *steps])
    assert _relative_error(np.concatenate(rows), whole[-len(rows) :]) < TOLERANCE


def test_rows_of_a_flat_batch_are_the_rows_alone(fast: Recorded) -> None:
    rows = [fast.ids("prompt_gmask"), fast.ids("greedy_single")]
    together = fast.model.network.step(FlatBatch.of(rows))
    alone = np.concatenate([fast.model.logits(row) for row in rows])
    assert _relative_error(together, alone) < TOLERANCE


def test_the_matrices_of_the_layers_stay_quantised(fast: Recorded) -> None:
    network = module_of(fast.model)
    bits = int(QUANTISED[fast.form].removeprefix("int"))
    for name, module in network.named_modules():
        if name.endswith(("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")):
            weight = module.get_buffer("weight")
            assert weight.dtype in (torch.int8, torch.uint8)
            assert weight.nbytes == module.outputs * module.inputs * bits // 8


def test_the_embedding_is_kept_once(fast: Recorded) -> None:
    network = module_of(fast.model)
    rows = [name for name, tensor in network.state_dict().items() if len(tensor) == 896]
    scale = ["transformer.word_embeddings.weight_scale"] if fast.form == "int4qe" else []
    assert rows == ["transformer.word_embeddings.weight", *scale]


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_shapes_that_the_kernels_do_not_take_are_computed_without_them(
    tmp_path: Path, form: str
) -> None:
    folder = _cut_down(copy_golden(tmp_path, form), form)
    ids = [5, 6, 7, 268, 271]
    exact = load_model(folder).logits(ids)
    assert np.isfinite(exact).all()
    assert _relative_error(load_model(folder, form).logits(ids), exact) < TOLERANCE


def _cut_down(folder: Path, form: str) -> Path:
    """The checkpoint with 48 columns and an inner width of 40, which no kernel takes."""
    sizes = {64: 48, 32: 24, 192: 144, 256: 40, 128: 20, 896: 896}
    tensors = {}
    for name, tensor in golden_tensors(form).items():
        kept = () if name.endswith("inv_freq") else map(sizes.__getitem__, tensor.shape)
        tensors[name] = tensor[tuple(slice(size) for size in kept)].clone()
    write_safetensors(folder, tensors)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_size": 48, "inner_hidden_size": 40}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_greedy_answers_of_the_fast_precisions_are_those_of_float32_where_it_is_sure(
    tmp_path: Path, form: str
) -> None:
    precision = QUANTISED.get(form, "bfloat16")
    folder = copy_golden(tmp_path, form)
    recorded = Recorded(form, load_model(folder, precision))
    prompt, sequence = recorded.ids("greedy_single"), recorded.ids("greedy_single", "sequences")
    logits = recorded.model.logits(sequence)[len(prompt) - 1 : -1]
    sure = recorded.array("greedy_single/margins")[0] > 2.5
    golden = np.array(sequence[len(prompt) :])
    assert sure.sum() >= 5
    assert (logits.argmax(axis=-1)[sure] == golden[sure]).all()


_LOGITS = """
import json, sys
import numpy as np
from backends.server import load_model
from backends.server.checkpoints.int4 import kernel_layout
folder, result, ids = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
model = load_model(folder, None)
np.savez(result, name=kernel_layout().name, few=model.logits(ids[-9:]), many=model.logits(ids))
"""


def _in_another_process(
    capability: str, folder: Path, result: Path, ids: list[int]
) -> tuple[str, NDArray[Any]]:
    """The kernel's layout, and logits after few and many tokens, where torch uses less."""
    arguments = [sys.executable, "-c", _LOGITS, str(folder), str(result), json.dumps(ids)]
    environment = os.environ | {"ATEN_CPU_CAPABILITY": capability}
    subprocess.run(arguments, check=True, cwd=ROOT, env=environment)
    with np.load(result) as given:
        return str(given["name"]), np.concatenate((given["few"], given["many"]))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["int4", "int4qe"])
def test_every_layout_of_the_kernel_gives_the_same_logits(tmp_path: Path, form: str) -> None:
    folder = copy_golden(tmp_path / "model", form)
    recorded = Recorded(form, load_model(folder))
    ids = recorded.ids("long_prompt")
    golden = np.concatenate((recorded.model.logits(ids[-9:]), recorded.model.logits(ids)))
    layouts = set()
    for capability in ("default", "avx2", "avx512"):
        layout, ours = _in_another_process(capability, folder, tmp_path / "logits.npz", ids)
        assert _relative_error(ours, golden) < 2 * TOLERANCE, capability
        layouts.add(layout)
    assert "default" in layouts
    best = kernel_layout()
    assert best is not None
    assert best.name in layouts
    # One process's layout never overwrites another's.
    packed = {path.stem for path in (folder / "twopane").glob("*.safetensors")}
    assert packed == {f"int4-{layout}" for layout in layouts}
