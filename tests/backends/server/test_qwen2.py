import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Qwen2ForCausalLM

from backends.server import ChatModel, load_model, load_tokenizer
from backends.server.batch import FlatBatch, Span
from backends.server.errors import CheckpointError, ConversationError
from backends.server.generation import SamplingSettings
from backends.server.qwen2 import load_network
from backends.server.qwen2.network import Qwen2Network
from backends.server.sampling import Sampler
from tests.backends.server.qwen2_checkpoints import CONTROLS, ROWS, TOOL_CALL, make_qwen2, module_of

HARMLESS = (
    [("user", "Hello fox")],
    [("user", "\n\n leading blanks"), ("assistant", "trailing \n\n"), ("user", "  你好 ")],
    [("system", "Be brief."), ("user", "a"), ("assistant", ""), ("user", "🙂 it's 10 % < 5 |>")],
    [("system", ""), ("user", "")],
)


def _messages(said: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in said]


def _reference(folder: Path) -> Any:
    return Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32)


@torch.inference_mode()
def _reference_logits(folder: Path, ids: Sequence[int]) -> Any:
    return _reference(folder)(torch.tensor([ids])).logits[0].numpy()


WINDOW = {"use_sliding_window": True, "sliding_window": 32}
# Shapes that published Qwen2 checkpoints have or may have.
SHAPES: dict[str, dict[str, Any]] = {
    "tied": {"tied": True},
    "untied": {"tied": False},
    "every head for itself": {"num_key_value_heads": 4},
    "one head for all": {"num_key_value_heads": 1, "num_hidden_layers": 3},
    "sliding window": {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 1},
    "window that is off": {"use_sliding_window": False, "sliding_window": 32},
    "large base": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
    "yarn": {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e6,
            "factor": 4.0,
            "original_max_position_embeddings": 512,
        }
    },
    "llama3": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 5e5,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 512,
        }
    },
    "dynamic": {
        "context": 512,
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
    },
}


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        name: make_qwen2(tmp_path_factory.mktemp("shape"), **shape)
        for name, shape in SHAPES.items()
    }


@pytest.mark.parametrize("name", SHAPES)
def test_logits_of_long_prompts_equal_transformers(shapes: dict[str, Path], name: str) -> None:
    model = load_model(shapes[name])
    ids = model.tokenizer.encode_text("The quick brown fox. 你好，今天天气怎么样？" * 90)
    ids = ids[: model.context]
    assert len(ids) >= 512
    expected = _reference_logits(shapes[name], ids)
    np.testing.assert_allclose(model.logits(ids), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", SHAPES)
def test_logits_of_turns_after_a_cache_equal_transformers_of_the_whole(
    shapes: dict[str, Path], name: str
) -> None:
    model = load_model(shapes[name])
    repeats = model.context // 40
    turns = [
        tuple(model.tokenizer.encode_text(text * repeats))
        for text in ("The quick fox. ", "你好，", "It's fine, isn't it?", "a")
    ]
    ids = sum(turns, ())
    assert model.context / 4 < len(ids) <= model.context
    cache = model.network.new_cache()
    parts = [model.network.step(FlatBatch((Span(turn, cache),))) for turn in turns]
    expected = _reference_logits(shapes[name], ids)
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["tied", "untied", "sliding window", "yarn"])
def test_logits_of_a_batch_equal_transformers_of_each(shapes: dict[str, Path], name: str) -> None:
    model = load_model(shapes[name])
    texts = ("The quick brown fox. " * 40, "a", "你好，今天天气怎么样？" * 9)
    sequences = [model.tokenizer.encode_text(text) for text in texts]
    expected = [_reference_logits(shapes[name], ids) for ids in sequences]
    together = model.network.step(FlatBatch.of(sequences))
    np.testing.assert_allclose(together, np.concatenate(expected), atol=1e-4, rtol=0)


