"""Full-size checkpoints with random weights, in the form in which the real ones are published.

    python -m benchmarks.random_weights chatglm FOLDER
    python -m benchmarks.random_weights qwen FOLDER

For measuring load time, memory and speed where the real weights can't be had: these cost the same.
What they say makes no sense. Needs 6 GB of memory and 3.9 GB of disk for ChatGLM-6B in 4 bits,
1 GB of both for Qwen1.5-0.5B. Measures nothing itself.
"""

import json
import os
from collections.abc import Iterator, Sequence
from itertools import islice, product
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors.torch import save_file
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from backends.server.chatglm import ChatGLMConfig, ChatGLMTokenizer
from backends.server.chatglm.network import ChatGLMNetwork
from benchmarks.paths import ROOT

TINY = ROOT / "backends" / "tiny"
REAL_TOKENIZER = ROOT.parent / "shared" / "chatglm" / "tokenizer"
TOKENIZER_FILE = "ice_text.model"

QWEN_SETTINGS: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "initializer_range": 0.02,
    "intermediate_size": 2816,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "model_type": "qwen2",
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "num_key_value_heads": 16,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN_GENERATION = {
    "bos_token_id": 151643,
    "do_sample": True,
    "eos_token_id": [151645, 151643],
    "pad_token_id": 151643,
    "repetition_penalty": 1.1,
    "top_p": 0.8,
}
QWEN_CONTROLS = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}
QWEN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# What a layer adds to the residual, which keeps 7.5 times its input: with less than this, the tied
# head says the last token of the prompt for ever, and that is a control token without a text.
_ADDED_GAIN = 4.0

app = typer.Typer(help=__doc__, add_completion=False)


@app.command()
def chatglm(folder: Annotated[Path, typer.Argument(help="is made if it isn't there")]) -> None:
    """ChatGLM-6B in 4 bits: one pytorch_model.bin."""
    make_chatglm_6b_int4(folder)


@app.command()
def qwen(folder: Annotated[Path, typer.Argument(help="is made if it isn't there")]) -> None:
    """Qwen1.5-0.5B-Chat: one model.safetensors in bfloat16."""
    make_qwen_0_5b(folder)


def make_chatglm_6b_int4(folder: Path, *, seed: int = 1, **sizes: Any) -> Path:
    """Writes a ChatGLM checkpoint quantised to 4 bits.

    Args:
        folder: where.
        seed: the same gives the same weights.
        sizes: fields of ``ChatGLMConfig`` that are to differ from the published 6B ones.
    """
    tokenizer = ChatGLMTokenizer(chatglm_tokenizer())
    tokenizer.save(folder)
    config = ChatGLMConfig(
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        mask_token_id=tokenizer.mask_id,
        gmask_token_id=tokenizer.gmask_id,
        pad_token_id=tokenizer.pad_id,
        quantization_bit=4,
        **sizes,
    )
    write_json(folder / "config.json", config.to_dict())
    torch.save(dict(_chatglm_tensors(config, seed)), folder / "pytorch_model.bin")
    return folder


def chatglm_tokenizer() -> Path:
    """The real tokenizer file where it is to be had, else that of the built-in tiny model."""
    given = os.environ.get("CHATGLM_TOKENIZER")
    real = (Path(given) if given else REAL_TOKENIZER) / TOKENIZER_FILE
    return real if real.exists() else TINY / "tiny-chatglm" / TOKENIZER_FILE


