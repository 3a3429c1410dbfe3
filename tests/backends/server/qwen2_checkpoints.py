"""Small checkpoints with random weights, in the file formats of the real ones."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from torch import nn
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from backends.server import ChatModel
from backends.server.eager.network import TorchNetwork

GOLDEN = Path(__file__).parent / "golden"
CHATGLM = GOLDEN / "fp16"

CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TOOL_CALL = "<tool_call>"  # added, but not called special, as in the real Qwen2.5
ROWS = 512  # more than the tokenizer has ids, as in the real one
TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXTS = (
    "你好，今天天气怎么样？我们去公园散步吧。",
    "The quick brown fox jumps over the lazy dog. It's fine, isn't it?",
    "system user assistant im_start im_end",
)


class Harmful:
    """Would leave a mark if it were unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.mark,))


def module_of(model: ChatModel) -> nn.Module:
    """The torch module that computes a model."""
    assert isinstance(model.network, TorchNetwork)
    assert isinstance(model.network.module, nn.Module)
    return model.network.module


def make_qwen2(
    folder: Path,
    *,
    stop_ids: Iterable[int] = (),
    context: int = 2048,
    tied: bool = True,
    template: str | None = TEMPLATE,
    **config: Any,
) -> Path:
    """A Qwen2 checkpoint of two layers; without ``stop_ids`` its answers never end."""
    tokenizer = train_byte_level_tokenizer()
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=template,
    ).save_pretrained(folder)
    torch.manual_seed(11)
    shape = {
        "vocab_size": ROWS,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "tie_word_embeddings": tied,
        "initializer_range": 0.2,
    }
    model = Qwen2ForCausalLM(Qwen2Config(**(shape | config)))
    # The last row stands for no piece, so it is never sampled and ends nothing.
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=list(stop_ids) or [ROWS - 1], do_sample=True, top_k=40, temperature=0.9
    )
    model.save_pretrained(folder)
    return folder


def train_byte_level_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in CONTROLS])
    tokenizer.add_tokens([AddedToken(TOOL_CALL, special=False, normalized=False)])
    return tokenizer
