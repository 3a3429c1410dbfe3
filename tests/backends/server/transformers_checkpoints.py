"""Small random checkpoints of types that only transformers knows, with their tokenizers."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram
from tokenizers.trainers import BpeTrainer
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    GenerationConfig,
    TokenizersBackend,
)

from tests.backends.server.qwen2_checkpoints import (
    ROWS,
    TEMPLATE,
    TEXTS,
    train_byte_level_tokenizer,
)

CONTEXT = 2048
INST_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ '<<SYS>> ' + message['content'] + ' <</SYS>>\n\n' }}"
    "{% elif message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
# Takes no system text, trims messages, and calls the assistant by another name, as Gemma's does.
TURN_TEMPLATE = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
# The control tokens eat the blanks behind them, as Phi-3's do.
EATING_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
# Drops what earlier answers thought, as Qwen3's does.
THINKING_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' and '</think>' in message['content'] %}"
    "{{ message['content'].split('</think>')[-1].lstrip('\n') }}"
    "{% else %}{{ message['content'] }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_SHAPE = {
    "vocab_size": ROWS,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.2,
    "pad_token_id": None,
}
_MORE: dict[str, dict[str, Any]] = {
    "gemma2": {"sliding_window": 16, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 4.0},
    "mistral": {"sliding_window": 16},
}


def make(folder: Path, kind: str, *, jinja_file: bool = True, **config: Any) -> Path:
    """A checkpoint of a type that transformers knows; its answers never end."""
    tokenizer = {
        "gpt2": _byte_level,
        "llama": _byte_fallback,
        "mistral": _unigram,
        "gemma2": _turns,
        "phi3": _eating,
    }.get(kind, _byte_level)()
    tokenizer.save_pretrained(folder, save_jinja_files=jinja_file)
    make_network(folder, kind, **config)
    return folder


def make_network(folder: Path, kind: str, **config: Any) -> None:
    """The network alone."""
    torch.manual_seed(12)
    config_class = CONFIG_MAPPING[kind]
    names = {**config_class.attribute_map, **{name: name for name in config_class().to_dict()}}
    shape = {name: value for name, value in _SHAPE.items() if name in names}
    settings = config_class(**(shape | _MORE.get(kind, {}) | config))
    network: Any = MODEL_FOR_CAUSAL_LM_MAPPING[config_class]
    model = network(settings)
    # The last row stands for no piece, so it is never sampled and ends nothing.
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=[ROWS - 1], do_sample=True, top_k=40, temperature=0.9
    )
    model.save_pretrained(folder)


def edit_json(path: Path, **changes: Any) -> None:
    """Changes a JSON file's values."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _byte_level() -> TokenizersBackend:
    return TokenizersBackend(  # type: ignore[no-untyped-call]
        tokenizer_object=train_byte_level_tokenizer(),
        eos_token="<|im_end|>",
        chat_template=TEMPLATE,
    )


def _eating() -> TokenizersBackend:
    tokenizer = train_byte_level_tokenizer()
    words = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
    tokenizer.add_special_tokens([AddedToken(w, rstrip=True, special=True) for w in words])
    return TokenizersBackend(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token="<|end|>", chat_template=EATING_TEMPLATE
    )


def _byte_fallback() -> TokenizersBackend:
    """As sentencepiece's BPE becomes: blanks are pieces, unknown characters are bytes."""
    tokenizer = Tokenizer(_merged_pieces())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    _finish(tokenizer)
    return TokenizersBackend(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=INST_TEMPLATE,
    )


def _turns() -> TokenizersBackend:
    """As Gemma's: no blank in front, runs of line breaks are tokens."""
    tokenizer = Tokenizer(_merged_pieces())
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    _finish(tokenizer)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_tokens([AddedToken(w, normalized=False) for w in ("\n\n", "\n\n\n", "<table>")])
    words = ("<start_of_turn>", "<end_of_turn>")
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in words])
    return TokenizersBackend(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=TURN_TEMPLATE,
    )


def _unigram() -> TokenizersBackend:
    """The control tokens are pieces of the model itself, which finds them in any text."""
    learned = [piece for piece in _learned() if len(piece) > 1]
    letters = sorted({letter for text in TEXTS for letter in text if letter != " "})
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    pieces += [(f"<0x{byte:02X}>", 0.0) for byte in range(256)]
    pieces += [(piece, -5.0 - number / 50) for number, piece in enumerate(learned[:120])]
    pieces += [(letter, -12.0) for letter in ("\u2581", *letters)]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    _finish(tokenizer)
    return TokenizersBackend(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=INST_TEMPLATE,
    )


def _finish(tokenizer: Tokenizer) -> None:
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    words = ("<unk>", "<s>", "</s>")
    tokenizer.add_special_tokens([AddedToken(w, normalized=False, special=True) for w in words])


def _merged_pieces() -> BPE:
    learned = _train()
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += sorted(learned["vocab"], key=learned["vocab"].__getitem__)
    merges = [(first, second) for first, second in learned["merges"]]
    ids = {piece: number for number, piece in enumerate(pieces)}
    return BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


def _learned() -> list[str]:
    return sorted(_train()["vocab"], key=len, reverse=True)


def _train() -> dict[str, Any]:
    """Pieces and merges of a few texts."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = BpeTrainer(vocab_size=200, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return model
