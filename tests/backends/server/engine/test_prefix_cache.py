from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from backends.server import ChatModel, load_model
from backends.server.batch import KVCache, Span
from backends.server.engine.prefix_cache import PrefixCache
from tests.backends.server.transformers_checkpoints import make

AMPLE = 100_000_000


def _ids(count: int, seed: int = 0) -> list[int]:
    # ChatGLM's context ends in [gMASK] and <sop>, which its other texts don't have.
    return [int(number) for number in np.random.default_rng(seed).integers(20, 120, count)]


def _stored(model: ChatModel, ids: Sequence[int]) -> KVCache:
    cache = model.network.new_cache()
    model.step([Span(tuple(ids), cache)])
    return cache


def _prefixes(model: ChatModel, *sequences: Sequence[int], limit: int = AMPLE) -> PrefixCache:
    prefixes = PrefixCache(model.network, limit)
    for ids in sequences:
        prefixes.keep(_stored(model, ids))
    return prefixes


def test_a_conversation_that_goes_on_takes_its_cache_over(qwen2: ChatModel) -> None:
    prefixes, stored = _prefixes(qwen2), _stored(qwen2, _ids(50))
    prefixes.keep(stored)
    assert prefixes.cache_for([*_ids(50), 7, 8]) is stored
    assert prefixes.stats.sequences == 0
    assert (prefixes.stats.hits, prefixes.stats.reused_tokens) == (1, 50)


def test_another_that_begins_in_the_same_way_gets_a_copy(qwen2: ChatModel) -> None:
    prefixes, stored = _prefixes(qwen2), _stored(qwen2, _ids(50))
    prefixes.keep(stored)
    first = prefixes.cache_for([*_ids(30), 7, 8])
    second = prefixes.cache_for([*_ids(40), 7, 8])
    assert [first.token_ids, second.token_ids] == [_ids(30), _ids(40)]
    qwen2.step([Span((7, 8), first), Span((7, 8), second)])
    assert prefixes.cache_for([*_ids(50), 7]) is stored
    assert stored.token_ids == _ids(50)


def test_what_is_continued_from_a_copy_is_what_it_would_have_been(model: ChatModel) -> None:
    prompt = model.tokenizer.encode_chat([{"role": "user", "content": "The quick fox? " * 3}])
    answer = model.tokenizer.encode_text("dog dog")
    prefixes = _prefixes(model, [*prompt, *answer])
    cache = prefixes.cache_for(prompt)
    assert cache.length == len(prompt) - 1
    row = model.step([Span(tuple(prompt[cache.length :]), cache)])[0]
    np.testing.assert_allclose(row, model.logits(prompt)[-1], atol=2e-4)


def test_an_answer_asked_for_again_computes_one_token_only(model: ChatModel) -> None:
    prompt = model.tokenizer.encode_chat([{"role": "user", "content": "The quick fox? " * 3}])
    prefixes = _prefixes(model, [*prompt, 40, 41, 42])
    assert prefixes.cache_for(prompt).length == len(prompt) - 1
    assert prefixes.stats.sequences == 1


def test_a_prompt_seen_in_both_directions_serves_only_as_a_whole(chatglm: ChatModel) -> None:
    def prompt(text: str) -> list[int]:
        return chatglm.tokenizer.encode_chat([{"role": "user", "content": text}])

    prefixes = _prefixes(chatglm, prompt("The quick fox? " * 3))
    assert prefixes.cache_for(prompt("The quick fox? " * 3 + "dog")).length == 0
    assert prefixes.stats.hits == 0


def test_the_longest_of_several_serves(qwen2: ChatModel) -> None:
    sequences = [_ids(40) + _ids(10, seed) for seed in (1, 2, 3)]
    prefixes = _prefixes(qwen2, *sequences)
    assert prefixes.cache_for([*sequences[1], 7]).token_ids == sequences[1]


@pytest.mark.parametrize(("shared", "reused"), [(15, 0), (16, 16)])
def test_short_beginnings_are_not_worth_it(qwen2: ChatModel, shared: int, reused: int) -> None:
    prefixes = _prefixes(qwen2, _ids(30))
    assert prefixes.cache_for([*_ids(30)[:shared], 7, 8]).length == reused
    assert prefixes.stats.reused_tokens == reused


def test_caches_in_use_are_copied_from_and_never_taken(qwen2: ChatModel) -> None:
    prefixes, in_use = _prefixes(qwen2), _stored(qwen2, _ids(30))
    copied = prefixes.cache_for([*_ids(30), 7], [in_use])
    assert copied is not in_use
    assert copied.token_ids == _ids(30)


