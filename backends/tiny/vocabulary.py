"""Trains the two tokenizers on the corpus, in the file formats and layouts of the real ones.

Only makes files; reading and using them is the business of `backends.server`.
"""

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import sentencepiece
from tokenizers import Regex as TokenizerRegex
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import Qwen2Tokenizer

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHATML_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# The split of the real Qwen2 tokenizer, which transformers puts back when it loads the vocabulary.
_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

LINE_BREAK = "<n>"
_CONTROLS = (
    "[MASK]", "[gMASK]", "[sMASK]", "<unused_0>", "<sop>", "<eop>", "<ENC>", "<dBLOCK>",
)  # fmt: skip
_BLANKS = ("<|tab|>", *(f"<|blank_{n}|>" for n in range(2, 81)))
_BYTES = tuple(f"<0x{n:02X}>" for n in range(256))


def train_byte_bpe(texts: Sequence[str], size: int, folder: Path) -> None:
    """Write a byte-level BPE tokenizer with the ChatML template that `Qwen2Tokenizer` loads."""
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(TokenizerRegex(_QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=size - 3,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
        max_token_length=12,  # bytes: four Chinese characters, so that no phrase is one token
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary: dict[str, int] = model["vocab"]
    for control in (END_OF_TEXT, TURN_START, TURN_END):
        vocabulary[control] = len(vocabulary)
    Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[tuple(merge) for merge in model["merges"]],  # type: ignore[misc]
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        extra_special_tokens=[TURN_START],
        chat_template=CHATML_TEMPLATE,
    ).save_pretrained(folder)


def train_unigram(texts: Sequence[str], size: int, folder: Path) -> None:
    """Write a sentencepiece unigram model with the layout of ChatGLM-6B's `ice_text.model`."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text.replace("\n", LINE_BREAK) for text in texts]),
        model_writer=model,
        model_type="unigram",
        vocab_size=size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        max_sentencepiece_length=4,  # longer pieces would learn phrases, not words
        split_digits=True,
        byte_fallback=True,
        pad_id=3,
        control_symbols=list(_CONTROLS),
        user_defined_symbols=[LINE_BREAK, *_BLANKS],
        normalization_rule_name="nmt_nfkc",
        num_threads=1,  # more would add up the expected counts in another order
        minloglevel=2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ice_text.model").write_bytes(order_pieces(model.getvalue()))
    settings = {
        "tokenizer_class": "ChatGLMTokenizer",
        "bos_token": "<sop>",
        "eos_token": "<eop>",
        "end_token": "</s>",
        "gmask_token": "[gMASK]",
        "mask_token": "[MASK]",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "remove_space": False,
        "do_lower_case": False,
        "num_image_tokens": 0,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def order_pieces(model: bytes) -> bytes:
    """Return a sentencepiece model with its special pieces where ChatGLM-6B has them.

    The trainer puts control, user-defined and byte pieces first. A piece's id is its place among
    the fields numbered 1 of the file, so moving whole fields is enough.
    """
    fields = list(_split_fields(model))
    pieces = [field for number, field in fields if number == 1]
    others = [field for number, field in fields if number != 1]
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    names = [processor.id_to_piece(i) for i in range(len(pieces))]
    head, tail = [*names[:4], LINE_BREAK], [*_CONTROLS, *_BLANKS, *_BYTES]
    special = {*head, *tail}
    normal = [name for name in names if name not in special]
    by_name = dict(zip(names, pieces, strict=True))
    return b"".join([by_name[name] for name in (*head, *normal, *tail)] + others)


def _split_fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (number, whole field) of a protocol-buffer message of length-delimited fields."""
    start = 0
    while start < len(message):
        key, at = _read_varint(message, start)
        if key & 7 != 2:
            raise ValueError(f"field {key >> 3} of the sentencepiece model is not length-delimited")
        length, at = _read_varint(message, at)
        yield key >> 3, message[start : at + length]
        start = at + length


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