def make_qwen_0_5b(folder: Path, *, seed: int = 1, **sizes: Any) -> Path:
    """Writes a Qwen1.5 checkpoint in bfloat16.

    Args:
        folder: where.
        seed: the same gives the same weights.
        sizes: settings of config.json that are to differ from the published 0.5B ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = QWEN_SETTINGS | sizes
    write_json(folder / "config.json", settings)
    write_json(folder / "generation_config.json", QWEN_GENERATION)
    write_json(folder / "tokenizer.json", _qwen_tokenizer())
    tokenizer_settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "chat_template": QWEN_TEMPLATE,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": settings["max_position_embeddings"],
    }
    write_json(folder / "tokenizer_config.json", tokenizer_settings)
    path = folder / "model.safetensors"
    save_file(dict(_qwen_tensors(settings, seed)), path, {"format": "pt"})
    # save_file's files may be read by nobody but their owner.
    path.chmod(0o644)
    return folder


def _chatglm_tensors(config: ChatGLMConfig, seed: int) -> Iterator[tuple[str, Tensor]]:
    """The published tensors one by one, the layers' matrices quantised."""
    random = torch.Generator().manual_seed(seed)
    for name, wanted in ChatGLMNetwork.on_meta(config).state_dict().items():
        if wanted.ndim == 1:
            yield name, _vector(name, wanted)
            continue
        # Keeps the scale of what goes through, so that nothing overflows after 28 layers.
        spread = wanted.shape[1] ** -0.5
        if name.endswith(("attention.dense.weight", "mlp.dense_4h_to_h.weight")):
            spread *= _ADDED_GAIN
        matrix = _gaussian(wanted.shape, spread, torch.float16, random)
        if "word_embeddings" in name:
            # One matrix under both names, stored once.
            yield from ((name, matrix), ("lm_head.weight", matrix))
        else:
            numbers, scale = quantise(matrix.float())
            yield from ((name, numbers), (f"{name}_scale", scale))


def quantise(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in 4 bits as the original does it: bytes int8 (N, K / 2), and scales float16 (N,)."""
    scale = (matrix.abs().amax(dim=1) / 7).half()
    numbers = (matrix / scale.unsqueeze(1)).round().clamp(-8, 7).to(torch.int8)
    return (numbers[:, ::2] << 4) | (numbers[:, 1::2] & 15), scale


def _qwen_tensors(settings: dict[str, Any], seed: int) -> Iterator[tuple[str, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        network = Qwen2ForCausalLM(Qwen2Config(**settings))
    for name, wanted in network.state_dict().items():
        if name == "lm_head.weight":
            continue
        if wanted.ndim == 1:
            yield name, _vector(name, wanted).bfloat16()
        else:
            spread = settings["initializer_range"]
            yield name, _gaussian(wanted.shape, spread, torch.bfloat16, random)


def _gaussian(
    shape: Sequence[int], spread: float, dtype: torch.dtype, random: torch.Generator
) -> Tensor:
    """Random numbers, some rows at a time: in float32 the embedding alone would take 2 GB."""
    matrix = torch.empty(tuple(shape), dtype=dtype)
    for start in range(0, len(matrix), 4096):
        rows = matrix[start : start + 4096]
        rows.copy_(torch.randn(rows.shape, generator=random).mul_(spread))
    return matrix


def _vector(name: str, wanted: Tensor) -> Tensor:
    """A bias, or the factors of a norm."""
    filled = torch.zeros if name.endswith("bias") else torch.ones
    return filled(wanted.shape, dtype=torch.float16)


def _qwen_tokenizer() -> dict[str, Any]:
    """The tiny model's tokenizer with as many pieces as the real one.

    No text is cut into those that are added, but the network may say them.
    """
    tokenizer: dict[str, Any] = json.loads((TINY / "tiny-qwen" / "tokenizer.json").read_bytes())
    pieces: dict[str, int] = tokenizer["model"]["vocab"]
    first_control = min(QWEN_CONTROLS.values())
    for token in tokenizer["added_tokens"]:
        pieces.pop(token["content"], None)
        token["id"] = QWEN_CONTROLS[token["content"]]
    letters = [piece for piece in pieces if len(piece) == 1]
    unused = (
        word for three in product(letters, repeat=3) if (word := "".join(three)) not in pieces
    )
    missing = first_control - len(pieces)
    pieces.update(zip(islice(unused, missing), range(len(pieces), first_control), strict=True))
    return tokenizer


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes it as people read it."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()
