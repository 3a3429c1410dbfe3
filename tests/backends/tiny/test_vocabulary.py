"""The trained tokenizers have the layout of the real ones and lose no text."""

from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor
from transformers import AutoTokenizer, Qwen2Tokenizer

from backends.tiny.vocabulary import train_byte_bpe, train_unigram

TEXTS = [
    f"{who}今天{what}，明天也{what}。It is {number} o'clock."
    for who in ("小明", "小红", "我们", "老师")
    for what in ("看书", "跑步", "写诗", "唱歌")
    for number in range(20)
]  # fmt: skip


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceProcessor:
    folder = tmp_path_factory.mktemp("unigram")
    train_unigram(TEXTS, 600, folder)
    return SentencePieceProcessor(model_file=str(folder / "ice_text.model"))


def test_special_pieces_lie_where_chatglm_has_them(pieces: SentencePieceProcessor) -> None:
    names = [pieces.id_to_piece(i) for i in range(pieces.get_piece_size())]
    assert names[:5] == ["<unk>", "<s>", "</s>", "<pad>", "<n>"]
    tail = names[names.index("[MASK]") :]
    assert tail[:9] == [
        "[MASK]", "[gMASK]", "[sMASK]", "<unused_0>", "<sop>", "<eop>", "<ENC>", "<dBLOCK>",
        "<|tab|>",
    ]  # fmt: skip
    assert tail[9:88] == [f"<|blank_{n}|>" for n in range(2, 81)]
    assert tail[88:] == [f"<0x{n:02X}>" for n in range(256)]


def test_pieces_are_of_chatglms_types(pieces: SentencePieceProcessor) -> None:
    first = pieces.piece_to_id("[MASK]")
    assert all(pieces.is_control(first + i) for i in range(8))
    assert not pieces.is_control(first + 8)
    assert pieces.encode("<n>") == [5, 4] or pieces.encode("<n>")[-1] == 4
    assert pieces.is_byte(pieces.get_piece_size() - 1)
    assert pieces.piece_to_id("<sop>") not in pieces.encode("<sop>")


@pytest.mark.parametrize("text", ["小明今天写诗。", "龘🙂 never seen", "a<n>b"])
def test_unigram_loses_no_text(pieces: SentencePieceProcessor, text: str) -> None:
    assert pieces.decode(pieces.encode(text)) == text


def test_byte_bpe_loads_as_a_qwen2_tokenizer_with_a_chat_template(tmp_path: Path) -> None:
    train_byte_bpe(TEXTS, 600, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(tokenizer, Qwen2Tokenizer)
    assert len(tokenizer) <= 600
    controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    first = len(tokenizer) - 3
    assert tokenizer.convert_tokens_to_ids(controls) == [first, first + 1, first + 2]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "你好"}], tokenize=False, add_generation_prompt=True
    )
    assert prompt == "<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("text", ["小明今天写诗。\n", "龘🙂 never seen", "  12 345"])
def test_byte_bpe_loses_no_text(tmp_path: Path, text: str) -> None:
    train_byte_bpe(TEXTS, 600, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.decode(tokenizer.encode(text)) == text
