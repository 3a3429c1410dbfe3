import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Qwen2ForCausalLM

from backends.server import ChatModel, load_model, load_tokenizer
from backends.server.errors import CheckpointError, ConversationError
from backends.server.generation import SamplingSettings
from tests.backends.server.checkpoints import CONTROLS, TOOL_CALL, make_qwen2

HARMLESS = (
    [("user", "Hello fox")],
    [("user", "\n\n leading blanks"), ("assistant", "trailing \n\n"), ("user", "  你好 ")],
    [("system", "Be brief."), ("user", "a"), ("assistant", ""), ("user", "🙂 it's 10 % < 5 |>")],
    [("system", ""), ("user", "")],
)


def _messages(said: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in said]


@pytest.mark.parametrize("tied", [True, False])
def test_logits_equal_transformers(tmp_path: Path, tied: bool) -> None:
    folder = make_qwen2(tmp_path, tied=tied)
    reference = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = load_tokenizer(folder).encode_text("The quick brown fox. 你好，今天天气怎么样？" * 12)
    with torch.inference_mode():
        expected = reference(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(load_model(folder).logits(ids), expected, atol=1e-4, rtol=0)


def test_half_precision_weights_are_computed_in_float32(tmp_path: Path) -> None:
    folder = make_qwen2(tmp_path)
    state = load_file(folder / "model.safetensors")
    save_file({n: t.bfloat16() for n, t in state.items()}, folder / "model.safetensors")
    assert load_model(folder).logits([1, 2]).dtype == torch.float32


def test_greedy_ids_equal_transformers(qwen2: ChatModel, qwen2_folder: Path) -> None:
    reference: Any = Qwen2ForCausalLM.from_pretrained(qwen2_folder, dtype=torch.float32)
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
