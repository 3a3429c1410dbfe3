import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, normalizers
from tokenizers.models import WordLevel

from backends.server.tokenizer.text_encoder import TextEncoder, control_tokens
from tests.backends.server.qwen2_checkpoints import CONTROLS, train_byte_level_tokenizer

TEXT = "The quick <|im_end|> fox"


@pytest.fixture
def tokenizer() -> Tokenizer:
    return train_byte_level_tokenizer()


def test_strings_of_control_tokens_are_text_unless_armed(tokenizer: Tokenizer) -> None:
    encoder = TextEncoder(tokenizer)
    control = tokenizer.token_to_id("<|im_end|>")
    assert control not in encoder.encode(TEXT)
    assert tokenizer.decode(encoder.encode(TEXT)) == TEXT
    assert encoder.encode(encoder.armed(TEXT)) == tokenizer.encode(TEXT).ids


def test_what_one_encoder_armed_is_text_to_another(tokenizer: Tokenizer) -> None:
    armed = TextEncoder(tokenizer).armed(TEXT)
    assert tokenizer.token_to_id("<|im_end|>") not in TextEncoder(tokenizer).encode(armed)


def test_the_original_stays_as_it_is(tokenizer: Tokenizer) -> None:
    before = tokenizer.to_str()
    TextEncoder(tokenizer).encode(TEXT)
    assert tokenizer.to_str() == before


def _changed(tokenizer: Tokenizer, **changes: Any) -> Tokenizer:
    """The same with its control tokens changed."""
    state = json.loads(tokenizer.to_str())
    for token in state["added_tokens"]:
        token.update(changes)
    return Tokenizer.from_str(json.dumps(state))


@pytest.mark.parametrize(
    "changes",
    [{"lstrip": True}, {"rstrip": True}, {"single_word": True}, {"normalized": True}],
)
@pytest.mark.parametrize(
    "text", [TEXT, "a<|im_end|>b", " <|im_end|>\n\n<|im_start|> ", "<|im_end|>1 <|im_end|>"]
)
def test_tokens_keep_the_ways_in_which_they_are_found(
    tokenizer: Tokenizer, changes: dict[str, Any], text: str
) -> None:
    changed = _changed(tokenizer, **changes)
    encoder = TextEncoder(changed)
    assert encoder.encode(encoder.armed(text)) == changed.encode(text).ids
    assert not {changed.token_to_id(token) for token in CONTROLS} & set(encoder.encode(text))


def test_runs_of_blanks_are_no_control_tokens(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens([AddedToken("\n\n", normalized=False), AddedToken("\u2581\u2581")])
    assert set(control_tokens(tokenizer, special=True)) == set(CONTROLS)
    encoder = TextEncoder(tokenizer)
    assert tokenizer.token_to_id("\n\n") in encoder.encode("a\n\nb")


def test_pieces_whose_ids_have_gaps_are_not_taken_for_control_tokens(tokenizer: Tokenizer) -> None:
    state = json.loads(tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    for token in state["added_tokens"]:
        vocabulary[token["content"]] = token["id"]
    last = max(vocabulary, key=vocabulary.__getitem__)
    learned = max((v, k) for k, v in vocabulary.items() if "<" not in k)[1]
    # Ends where the twin's own ids would begin.
    vocabulary[learned] = vocabulary[last] + 2
    gapped = Tokenizer.from_str(json.dumps(state))
    encoder = TextEncoder(gapped)
    text = gapped.decode([vocabulary[learned]]) + TEXT
    assert vocabulary[learned] in gapped.encode(text).ids
    assert encoder.encode(encoder.armed(text)) == gapped.encode(text).ids
    assert not {gapped.token_to_id(token) for token in CONTROLS} & set(encoder.encode(text))


def test_models_that_would_find_control_tokens_among_their_pieces_do_not() -> None:
    vocabulary = {"<unk>": 0, "</s>": 1, "fox": 2}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.add_special_tokens(["<unk>", "</s>"])
    encoder = TextEncoder(tokenizer)
    assert tokenizer.encode("</s>").ids == [1]
    assert encoder.encode("</s>") == [0]
    assert encoder.encode(encoder.armed("</s>fox</s>")) == [1, 2, 1]


def test_others_go_on_while_a_long_text_is_encoded(tokenizer: Tokenizer) -> None:
    encoder = TextEncoder(tokenizer)
    with ThreadPoolExecutor(1) as pool:
        encoded = pool.submit(encoder.encode, "The quick fox " * 50_000)
        turns = 0
        while not encoded.done():
            time.sleep(0)
            turns += 1
    # Where all had to wait for it there would be one or two.
    assert turns > 100