def test_what_was_not_used_for_longest_goes_first(qwen2: ChatModel) -> None:
    size = _stored(qwen2, _ids(50)).nbytes
    prefixes = _prefixes(qwen2, _ids(50, 1), _ids(50, 2), _ids(50, 3), limit=3 * size)
    prefixes.cache_for(_ids(50, 1))  # uses the first one again
    prefixes.keep(_stored(qwen2, _ids(50, 4)))
    lengths = [prefixes.cache_for(_ids(50, seed)).length for seed in (1, 2, 3, 4)]
    assert lengths == [49, 0, 49, 49]
    assert prefixes.stats.kept_bytes <= 3 * size


@pytest.fixture(params=["qwen2", "native"])
def causal(request: pytest.FixtureRequest) -> ChatModel:
    """Those whose copies of a part take no more than the part."""
    loaded: ChatModel = request.getfixturevalue(request.param)
    return loaded


def test_of_a_sequence_beyond_the_limit_the_beginning_is_kept(causal: ChatModel) -> None:
    ids = _ids(500)
    size = _stored(causal, ids).nbytes
    prefixes = _prefixes(causal, ids, limit=size * 2 // 3)
    assert 0 < prefixes.stats.kept_bytes <= prefixes.stats.limit_bytes
    cache = prefixes.cache_for([*ids, 7])
    assert 200 < cache.length < 500
    assert cache.token_ids == ids[: cache.length]
    row = causal.step([Span((*ids[cache.length :], 7), cache)])[0]
    np.testing.assert_allclose(row, causal.logits([*ids, 7])[-1], atol=2e-4)


def test_a_conversation_that_outgrows_the_limit_keeps_what_it_had(causal: ChatModel) -> None:
    ids = _ids(600)
    limit = _stored(causal, ids[:300]).nbytes
    prefixes = _prefixes(causal, ids[:250], limit=limit)
    cache = prefixes.cache_for(ids)
    assert cache.length == 250
    causal.step([Span(tuple(ids[250:]), cache)])
    prefixes.keep(cache)
    assert prefixes.cache_for(ids).length >= 192


def _asked(model: ChatModel, repeats: int) -> list[int]:
    said = "The quick fox? " * repeats
    return model.tokenizer.encode_chat([{"role": "user", "content": said}])


def test_an_answer_seen_in_both_directions_is_cut_behind_its_prompt(chatglm: ChatModel) -> None:
    prompt, answer = _asked(chatglm, 3), _ids(400)
    size = _stored(chatglm, [*prompt, *answer]).nbytes
    prefixes = _prefixes(chatglm, [*prompt, *answer], limit=size * 2 // 3)
    assert prefixes.cache_for(prompt).length == len(prompt) - 1


def test_half_a_prompt_seen_in_both_directions_drives_nothing_out(chatglm: ChatModel) -> None:
    short, long = _asked(chatglm, 3), _asked(chatglm, 60)
    size = _stored(chatglm, long).nbytes
    prefixes = _prefixes(chatglm, short, long, limit=size * 2 // 3)
    assert prefixes.stats.sequences == 1
    assert prefixes.cache_for(long).length == 0
    assert prefixes.cache_for(short).length == len(short) - 1


def test_a_cache_that_can_not_go_back_is_kept_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    model = load_model(make(tmp_path, "mistral"))  # its window forgets
    size = _stored(model, _ids(200)).nbytes
    assert _prefixes(model, _ids(200), limit=size).stats.sequences == 1
    assert _prefixes(model, _ids(200), limit=size - 1).stats.sequences == 0


def test_no_memory_keeps_nothing(qwen2: ChatModel) -> None:
    assert _prefixes(qwen2, _ids(50), limit=0).stats.sequences == 0


def test_a_sequence_that_goes_on_replaces_its_beginning(qwen2: ChatModel) -> None:
    prefixes = _prefixes(qwen2, _ids(50)[:30], _ids(50), _ids(50)[:40])
    assert prefixes.stats.sequences == 1
    assert prefixes.cache_for([*_ids(50), 7]).length == 50


def test_clearing_gives_the_memory_back(qwen2: ChatModel) -> None:
    prefixes = _prefixes(qwen2, _ids(50))
    assert prefixes.stats.kept_bytes > 0
    prefixes.clear()
    assert (prefixes.stats.sequences, prefixes.stats.kept_bytes) == (0, 0)
    assert prefixes.cache_for(_ids(50)).length == 0
