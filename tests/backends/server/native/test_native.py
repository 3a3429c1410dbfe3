import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from backends.server import ChatModel, load_model
from backends.server.batch import FlatBatch, Span
from backends.server.eager.network import TorchNetwork
from backends.server.errors import SequenceError
from backends.server.kernels import SETTING, possible_levels
from tests.backends.server.native.networks import (
    Prompts,
    dequantised,
    in_eight_bits,
    make_chatglm,
    make_qwen,
    native_of,
    prompts_of,
    step,
    with_quantised_table,
)
from tests.paths import ROOT

KINDS = (
    *("qwen-int8", "qwen-int4", "qwen-tied-int8"),
    *("chatglm-int4", "chatglm8-int8", "chatglmqe-int4"),
)
# Of the logits' spread: activations are rounded to 127 steps before each product.
ROUNDING = 0.03


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    chatglm = make_chatglm(folder / "chatglm")
    return {
        "qwen": make_qwen(folder / "qwen"),
        "qwen-tied": make_qwen(folder / "qwen-tied", tied=True),
        "chatglm": chatglm,
        "chatglm8": in_eight_bits(chatglm, folder / "chatglm8"),
        "chatglmqe": with_quantised_table(chatglm, folder / "chatglmqe"),
    }


def _load(folders: dict[str, Path], kind: str) -> ChatModel:
    name, _, precision = kind.rpartition("-")
    return load_model(folders[name], precision)


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, folders: dict[str, Path]) -> ChatModel:
    return _load(folders, request.param)


@pytest.fixture
def prompts(model: ChatModel) -> Prompts:
    return prompts_of(model)


def _relative_error(ours: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.square(ours - exact).mean()) / exact.std())


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_quantised_weights_in_float32(
    folders: dict[str, Path], kind: str
) -> None:
    model = _load(folders, kind)
    name, _, precision = kind.rpartition("-")
    exact = dequantised(folders[name], precision)
    ids = prompts_of(model)
    for prompt in (ids.short, ids.long, (*ids.short, *ids.answer)):
        ours, theirs = model.logits(prompt), exact.logits(prompt)
        assert ours.shape == theirs.shape
        assert _relative_error(ours, theirs) < ROUNDING


