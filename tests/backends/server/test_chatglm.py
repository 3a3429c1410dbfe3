"""ChatGLM against the recorded outputs of its original code; see golden/README.md."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from backends.server import ChatModel, load_model, load_tokenizer
from backends.server.batch import FlatBatch, Span
from backends.server.chatglm import ChatGLMConfig, ChatGLMTokenizer
from backends.server.chatglm.network import ChatGLMNetwork
from backends.server.chatglm.prompt import process_response
from backends.server.eager.kv_cache import TorchCache
from backends.server.engine.answer import AnswerWriter
from backends.server.errors import CheckpointError, SequenceError
from tests.backends.server.chatglm_checkpoints import (
    ARRAYS,
    CASES,
    EMBEDDING,
    FORMS,
    HEAD,
    QUANTISED,
    REAL_TOKENIZER,
    Recorded,
    assert_logits,
    copy_golden,
    golden_tensors,
    needs_real_tokenizer,
    write_safetensors,
)
from tests.backends.server.qwen2_checkpoints import CHATGLM, GOLDEN, module_of
from tests.paths import ROOT

TEXTS: list[dict[str, Any]] = [
    case for case in json.loads((GOLDEN / "tokenizer_cases.json").read_text()) if "text" in case
]


@pytest.fixture(scope="module", params=FORMS)
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = copy_golden(tmp_path_factory.mktemp(request.param), request.param)
    return Recorded(request.param, load_model(folder))


def _network(model: ChatModel) -> ChatGLMNetwork:
    module = module_of(model)
    assert isinstance(module, ChatGLMNetwork)
    return module


@pytest.mark.parametrize(
    "case", ["prompt_gmask", "prompt_mask", "both_masks_model_positions", "teacher_forced_loss"]
)
def test_logits_equal_the_originals(recorded: Recorded, case: str) -> None:
    assert_logits(recorded.model.logits(recorded.ids(case)), recorded.array(f"{case}/logits")[0])


def test_logits_at_the_end_of_a_long_prompt_equal_the_originals(recorded: Recorded) -> None:
    ours = recorded.model.logits(recorded.ids("long_prompt"))[-4:]
    assert_logits(ours, recorded.array("long_prompt/logits_last4")[0])


def test_given_positions_replace_the_models_rule(recorded: Recorded) -> None:
    case = "both_masks_tokenizer_positions"
    span = Span(tuple(recorded.ids(case)), positions=recorded.array(f"{case}/position_ids")[0])
    ours = recorded.model.network.step(FlatBatch((span,)))
    assert_logits(ours, recorded.array(f"{case}/logits")[0])


def test_what_goes_into_each_layer_equals_the_originals(recorded: Recorded) -> None:
    network = _network(recorded.model)
    seen: list[Tensor] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
        for layer in network.transformer.layers
    ]
    hooks.append(
        network.transformer.final_layernorm.register_forward_hook(
            lambda _module, _given, result: seen.append(result)
        )
    )
    recorded.model.logits(recorded.ids("prompt_gmask"))
    for hook in hooks:
        hook.remove()
    golden = recorded.array("prompt_gmask/hidden_states")[:, 0]
    assert_logits(torch.stack(seen), golden)


def test_rows_of_a_padded_batch_equal_the_rows_alone(recorded: Recorded) -> None:
    case = "batch2_left_pad"
    valid = recorded.array(f"{case}/valid")
    rows = [
        ids[kept].tolist()
        for ids, kept in zip(recorded.array(f"{case}/input_ids"), valid, strict=True)
    ]
    golden = recorded.array(f"{case}/logits")
    for row, logits, kept in zip(rows, golden, valid, strict=True):
        assert_logits(recorded.model.logits(row), logits[kept])
    together = recorded.model.network.step(FlatBatch.of(rows))
    assert_logits(together, golden[valid])


def test_step_by_step_logits_and_caches_equal_the_originals(recorded: Recorded) -> None:
    model = recorded.model
    cache = model.network.new_cache()
    assert isinstance(cache, TorchCache)
    first = model.step([Span(tuple(recorded.ids("incremental", "prompt_ids")), cache)])
    assert_logits(first, recorded.array("incremental/prefill_logits_last"))
    for place, layer in (("layer0", 0), ("last", -1)):
        keys, values = (part.transpose(0, 1) for part in cache.stored(layer))
        assert_logits(keys, recorded.array(f"incremental/prefill_cache_{place}_key")[:, 0])
        assert_logits(values, recorded.array(f"incremental/prefill_cache_{place}_value")[:, 0])
    ids = recorded.ids("incremental", "step_ids")
    steps = [model.step([Span((token,), cache)]) for token in ids]
    assert_logits(np.concatenate(steps), recorded.array("incremental/step_logits")[0])
    keys = cache.stored(0)[0].transpose(0, 1)
    assert_logits(keys, recorded.array("incremental/final_cache_layer0_key")[:, 0])
    whole = model.logits([*recorded.ids("incremental", "prompt_ids"), *ids])
    assert_logits(whole[-len(ids) :], recorded.array("incremental/full_logits")[0])


def test_greedy_ids_equal_the_originals(recorded: Recorded) -> None:
    named = ("greedy_single", "greedy_stops_at_eop", "greedy_mask")
    cases = [case for case in named if recorded.has(f"{case}/input_ids")]
    assert len(cases) == (3 if recorded.form == "fp16" else 1)
    for case in cases:
        prompt, sequence = recorded.ids(case), recorded.ids(case, "sequences")
        golden = sequence[len(prompt) :]
        assert recorded.model.generate(prompt, len(golden)) == golden
        steps = recorded.array(f"{case}/step_logits")[0]
        assert_logits(recorded.model.logits(sequence)[len(prompt) - 1 :][: len(steps)], steps)


def test_greedy_rows_of_a_padded_batch_equal_the_rows_alone(recorded: Recorded) -> None:
    case, model = "greedy_batch2_left_pad", recorded.model
    pad = model.tokenizer.encode_plain("<pad>")[0]
    for ids, sequence in zip(
        recorded.array(f"{case}/input_ids").tolist(),
        recorded.array(f"{case}/sequences").tolist(),
        strict=True,
    ):
        prompt = [token for token in ids if token != pad]
        golden = sequence[len(ids) :]
        new = model.generate(prompt, len(golden))
        assert new + [pad] * (len(golden) - len(new)) == golden


def test_the_training_loss_equals_the_originals(recorded: Recorded) -> None:
    labels = recorded.array("teacher_forced_loss/labels")[0]
    logits = recorded.model.logits(recorded.ids("teacher_forced_loss"))
    shares = torch.from_numpy(logits[:-1])
    loss = functional.cross_entropy(shares, torch.from_numpy(labels[1:]))
    assert_logits(loss, recorded.array("teacher_forced_loss/loss"))


def test_the_score_of_the_originals_best_beam_is_the_same(chatglm: ChatModel) -> None:
    recorded = Recorded("fp16", chatglm)
    prompt, sequence = recorded.ids("beam3"), recorded.ids("beam3", "sequences")
    new = torch.tensor(sequence[len(prompt) :])
    logits = torch.from_numpy(chatglm.logits(sequence)[len(prompt) - 1 : -1])
    said = logits.log_softmax(dim=-1).gather(1, new.unsqueeze(1))
    # transformers of that day divided by the length with the prompt.
    score = said.sum() / len(sequence)
    golden = recorded.array("beam3/sequences_scores")[0]
    assert_logits(score, golden)


@pytest.mark.parametrize("form", QUANTISED)
def test_dequantised_weights_equal_the_originals_exactly(form: str, tmp_path: Path) -> None:
    network = _network(load_model(copy_golden(tmp_path, form)))
    weights = network.get_submodule("transformer.layers.0.attention.query_key_value")
    golden = torch.from_numpy(ARRAYS[f"dequant/{form}/layer0_query_key_value_weight"])
    assert torch.equal(weights.rows(torch.arange(len(golden))), golden)  # type: ignore[operator]


@pytest.mark.parametrize("case", TEXTS, ids=lambda case: repr(case["text"][:20]))
def test_the_tokenizer_equals_the_original(chatglm: ChatModel, case: dict[str, Any]) -> None:
    tokenizer = chatglm.tokenizer
    assert tokenizer.encode(case["text"]) == case["input_ids"]
    assert tokenizer.encode_plain(case["text"]) == case["ids_no_special"]
    assert tokenizer.decode(case["input_ids"]) == case["decoded"]


def _encode_pair(tokenizer: ChatGLMTokenizer, first: str, second: str) -> list[int]:
    """As the original does it: not needed to chat, but recorded."""
    return [*tokenizer.encode(first), *tokenizer.encode_plain(second), tokenizer.eos_id]


def test_a_pair_of_texts_is_what_the_original_makes_of_it() -> None:
    recorded = json.loads((GOLDEN / "tokenizer_cases.json").read_text())
    pairs = [case for case in recorded if "pair" in case]
    assert pairs
    for case in pairs:
        assert _encode_pair(_tokenizer(CHATGLM), *case["pair"]) == case["input_ids"]


def _tokenizer(folder: Path) -> ChatGLMTokenizer:
    tokenizer = load_tokenizer(folder)
    assert isinstance(tokenizer, ChatGLMTokenizer)
    return tokenizer


@needs_real_tokenizer
def test_the_tokenizer_equals_the_original_with_the_real_file() -> None:
    tokenizer = _tokenizer(REAL_TOKENIZER)
    recorded = json.loads((REAL_TOKENIZER / "cases.json").read_text())
    for case in recorded["cases"]:
        assert tokenizer.encode(case["text"]) == case["input_ids"]
        assert tokenizer.encode_plain(case["text"]) == case["ids_no_special"]
        assert tokenizer.decode(case["input_ids"]) == case["decoded"]
    for case in recorded["decode"]:
        assert tokenizer.decode(case["ids"]) == case["text"]
    pair = recorded["pair"]
    assert _encode_pair(tokenizer, *pair["text"]) == pair["input_ids"]


@needs_real_tokenizer
def test_the_real_files_special_ids_are_the_recorded_ones() -> None:
    tokenizer = _tokenizer(REAL_TOKENIZER)
    recorded = json.loads((REAL_TOKENIZER / "cases.json").read_text())
    special = recorded["special"]
    assert tokenizer.bos_id == special["bos_token_id"]
    assert tokenizer.eos_id == special["eos_token_id"]
    assert tokenizer.pad_id == special["pad_token_id"]
    assert tokenizer.mask_id == special["mask_token_id"]
    assert tokenizer.gmask_id == special["gmask_token_id"]
    assert len(tokenizer.decodable) == recorded["vocab_size"]


@needs_real_tokenizer
def test_rows_of_recorded_batches_are_the_texts_alone_behind_padding() -> None:
    tokenizer = _tokenizer(REAL_TOKENIZER)
    recorded = json.loads((REAL_TOKENIZER / "cases.json").read_text())
    texts, rows = recorded["batch"]["texts"], recorded["batch"]["input_ids"]
    rows += recorded["padded_to_8"]["input_ids"]
    for text, row in zip([*texts, texts[0]], rows, strict=True):
        alone = tokenizer.encode(text)
        assert row == [tokenizer.pad_id] * (len(row) - len(alone)) + alone
    controls = [tokenizer.gmask_id, tokenizer.bos_id]
    assert recorded["truncated_to_6"] == tokenizer.encode_plain(texts[1])[:4] + controls


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


def test_a_stream_shows_no_more_than_the_original_did_and_ends_with_the_same(
    chatglm: ChatModel,
) -> None:
    recorded = CASES["stream_chat_greedy"]
    prompt = chatglm.tokenizer.encode_chat([{"role": "user", "content": recorded["query"]}])
    new = chatglm.generate(prompt, recorded["max_length"] - len(prompt))
    writer, shown = AnswerWriter(chatglm.tokenizer), ""
    for token, original in zip(new, recorded["responses"], strict=False):
        shown += writer.add(token)
        assert original.startswith(shown)
    # The original doesn't show the step that ends it.
    assert len(new) == len(recorded["responses"]) + 1
    assert chatglm.tokenizer.answer(new[:-1]) == recorded["responses"][-1]


@pytest.mark.parametrize(("raw", "shown"), CASES["process_response"]["pairs"])
def test_responses_are_processed_like_the_originals(raw: str, shown: str) -> None:
    assert process_response(raw) == shown


def test_a_system_text_stands_in_front_of_the_first_question(chatglm: ChatModel) -> None:
    messages = [{"role": "system", "content": "abc"}, {"role": "user", "content": "def"}]
    assert chatglm.tokenizer.encode_chat(messages) == chatglm.tokenizer.encode("abc\ndef")


@pytest.mark.parametrize("text", ["<sop>", "<eop>", "<unk>", "<pad>", "[MASK]", "[gMASK]", "</s>"])
def test_control_strings_are_text_in_chat_and_only_there(chatglm: ChatModel, text: str) -> None:
    tokenizer = chatglm.tokenizer
    assert isinstance(tokenizer, ChatGLMTokenizer)
    controls = [tokenizer.gmask_id, tokenizer.bos_id]
    written = tokenizer.encode_chat([{"role": "user", "content": f"a {text} b"}])
    assert written[-2:] == controls
    first_control = min(tokenizer.mask_id, tokenizer.gmask_id)
    assert not [t for t in written[:-2] if first_control <= t <= tokenizer.eos_id or t in (0, 3)]
    assert tokenizer.decode(written) == f"a {text} b"
    # The original, and the faces that are to equal it, make control tokens of some.
    if text not in ("[gMASK]", "</s>"):
        assert tokenizer.encode(f"a {text} b") != written


def test_ids_that_can_not_be_decoded_are_not_sampled_however_likely(tmp_path: Path) -> None:
    tensors = golden_tensors("fp16")
    prompt = load_tokenizer(CHATGLM).encode("abc")
    known = load_tokenizer(CHATGLM).decodable
    unknown = slice(len(known), None)
    hidden = _last_hidden(load_model(CHATGLM), prompt)
    for name in (f"{EMBEDDING}.weight", f"{HEAD}.weight"):
        tensors[name][unknown] = hidden.half()
    model = load_model(write_safetensors(copy_golden(tmp_path), tensors))
    assert int(model.logits(prompt)[-1].argmax()) not in known
    for temperature in (0.0, 1.0):
        new = model.generate(prompt, 12, temperature, seed=1)
        assert set(new) <= set(known)
        assert model.tokenizer.decode(new)


def _last_hidden(model: ChatModel, ids: list[int]) -> Tensor:
    """What the head is multiplied with, after the last of the ids."""
    seen: list[Tensor] = []
    norm = _network(model).transformer.final_layernorm
    hook = norm.register_forward_hook(lambda _module, _given, result: seen.append(result))
    model.logits(ids)
    hook.remove()
    return seen[0][-1]


def test_a_new_cache_holds_nothing(chatglm: ChatModel) -> None:
    cache = _network(chatglm).new_cache()
    with pytest.raises(LookupError, match="Nothing"):
        cache.stored(0)


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
    np.testing.assert_allclose(loaded.logits(ids), logits, atol=1e-5, rtol=0)
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
        ({"quantization_bit": 4}, "don't fit"),
        ({"quantization_bit": 3}, "3 bits"),
        ({"pre_seq_len": 128}, "P-tuning"),
        ({"position_encoding_2d": False}, "2-D"),
        ({"hidden_size": 32}, "don't fit"),
        ({"num_layers": 4}, "don't fit"),
        ({"num_attention_heads": 3}, "multiple of four"),
    ],
)
def test_what_can_not_be_loaded_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_model(copy_golden(tmp_path, **changes))


def test_a_later_chatglm_is_refused_by_name(tmp_path: Path) -> None:
    folder = copy_golden(tmp_path)
    second = {"model_type": "chatglm", "ffn_hidden_size": 13696, "multi_query_attention": True}
    (folder / "config.json").write_text(json.dumps(second))
    with pytest.raises(CheckpointError, match="ChatGLM2"):
        load_model(folder)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(CheckpointError, match="float32"):
        load_model(CHATGLM, precision="int2")


def test_loading_chatglm_imports_no_transformers() -> None:
    code = (
        "import sys; from backends.server import load_model; "
        f"load_model({str(CHATGLM)!r}); sys.exit('transformers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