def test_a_config_as_the_published_ones_were_written_is_understood(
    shapes: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(shapes["yarn"], tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    rope = config.pop("rope_parameters")
    for later in ("dtype", "layer_types"):
        config.pop(later)
    older = {
        "torch_dtype": "float32",
        "rope_theta": rope.pop("rope_theta"),
        "rope_scaling": {"type": rope.pop("rope_type"), **rope},
        "sliding_window": 32768,
        "max_window_layers": 21,
        "transformers_version": "4.37.0",
    }
    (tmp_path / "config.json").write_text(json.dumps(config | older))
    ids = list(range(3, 300)) * 2
    expected = load_model(shapes["yarn"]).logits(ids)
    np.testing.assert_allclose(load_model(tmp_path).logits(ids), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_scaling": {"type": "longrope", "factor": 4.0}}, "'longrope'"),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [2, 2, 2]}}, "'mrope'"),
        ({"rope_scaling": {"type": "yarn"}}, "factor can't be None"),
        ({"rope_scaling": {"type": "linear", "factor": "4"}}, "factor can't be '4'"),
        ({"rope_scaling": "yarn"}, "rope_parameters can't be 'yarn'"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, "rope_parameters can't be"),
        ({"rope_parameters": {"rope_type": ["yarn"]}}, "'yarn'"),
        ({"rope_parameters": {"rope_theta": 1}}, "rope_theta can't be 1"),
        ({"rope_parameters": {"rope_theta": -1.0}}, "rope_theta can't be -1.0"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"hidden_act": "gelu"}, "'gelu'"),
        ({"num_attention_heads": 5}, "num_attention_heads"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"rms_norm_eps": 0}, "rms_norm_eps"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings"),
        ({"use_sliding_window": True, "sliding_window": 0}, "sliding_window"),
        ({**WINDOW, "layer_types": ["full_attention"]}, "layer_types"),
        ({**WINDOW, "layer_types": ["full", "chunked"]}, "layer_types"),
    ],
)
def test_what_can_not_be_computed_is_refused_by_name(
    qwen2_folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    shutil.copytree(qwen2_folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path)


YARNS: tuple[dict[str, Any], ...] = (
    {"attention_factor": 1.3},
    {"mscale": 0.7, "mscale_all_dim": 0.9},
    {"beta_fast": 16, "beta_slow": 2, "truncate": False},
    {"factor": 1.0},
)


@pytest.mark.parametrize("settings", YARNS)
def test_every_setting_of_yarn_is_honoured(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = make_qwen2(tmp_path, rope_parameters=SHAPES["yarn"]["rope_parameters"] | settings)
    # At later places a last bit in a frequency, which may differ, is seen.
    ids = list(range(3, 300))
    np.testing.assert_allclose(
        load_model(folder).logits(ids), _reference_logits(folder, ids), atol=1e-4, rtol=0
    )


def test_heads_may_be_wider_than_their_share(tmp_path: Path) -> None:
    folder = make_qwen2(tmp_path, head_dim=20)
    ids = list(range(3, 60))
    np.testing.assert_allclose(
        load_model(folder).logits(ids), _reference_logits(folder, ids), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("name", SHAPES)
def test_a_saved_network_is_one_that_transformers_reads(
    shapes: dict[str, Path], tmp_path: Path, name: str
) -> None:
    network = module_of(load_model(shapes[name]))
    assert isinstance(network, Qwen2Network)
    network.save(tmp_path)
    ids = list(range(3, 100))
    ours = load_network(tmp_path, "float32").step(FlatBatch.of([ids]))
    np.testing.assert_allclose(ours, _reference_logits(tmp_path, ids), atol=1e-4, rtol=0)
    # It is written in half precision.
    before = load_model(shapes[name]).logits(ids)
    assert np.abs(ours - before).max() < 0.05 * before.std()


def test_frequencies_that_older_checkpoints_hold_are_computed_anyway(tmp_path: Path) -> None:
    folder = make_qwen2(tmp_path)
    expected = load_model(folder).logits([1, 2])
    state = load_file(folder / "model.safetensors")
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(6)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    np.testing.assert_array_equal(load_model(folder).logits([1, 2]), expected)


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    folder = make_qwen2(tmp_path)
    state = load_file(folder / "model.safetensors")
    state["model.layers.0.self_attn.q_norm.weight"] = torch.ones(12)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"don't fit the config: .*q_norm\.weight"):
        load_model(folder)


def test_a_head_beside_a_tied_embedding_is_ignored(tmp_path: Path) -> None:
    folder = make_qwen2(tmp_path)
    expected = load_model(folder).logits([1, 2])
    state = load_file(folder / "model.safetensors")
    state["lm_head.weight"] = torch.zeros_like(state["model.embed_tokens.weight"])
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    np.testing.assert_array_equal(load_model(folder).logits([1, 2]), expected)


def test_half_precision_weights_are_computed_in_float32(tmp_path: Path) -> None:
    folder = make_qwen2(tmp_path)
    state = load_file(folder / "model.safetensors")
    short = {name: tensor.bfloat16() for name, tensor in state.items()}
    save_file(short, folder / "model.safetensors", {"format": "pt"})
    expected = _reference_logits(folder, [1, 2])
    np.testing.assert_allclose(load_model(folder).logits([1, 2]), expected, atol=1e-4, rtol=0)


def test_greedy_ids_equal_transformers(qwen2: ChatModel, qwen2_folder: Path) -> None:
    reference = _reference(qwen2_folder)
    prompt = qwen2.tokenizer.encode_chat(_messages(HARMLESS[1]))
    # Rows without a piece are never sampled here.
    known = qwen2.tokenizer.decodable
    unknown = [[t] for t in range(qwen2.network.vocab_size) if t not in known]
    output = reference.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt)),
        max_new_tokens=24,
        do_sample=False,
        temperature=None,
        top_k=None,
        bad_words_ids=unknown,
        pad_token_id=0,
        eos_token_id=0,
    )
    assert qwen2.generate(prompt, 24) == output[0, len(prompt) :].tolist()


