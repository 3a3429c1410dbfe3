"""ChatGLM's answers piece by piece: whatever the ids are, no piece has to be taken back."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from backends.server import load_tokenizer
from backends.server.chatglm import ChatGLMTokenizer
from backends.server.engine.answer import AnswerWriter
from tests.backends.server.chatglm_checkpoints import REAL_TOKENIZER, needs_real_tokenizer
from tests.backends.server.qwen2_checkpoints import CHATGLM

REPLACEMENT = "\ufffd"
# What the tokenizer writes in pieces of its own, or what post-processing changes.
TRICKY = st.sampled_from(
    [
        *("<n>", "\n", "\t", " ", "  ", "     ", "<|tab|>", "<|blank_7|>", "<|blank_", "<"),
        *(",", "!", ":", ";", "?", "，", "！", "中", "文", ".", "'", "n't", "'s", "'ve", " ' "),
        *("🙂", "🦙", "👨‍👩‍👧", "𝔘", "é", "e\u0301", "\u0000", "\u3000", REPLACEMENT),
        *("[[训练时间]]", "[[训练", "时间]]", "<eop>", "[gMASK]", "</s>", "<pad>", "<unk>"),
    ]
)
TEXTS = st.lists(st.one_of(TRICKY, st.text(max_size=6)), max_size=12).map("".join)
FAMILIAR = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module", params=["tiny", pytest.param("real", marks=needs_real_tokenizer)])
def tokenizer(request: pytest.FixtureRequest) -> ChatGLMTokenizer:
    loaded = load_tokenizer(CHATGLM if request.param == "tiny" else REAL_TOKENIZER)
    assert isinstance(loaded, ChatGLMTokenizer)
    return loaded


def _stream(tokenizer: ChatGLMTokenizer, ids: list[int]) -> list[str]:
    writer = AnswerWriter(tokenizer)
    return [*(writer.add(token) for token in ids), writer.finish()]


def _bytes(tokenizer: ChatGLMTokenizer) -> range:
    """The ids that stand for single bytes: the last ones."""
    return range(tokenizer.decodable.stop - 256, tokenizer.decodable.stop)


def test_the_last_pieces_are_bytes(tokenizer: ChatGLMTokenizer) -> None:
    start = _bytes(tokenizer).start
    assert tokenizer.decode([start + byte for byte in "🙂".encode()]) == "🙂"


@FAMILIAR
@given(text=TEXTS)
@example(text="天🙂🦙é𝔘中👨‍👩‍👧!")
@example(text="中 , 文 !")
@example(text=" \n ")
def test_a_streamed_text_is_the_answer_as_shown_at_once(
    tokenizer: ChatGLMTokenizer, text: str
) -> None:
    ids = tokenizer.encode_text(text)
    pieces = _stream(tokenizer, ids)
    assert "".join(pieces) == tokenizer.answer(ids)


@FAMILIAR
@given(text=TEXTS.filter(lambda text: REPLACEMENT not in text))
def test_a_streamed_text_never_shows_half_a_character(
    tokenizer: ChatGLMTokenizer, text: str
) -> None:
    pieces = _stream(tokenizer, tokenizer.encode_text(text))
    assert not any(REPLACEMENT in piece for piece in pieces)


@FAMILIAR
@given(text=TEXTS.filter(lambda text: REPLACEMENT not in text))
def test_a_text_that_comes_byte_by_byte_never_shows_half_a_character(
    tokenizer: ChatGLMTokenizer, text: str
) -> None:
    ids = [_bytes(tokenizer).start + byte for byte in text.encode()]
    pieces = _stream(tokenizer, ids)
    assert not any(REPLACEMENT in piece for piece in pieces)
    assert "".join(pieces) == tokenizer.answer(ids)


@FAMILIAR
@given(data=st.data())
def test_any_streamed_ids_are_the_answer_as_shown_at_once(
    tokenizer: ChatGLMTokenizer, data: st.DataObject
) -> None:
    known = tokenizer.decodable
    any_id = st.integers(known.start, known.stop - 1)
    byte = st.integers(_bytes(tokenizer).start, known.stop - 1)
    special = st.integers(known.stop - 256 - 90, known.stop - 256)
    ids = data.draw(st.lists(st.one_of(any_id, byte, special), max_size=30))
    assert "".join(_stream(tokenizer, ids)) == tokenizer.answer(ids)


@FAMILIAR
@given(data=st.data())
def test_a_character_is_shown_as_soon_as_it_is_complete(
    tokenizer: ChatGLMTokenizer, data: st.DataObject
) -> None:
    letters = data.draw(st.lists(st.sampled_from("中文🙂🦙𝔘天"), min_size=1, max_size=8))
    writer, shown = AnswerWriter(tokenizer), ""
    for letter in letters:
        for byte in letter.encode():
            shown += writer.add(_bytes(tokenizer).start + byte)
        assert shown.endswith(letter)
    assert shown == "".join(letters)