@pytest.mark.parametrize("kind", KINDS)
def test_every_level_gives_the_same_bits(
    folders: dict[str, Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for level in possible_levels():
        monkeypatch.setenv(SETTING, level.name)
        model = _load(folders, kind)
        assert native_of(model).compute.level == level
        results.append(model.logits(prompts_of(model).long))
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


@pytest.mark.parametrize("kind", KINDS)
def test_torch_computes_where_it_is_forced(
    folders: dict[str, Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = _load(folders, kind)
    monkeypatch.setenv(SETTING, "torch")
    by_torch = _load(folders, kind)
    assert isinstance(by_torch.network, TorchNetwork)
    ids = prompts_of(native).short
    assert _relative_error(by_torch.logits(ids), native.logits(ids)) < 2 * ROUNDING


def test_steps_give_the_bits_of_the_whole_sequence(model: ChatModel, prompts: Prompts) -> None:
    network = native_of(model)
    cache = network.new_cache()
    rows = [step(network, (prompts.long, cache))]
    rows += [step(network, ((token,), cache)) for token in prompts.answer]
    whole = model.logits((*prompts.long, *prompts.answer))
    np.testing.assert_array_equal(np.concatenate(rows), whole[len(prompts.long) - 1 :])
    assert cache.token_ids == [*prompts.long, *prompts.answer]


def test_company_changes_no_bit(model: ChatModel, prompts: Prompts) -> None:
    network = native_of(model)
    alone = [model.logits((*prompts.short, token))[-1] for token in prompts.answer[:5]]
    caches = [network.new_cache() for _ in range(5)]
    for cache in caches:
        step(network, (prompts.short, cache))
    other = network.new_cache()
    spans = [((t,), cache) for t, cache in zip(prompts.answer, caches, strict=False)]
    rows = step(network, *spans[:3], (prompts.long, other), *spans[3:])
    np.testing.assert_array_equal(rows[[0, 1, 2, 4, 5]], alone)
    np.testing.assert_array_equal(rows[3], model.logits(prompts.long)[-1])


def test_the_number_of_threads_changes_no_bit(folders: dict[str, Path]) -> None:
    for name, precision in (("qwen", "int4"), ("chatglm", "int4")):
        one, three = (load_model(folders[name], precision, threads=n) for n in (1, 3))
        ids = prompts_of(one).long
        np.testing.assert_array_equal(one.logits(ids), three.logits(ids))


def test_a_prompt_in_pieces_gives_the_bits_of_the_whole(folders: dict[str, Path]) -> None:
    model = _load(folders, "qwen-int8")
    ids, network = prompts_of(model).long, native_of(model)
    assert network.chunkable
    cache = network.new_cache()
    for start in range(0, len(ids), 77):
        last = step(network, (ids[start : start + 77], cache))
    np.testing.assert_array_equal(last[0], model.logits(ids)[-1])


def test_slices_leave_room_for_others(model: ChatModel, prompts: Prompts) -> None:
    network = native_of(model)
    other = network.new_cache()
    step(network, (prompts.short, other))
    cache = network.new_cache()
    slices = network.slices(FlatBatch.step([Span(prompts.long, cache)]))
    pauses = 0
    while True:
        try:
            next(slices)
        except StopIteration as end:
            row = end.value[0]
            break
        token = prompts.answer[pauses % len(prompts.answer)]
        step(network, ((token,), other))
        pauses += 1
    assert pauses > 0
    np.testing.assert_array_equal(row, model.logits(prompts.long)[-1])
    np.testing.assert_array_equal(
        step(network, ((9,), other))[0], model.logits(other.token_ids)[-1]
    )


def test_slices_that_are_dropped_do_no_harm(model: ChatModel, prompts: Prompts) -> None:
    network = native_of(model)
    expected = model.logits(prompts.long)[-1]
    for _ in range(3):
        slices = network.slices(FlatBatch.step([Span(prompts.long, network.new_cache())]))
        next(slices)
        slices.close()
    np.testing.assert_array_equal(step(network, (prompts.long, network.new_cache()))[0], expected)


def test_a_copied_prefix_goes_on_like_the_original(model: ChatModel, prompts: Prompts) -> None:
    network = native_of(model)
    cache = network.new_cache()
    step(network, ((*prompts.long, *prompts.answer), cache))
    length = len(prompts.long) + 3
    copied = cache.prefix(length)
    cache.truncate(length)
    expected = model.logits((*cache.token_ids, 7))[-1]
    for one in (copied, cache):
        np.testing.assert_array_equal(step(network, ((7,), one))[0], expected)
    assert copied.nbytes > 0


def test_only_the_rows_that_are_wanted_get_logits(model: ChatModel, prompts: Prompts) -> None:
    network, length = native_of(model), len(prompts.long)
    batch = FlatBatch.of([prompts.long, prompts.short], rows=[length + 4, 0, 550, length - 1, 0])
    whole = np.concatenate([model.logits(prompts.long), model.logits(prompts.short)])
    np.testing.assert_array_equal(network.step(batch), whole[list(batch.rows or ())])


def test_a_sequence_that_is_longer_than_the_context_is_refused(model: ChatModel) -> None:
    network = native_of(model)
    with pytest.raises(SequenceError, match=f"at most {network.context} tokens"):
        step(network, ([9] * (network.context + 1), network.new_cache()))


def test_odd_shapes_are_computed_by_torch(tmp_path: Path) -> None:
    narrow = make_qwen(tmp_path / "narrow", head_dim=16)
    sliding = make_qwen(
        tmp_path / "sliding", use_sliding_window=True, sliding_window=8, max_window_layers=0
    )
    for folder in (narrow, sliding):
        assert isinstance(load_model(folder, "int8").network, TorchNetwork)


_LOAD = """
import sys
from backends.server.model import load_model
model = load_model(sys.argv[1], sys.argv[2], threads=1)
prompt = model.tokenizer.encode_chat([{"role": "user", "content": "a b"}])
assert model.generate(prompt, 5, 1.0, top_k=5, seed=1)
print(sorted({"torch", "transformers", "pandas"} & set(sys.modules)))
"""


@pytest.mark.parametrize("kind", ["qwen-int8", "chatglm-int4"])
def test_a_packed_network_answers_without_torch(folders: dict[str, Path], kind: str) -> None:
    _load(folders, kind)  # packs it
    name, _, precision = kind.rpartition("-")
    command = [sys.executable, "-c", _LOAD, str(folders[name]), precision]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False, timeout=120
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