@pytest.mark.parametrize("said", HARMLESS)
def test_chat_prompts_equal_the_templates(
    qwen2: ChatModel, qwen2_folder: Path, said: list[tuple[str, str]]
) -> None:
    reference: Any = AutoTokenizer.from_pretrained(qwen2_folder)
    expected = reference.apply_chat_template(
        _messages(said), add_generation_prompt=True, return_dict=False
    )
    assert qwen2.tokenizer.encode_chat(_messages(said)) == expected


# As published with the first and the later Qwen1.5 checkpoints, a line break being meant by \n.
PUBLISHED_TEMPLATES = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content']}}"
    "{% if (loop.last and add_generation_prompt) or not loop.last %}"
    "{{ '<|im_end|>' + '\n'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}",
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
)


@pytest.mark.parametrize(("template", "end"), [*zip(PUBLISHED_TEMPLATES, ("", "."), strict=True)])
def test_a_published_template_brings_its_own_system_text(
    tmp_path: Path, template: str, end: str
) -> None:
    tokenizer: Any = load_tokenizer(make_qwen2(tmp_path, template=template))
    asked = tokenizer.encode_chat(_messages([("user", "Hello fox")]))
    start, stop = tokenizer.encode_plain("<|im_start|>"), tokenizer.encode_plain("<|im_end|>")
    text = tokenizer.encode_text
    assert asked == [
        *(*start, *text(f"system\nYou are a helpful assistant{end}"), *stop, *text("\n")),
        *(*start, *text("user\nHello fox"), *stop, *text("\n")),
        *(*start, *text("assistant\n")),
    ]
    told = tokenizer.encode_chat(_messages([("system", "Be brief."), ("user", "Hello fox")]))
    assert "helpful" not in tokenizer.decode(told)
    assert "system\nBe brief.\n" in tokenizer.decode(told)


@pytest.mark.parametrize("template", PUBLISHED_TEMPLATES)
@pytest.mark.parametrize("said", HARMLESS)
def test_prompts_equal_those_of_the_published_templates(
    tmp_path: Path, template: str, said: list[tuple[str, str]]
) -> None:
    folder = make_qwen2(tmp_path, template=template)
    reference: Any = AutoTokenizer.from_pretrained(folder)
    expected = reference.apply_chat_template(
        _messages(said), add_generation_prompt=True, return_dict=False
    )
    assert load_tokenizer(folder).encode_chat(_messages(said)) == expected


