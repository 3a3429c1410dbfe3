"""ChatGLM against the recorded outputs of its original code; see golden/README.md."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from backends.server import ChatModel, load_model, load_tokenizer
from backends.server.batch import FlatBatch, Span
from backends.server.chatglm import ChatGLMConfig, ChatGLMNetwork, ChatGLMTokenizer
from backends.server.chatglm.prompt import process_response
from backends.server.errors import CheckpointError, SequenceError
from backends.server.weights import read_tensors
from tests.backends.server.checkpoints import CHATGLM, GOLDEN

ARRAYS = np.load(GOLDEN / "cases.npz")
CASES: dict[str, Any] = {
    case["name"]: case for case in json.loads((GOLDEN / "cases.json").read_text())["cases"]
}
TEXTS: list[dict[str, Any]] = [
    case for case in json.loads((GOLDEN / "tokenizer_cases.json").read_text()) if "text" in case
]
REAL_TOKENIZER = Path(
    os.environ.get("CHATGLM_TOKENIZER")
    or Path(__file__).parents[4] / "shared" / "chatglm" / "tokenizer"
)


def _array(name: str) -> Tensor:
    return torch.from_numpy(ARRAYS[f"fp16/{name}"])


def _ids(name: str, array: str = "input_ids") -> list[int]:
    ids: list[int] = _array(f"{name}/{array}")[0].tolist()
    return ids


def _assert_logits(ours: Tensor, golden: Tensor) -> None:
    torch.testing.assert_close(ours, golden, atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    "case", ["prompt_gmask", "prompt_mask", "both_masks_model_positions", "teacher_forced_loss"]
)
def test_logits_equal_the_originals(chatglm: ChatModel, case: str) -> None:
    _assert_logits(chatglm.logits(_ids(case)), _array(f"{case}/logits")[0])


def test_logits_at_the_end_of_a_long_prompt_equal_the_originals(chatglm: ChatModel) -> None:
    ours = chatglm.logits(_ids("long_prompt"))[-4:]
    _assert_logits(ours, _array("long_prompt/logits_last4")[0])


@torch.inference_mode()
def test_given_positions_replace_the_models_rule(chatglm: ChatModel) -> None:
    case = "both_masks_tokenizer_positions"
    span = Span(tuple(_ids(case)), positions=_array(f"{case}/position_ids")[0])
    _assert_logits(chatglm.network(FlatBatch((span,))), _array(f"{case}/logits")[0])


def test_rows_of_a_padded_batch_equal_the_rows_alone(chatglm: ChatModel) -> None:
    case = "batch2_left_pad"
    for ids, golden, valid in zip(
        _array(f"{case}/input_ids"),
        _array(f"{case}/logits"),
        _array(f"{case}/valid"),
        strict=True,
    ):
        _assert_logits(chatglm.logits(ids[valid].tolist()), golden[valid])


def test_step_by_step_logits_equal_the_originals(chatglm: ChatModel) -> None:
    cache = chatglm.network.new_cache()
    first = chatglm.step([Span(tuple(_ids("incremental", "prompt_ids")), cache)])
    _assert_logits(first, _array("incremental/prefill_logits_last"))
    steps = [chatglm.step([Span((t,), cache)]) for t in _ids("incremental", "step_ids")]
    _assert_logits(torch.cat(steps), _array("incremental/step_logits")[0])


@pytest.mark.parametrize("case", ["greedy_single", "greedy_stops_at_eop", "greedy_mask"])
def test_greedy_ids_equal_the_originals(chatglm: ChatModel, case: str) -> None:
    prompt, sequence = _ids(case), _ids(case, "sequences")
    assert chatglm.generate(prompt, len(sequence) - len(prompt)) == sequence[len(prompt) :]


def test_greedy_rows_of_a_padded_batch_equal_the_rows_alone(chatglm: ChatModel) -> None:
    case, pad = "greedy_batch2_left_pad", chatglm.tokenizer.encode_plain("<pad>")[0]
    for ids, sequence in zip(
        _array(f"{case}/input_ids").tolist(), _array(f"{case}/sequences").tolist(), strict=True
    ):
        prompt = [token for token in ids if token != pad]
        golden = sequence[len(ids) :]
        new = chatglm.generate(prompt, len(golden))
        assert new + [pad] * (len(golden) - len(new)) == golden


def test_the_training_loss_equals_the_originals(chatglm: ChatModel) -> None:
    labels = _array("teacher_forced_loss/labels")[0]
    logits = chatglm.logits(_ids("teacher_forced_loss"))
    loss = torch.nn.functional.cross_entropy(logits[:-1], labels[1:])
    torch.testing.assert_close(loss, _array("teacher_forced_loss/loss"), atol=2e-4, rtol=0)


@pytest.mark.parametrize("case", TEXTS, ids=lambda case: repr(case["text"][:20]))
def test_the_tokenizer_equals_the_original(chatglm: ChatModel, case: dict[str, Any]) -> None:
    tokenizer = chatglm.tokenizer
    assert tokenizer.encode(case["text"]) == case["input_ids"]
    assert tokenizer.encode_plain(case["text"]) == case["ids_no_special"]
    assert tokenizer.decode(case["input_ids"]) == case["decoded"]


@pytest.mark.skipif(
    not (REAL_TOKENIZER / "ice_text.model").exists(),
    reason="the real tokenizer file isn't part of the project; CHATGLM_TOKENIZER names its folder",
)
def test_the_tokenizer_equals_the_original_with_the_real_file() -> None:
    tokenizer = load_tokenizer(REAL_TOKENIZER)
    recorded = json.loads((REAL_TOKENIZER / "cases.json").read_text())
    for case in recorded["cases"]:
        assert tokenizer.encode(case["text"]) == case["input_ids"]
        assert tokenizer.encode_plain(case["text"]) == case["ids_no_special"]
        assert tokenizer.decode(case["input_ids"]) == case["decoded"]
    for case in recorded["decode"]:
        assert tokenizer.decode(case["ids"]) == case["text"]


@pytest.mark.parametrize("case", ["chat_history", "chat_one_round"])
def test_chat_prompts_and_answers_equal_the_originals(chatglm: ChatModel, case: str) -> None:
    recorded = CASES[case]
    messages = [
        {"role": role, "content": content}
        for pair in recorded["history"]
        for role, content in zip(("user", "assistant"), pair, strict=True)
    ]
    prompt = chatglm.tokenizer.encode_chat(
        [*messages, {"role": "user", "content": recorded["query"]}]
    )
    assert prompt == recorded["input_ids"]
    new = chatglm.generate(prompt, len(recorded["output_ids"]) - len(prompt))
    assert prompt + new == recorded["output_ids"]
    assert chatglm.tokenizer.answer(new) == recorded["response"]


def test_the_first_turn_is_the_bare_question(chatglm: ChatModel) -> None:
    recorded = CASES["chat_first_turn"]
    prompt = chatglm.tokenizer.encode_chat([{"role": "user", "content": recorded["query"]}])
    assert prompt == chatglm.tokenizer.encode(recorded["query"])
    new = chatglm.generate(prompt, recorded["max_length"] - len(prompt))
    assert chatglm.tokenizer.answer(new) == recorded["response"]


@pytest.mark.parametrize(("raw", "shown"), CASES["process_response"]["pairs"])
def test_responses_are_processed_like_the_originals(raw: str, shown: str) -> None:
    assert process_response(raw) == shown


def test_a_system_text_stands_in_front_of_the_first_question(chatglm: ChatModel) -> None:
    messages = [{"role": "system", "content": "abc"}, {"role": "user", "content": "def"}]
    assert chatglm.tokenizer.encode_chat(messages) == chatglm.tokenizer.encode("abc\ndef")


def test_the_oldest_vocabulary_is_shifted_by_its_image_tokens(tmp_path: Path) -> None:
    slim = load_tokenizer(CHATGLM)
    shutil.copy(CHATGLM / "ice_text.model", tmp_path)
    config = json.loads((CHATGLM / "config.json").read_text())
    shifted_ids = {k: v + 20000 for k, v in config.items() if k.endswith("_token_id")}
    (tmp_path / "config.json").write_text(json.dumps(config | shifted_ids))
    shifted = load_tokenizer(tmp_path)
    assert shifted.encode("你好 [MASK]") == [token + 20000 for token in slim.encode("你好 [MASK]")]
    assert shifted.decode(shifted.encode("你好")) == "你好"
    assert 0 not in shifted.decodable


@pytest.mark.parametrize("missing", ["<sop>", "[gMASK]"])
def test_a_sequence_without_its_control_tokens_is_refused(chatglm: ChatModel, missing: str) -> None:
    prompt = chatglm.tokenizer.encode("abc")
    ids = prompt[:-1] if missing == "<sop>" else [*prompt[:-2], prompt[-1]]
    with pytest.raises(SequenceError, match=missing.strip("[]<>")):
        chatglm.logits(ids)


def _copy(folder: Path, **changes: Any) -> Path:
    shutil.copytree(CHATGLM, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _as_safetensors(folder: Path, tensors: dict[str, Tensor]) -> Path:
    for path in folder.glob("pytorch_model*"):
        path.unlink()
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_safetensors_without_a_head_load_like_the_published_files(
    chatglm: ChatModel, tmp_path: Path
) -> None:
    tensors = {n: t.clone() for n, t in read_tensors(CHATGLM) if n != "lm_head.weight"}
    folder = _as_safetensors(_copy(tmp_path), tensors)
    ids = _ids("prompt_gmask")
    torch.testing.assert_close(load_model(folder).logits(ids), chatglm.logits(ids))


def test_where_a_file_holds_two_matrices_the_heads_one_counts(
    chatglm: ChatModel, tmp_path: Path
) -> None:
    tensors = {name: tensor.clone() for name, tensor in read_tensors(CHATGLM)}
    tensors["transformer.word_embeddings.weight"] *= 2
    folder = _as_safetensors(_copy(tmp_path), tensors)
    ids = _ids("prompt_gmask")
    torch.testing.assert_close(load_model(folder).logits(ids), chatglm.logits(ids))


def test_a_new_network_saves_what_loads_again(tmp_path: Path) -> None:
    tokenizer = ChatGLMTokenizer.from_folder(CHATGLM)
    config = ChatGLMConfig(
        hidden_size=32,
        num_layers=2,
        num_attention_heads=2,
        inner_hidden_size=64,
        vocab_size=len(tokenizer.decodable),
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        mask_token_id=tokenizer.mask_id,
        gmask_token_id=tokenizer.gmask_id,
    )
    network = ChatGLMNetwork(config)
    network.save(tmp_path)
    tokenizer.save(tmp_path)
    ids = tokenizer.encode("你好 fox")
    with torch.inference_mode():
        logits = network.half().float()(FlatBatch.of([ids]))
    loaded = load_model(tmp_path)
    torch.testing.assert_close(loaded.logits(ids), logits, atol=1e-5, rtol=0)
    assert loaded.tokenizer.encode("你好 fox") == ids
    names = load_file(tmp_path / "model.safetensors").keys()
    assert {n.replace("layers.0.", "layers.{i}.") for n in names if ".0." in n} | {
        n for n in names if "layers" not in n
    } == {
        "transformer.word_embeddings.weight",
        "transformer.final_layernorm.weight",
        "transformer.final_layernorm.bias",
        *(
            f"transformer.layers.{{i}}.{part}.{kind}"
            for part in (
                "input_layernorm",
                "attention.query_key_value",
                "attention.dense",
                "post_attention_layernorm",
                "mlp.dense_h_to_4h",
                "mlp.dense_4h_to_h",
            )
            for kind in ("weight", "bias")
        ),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantization_bit": 4}, "quantised"),
        ({"pre_seq_len": 128}, "P-tuning"),
        ({"position_encoding_2d": False}, "2-D"),
        ({"multi_query_attention": True}, "ChatGLM2"),
        ({"model_type": "llama"}, "llama"),
        ({"hidden_size": 32}, "don't fit"),
        ({"num_layers": 4}, "don't fit"),
        ({"num_attention_heads": 3}, "multiple of four"),
    ],
)
def test_what_can_not_be_loaded_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_model(_copy(tmp_path, **changes))


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(CheckpointError, match="float32"):
        load_model(CHATGLM, precision="int2")


def test_loading_chatglm_imports_no_transformers() -> None:
    code = (
        "import sys; from backends.server import load_model; "
        f"load_model({str(CHATGLM)!r}); sys.exit('transformers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