def test_tokens_are_drawn_from_what_transformers_draws_from(
    qwen2: ChatModel, qwen2_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(qwen2_folder, tmp_path, dirs_exist_ok=True)
    said = {"repetition_penalty": 1.1, "temperature": 0.7, "top_p": 0.8, "top_k": 20}
    text = json.dumps({"do_sample": True, "eos_token_id": ROWS - 1, "pad_token_id": 0} | said)
    (tmp_path / "generation_config.json").write_text(text)
    prompt = qwen2.tokenizer.encode_chat(_messages(HARMLESS[1]))
    known = qwen2.tokenizer.decodable
    output = _reference(tmp_path).generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt)),
        max_new_tokens=1,
        bad_words_ids=[[token] for token in range(ROWS) if token not in known],
        output_scores=True,
        return_dict_in_generate=True,
    )
    model = load_model(tmp_path)
    shares = Sampler(model.defaults, model.vocabulary, prompt).shares(model.logits(prompt)[-1])
    expected = output.scores[0][0].softmax(-1)
    np.testing.assert_allclose(shares, expected, atol=1e-5, rtol=0)


def test_encode_keeps_control_strings_as_transformers_does(
    qwen2: ChatModel, qwen2_folder: Path
) -> None:
    reference: Any = AutoTokenizer.from_pretrained(qwen2_folder)
    text = "a <|im_start|>user\nb<|im_end|>"
    assert qwen2.tokenizer.encode(text) == reference.encode(text)
    assert set(reference.convert_tokens_to_ids(CONTROLS[1:])) < set(qwen2.tokenizer.encode(text))


def test_added_tokens_that_are_not_called_special_are_text_as_well(qwen2: ChatModel) -> None:
    (control,) = qwen2.tokenizer.encode_plain(TOOL_CALL)
    text = f"a {TOOL_CALL}<tool_{TOOL_CALL}call> b"
    for ids in (
        qwen2.tokenizer.encode_text(text),
        qwen2.tokenizer.encode_chat(_messages([("user", text)])),
    ):
        assert control not in ids
        assert text in qwen2.tokenizer.decode(ids)


def test_the_checkpoints_generation_config_is_honoured(tmp_path: Path) -> None:
    model = load_model(make_qwen2(tmp_path, stop_ids=[3, 7]))
    assert model.stop_ids == {3, 7}
    assert model.defaults == SamplingSettings(temperature=0.9, top_k=40)


def test_without_a_generation_config_the_tokenizers_end_stops(tmp_path: Path) -> None:
    folder = make_qwen2(tmp_path)
    (folder / "generation_config.json").unlink()
    tokenizer = load_tokenizer(folder)
    assert tokenizer.stop_ids == set(tokenizer.encode_plain("<|im_end|>"))


def test_a_checkpoint_without_a_chat_template_can_not_chat(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make_qwen2(tmp_path, template=None))
    with pytest.raises(CheckpointError, match="chat template"):
        tokenizer.encode_chat(_messages([("user", "a")]))


def test_what_a_template_refuses_is_said(tmp_path: Path) -> None:
    folder = make_qwen2(tmp_path, template="{{ raise_exception('No fish here.') }}")
    with pytest.raises(ConversationError, match="No fish here"):
        load_tokenizer(folder).encode_chat(_messages([("user", "a")]))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    folder = make_qwen2(tmp_path)
    state = load_file(folder / "model.safetensors")
    del state["model.norm.weight"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight"):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"hidden_size": 32}, "don't fit"), ({"num_attention_heads": "x"}, "num_attention_heads")],
)
def test_a_config_that_does_not_fit_is_refused(
    qwen2_folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    shutil.copytree(qwen2_folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(qwen2_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(qwen2_folder / name, tmp_path)
    with pytest.raises(CheckpointError, match="tokenizer is missing"):
        load_model(tmp_path)


def test_a_tokenizer_that_knows_more_than_the_network_is_refused(
    qwen2_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(qwen2_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text(
        json.dumps(json.loads((tmp_path / "config.json").read_text()) | {"vocab_size": 300})
    )
    state = load_file(tmp_path / "model.safetensors")
    rows = {n: t[:300].clone() if "embed" in n else t for n, t in state.items()}
    save_file(rows, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="more ids than the network's 300 rows"):
        load_model(tmp_path)
