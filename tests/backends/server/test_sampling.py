import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from backends.server.errors import GenerationError
from backends.server.generation import SamplingSettings
from backends.server.sampling import Row, Sampler, Vocabulary, make_finite, probabilities
from tests.backends.server.qwen2_checkpoints import GOLDEN

ALL = Vocabulary.of(6, range(6))
LOGITS = np.array([0.0, 3.0, 1.0, 2.9, -1.0, 2.0], np.float32)


def _draws(settings: SamplingSettings, logits: Row = LOGITS, count: int = 300) -> set[int]:
    sampler = Sampler(settings, ALL)
    return {sampler.sample(logits) for _ in range(count)}


def _softmax(scores: Row) -> Row:
    weights = np.exp(scores - scores.max())
    shares: Row = weights / weights.sum()
    return shares


def test_the_distribution_equals_the_originals_chat_defaults() -> None:
    arrays = np.load(GOLDEN / "cases.npz")
    settings = SamplingSettings(temperature=0.95, top_k=50, top_p=0.7)
    ours = probabilities(arrays["sampling/logits"][0], settings)
    assert_allclose(ours, arrays["sampling/probs"][0], atol=1e-5)


def test_logits_that_are_no_numbers_become_the_originals_blank() -> None:
    arrays = np.load(GOLDEN / "cases.npz")
    config = json.loads((GOLDEN / "fp16" / "config.json").read_text())
    assert config["vocab_size"] == arrays["sampling/invalid_in"].shape[1]
    ours = make_finite(arrays["sampling/invalid_in"], 5)
    assert_array_equal(ours, arrays["sampling/invalid_out"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_without_a_fallback_such_logits_are_a_failure(bad: float) -> None:
    logits = np.array([0.0, bad, 1, 1, 1, 1], np.float32)
    with pytest.raises(GenerationError, match="out of range"):
        Sampler(SamplingSettings(), ALL).sample(logits)


def test_the_row_that_is_sampled_from_stays_as_it_is() -> None:
    logits = LOGITS.copy()
    settings = SamplingSettings(2.0, 0.5, 3, 0.9)
    Sampler(settings, Vocabulary.of(6, range(5)), prompt_ids=[1]).sample(logits)
    assert_array_equal(logits, LOGITS)


def test_temperature_zero_takes_the_likeliest() -> None:
    assert _draws(SamplingSettings(temperature=0)) == {1}


def test_a_temperature_next_to_zero_takes_the_likeliest() -> None:
    assert _draws(SamplingSettings(temperature=1e-44), np.float32(100) * LOGITS) == {1}


def test_top_k_leaves_so_many() -> None:
    assert _draws(SamplingSettings(top_k=2)) == {1, 3}


def test_top_k_beyond_the_vocabulary_leaves_all() -> None:
    assert _draws(SamplingSettings(top_k=99, temperature=3)) == set(range(6))


def test_top_p_leaves_the_likeliest_that_reach_it() -> None:
    shares = _softmax(LOGITS)
    assert shares[1] < 0.6 < shares[1] + shares[3]
    assert _draws(SamplingSettings(top_p=0.6)) == {1, 3}


def test_top_p_zero_leaves_one() -> None:
    assert _draws(SamplingSettings(top_p=0)) == {1}


def test_of_equals_at_the_border_of_top_p_the_first_stay() -> None:
    shares = probabilities(np.zeros(8, np.float32), SamplingSettings(top_p=0.5))
    assert shares.tolist() == [0.25] * 4 + [0] * 4


def test_equals_at_the_border_of_top_k_stay_as_in_transformers() -> None:
    logits = np.repeat([2.0, 1.0, 0.0], [20, 30, 50]).astype(np.float32)
    assert np.count_nonzero(probabilities(logits, SamplingSettings(top_k=21))) == 50


def test_draws_follow_the_probabilities() -> None:
    sampler = Sampler(SamplingSettings(seed=3), ALL)
    counts = np.bincount([sampler.sample(LOGITS) for _ in range(4000)])
    assert_allclose(counts / 4000, _softmax(LOGITS), atol=0.03)


@pytest.mark.parametrize("seed", [0, -1, -(2**63), 2**63 - 1])
def test_a_seed_gives_its_draws_again(seed: int) -> None:
    samplers = [Sampler(SamplingSettings(seed=seed, temperature=2), ALL) for _ in range(2)]
    first, second = ([one.sample(LOGITS) for _ in range(50)] for one in samplers)
    assert first == second


def test_seeds_next_to_each_other_give_different_draws() -> None:
    samplers = [Sampler(SamplingSettings(seed=seed, temperature=2), ALL) for seed in (-1, 0, 1)]
    assert len({tuple(one.sample(LOGITS) for _ in range(50)) for one in samplers}) == 3


def test_a_small_change_of_the_logits_changes_no_draws() -> None:
    # What other requests in the batch do to a row, at most.
    rows = np.random.default_rng(1).normal(0, 3, (200, 5000)).astype(np.float32)
    vocabulary = Vocabulary.of(5000, range(5000))
    samplers = [Sampler(SamplingSettings(0.9, 1.5, seed=2), vocabulary) for _ in range(2)]
    shifted = rows + np.random.default_rng(2).normal(0, 1e-7, rows.shape).astype(np.float32)
    first, second = (
        [one.sample(row) for row in r] for one, r in zip(samplers, (rows, shifted), strict=True)
    )
    assert first == second


def test_a_low_temperature_with_forbidden_ids_draws_allowed_ones_only() -> None:
    sampler = Sampler(SamplingSettings(temperature=1e-6), Vocabulary.of(6, {0, 2}))
    assert {sampler.sample(LOGITS) for _ in range(50)} == {2}


def test_the_repetition_penalty_counts_prompt_and_answer() -> None:
    settings = SamplingSettings(repetition_penalty=10, temperature=0)
    sampler = Sampler(settings, ALL, prompt_ids=[1])
    assert [sampler.sample(LOGITS) for _ in range(4)] == [3, 5, 2, 1]


def test_the_repetition_penalty_lowers_negative_logits_too() -> None:
    sampler = Sampler(SamplingSettings(repetition_penalty=2, temperature=0), ALL, prompt_ids=[0])
    assert sampler.sample(np.array([-1.0, -1.5, -9, -9, -9, -9], np.float32)) == 1


def _plain_shares(logits: Row, settings: SamplingSettings) -> NDArray[np.float64]:
    """The distribution by its definition: everything sorted, and in double precision."""
    weights: NDArray[np.float64] = np.exp(
        (logits - logits.max()).astype(np.float64) / settings.temperature
    )
    order = np.argsort(-weights, kind="stable")
    if 0 < settings.top_k < len(weights):
        weights[weights < weights[order[settings.top_k - 1]]] = 0
    before = weights[order].cumsum() - weights[order]
    outside = (before >= settings.top_p * weights.sum()) & (settings.top_p < 1)
    outside[0] = False
    weights[order[outside]] = 0
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


@how(deadline=None)
@given(
    size=st.integers(1, 3000),
    levels=st.sampled_from([3, 50, 100_000]),  # few: many equal each other
    spread=st.sampled_from([0.01, 1.0, 10.0]),
    top_k=st.sampled_from([0, 1, 7, 50, 2000]),
    top_p=st.sampled_from([0.0, 0.123, 0.777, 0.951, 0.9999, 1.0]),
    temperature=st.sampled_from([0.2, 1.0, 1.9]),
    seed=st.integers(0, 10**6),
)
def test_the_distribution_is_that_of_the_definition_equals_included(
    size: int,
    levels: int,
    spread: float,
    top_k: int,
    top_p: float,
    temperature: float,
    seed: int,
) -> None:
    numbers = np.random.default_rng(seed)
    logits = (numbers.integers(levels, size=size) * spread / levels).astype(np.float32)
    settings = SamplingSettings(temperature=temperature, top_k=top_k, top_p=top_p)
    ours, expected = probabilities(logits, settings), _plain_shares(logits, settings)
    # Where a sum is next to top_p, rounding may let one more in, or one fewer.
    shares = np.maximum(ours, expected)[(ours > 0) != (expected > 0)]
    assert np.count_nonzero(shares > 1e-6) <= 1
    assert_allclose(ours, expected, rtol=1e-3, atol=1.1 * max(shares, default=0) + 1e-6)


@how(deadline=None)
@given(size=st.integers(1, 5000), allowed=st.integers(1, 50), seed=st.integers(0, 10**6))
def test_forbidden_ids_are_never_drawn_wherever_they_are(
    size: int, allowed: int, seed: int
) -> None:
    numbers = np.random.default_rng(seed)
    known = set(numbers.integers(size, size=allowed).tolist())
    logits = numbers.normal(0, 5, size).astype(np.float32)
    sampler = Sampler(SamplingSettings(temperature=2, seed=seed), Vocabulary.of(size, known))
    assert {sampler.sample(logits) for _ in range(40)} <= known


def test_a_draw_is_where_the_sum_of_shares_passes_the_random_number() -> None:
    logits = np.random.default_rng(5).normal(0, 4, 20_000).astype(np.float32)
    sampler = Sampler(SamplingSettings(seed=9), Vocabulary.of(20_000, range(20_000)))
    points = np.random.Generator(np.random.PCG64(9)).random(100)
    sums = probabilities(logits, SamplingSettings()).cumsum(dtype=np.float64)
    drawn = [sampler.sample(logits) for _ in points]
    assert drawn == sums.searchsorted(points * sums[-1], side="right").tolist()


def _transformers_shares(logits: Row, prompt: list[int], **settings: Any) -> Row:
    """The distribution out of which transformers' own `generate` draws."""
    scores: Any = LogitsProcessorList()
    if penalty := settings.get("repetition_penalty"):
        scores.append(RepetitionPenaltyLogitsProcessor(penalty))
    if temperature := settings.get("temperature"):
        scores.append(TemperatureLogitsWarper(temperature))
    if top_k := settings.get("top_k"):
        scores.append(TopKLogitsWarper(top_k))
    if top_p := settings.get("top_p"):
        scores.append(TopPLogitsWarper(top_p))
    processed = scores(torch.tensor([prompt]), torch.from_numpy(logits).unsqueeze(0))
    shares: Row = processed.softmax(-1)[0].numpy()
    return shares


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.1, "temperature": 0.7, "top_k": 20, "top_p": 0.8},
        {"repetition_penalty": 1.3},
        {"temperature": 1.7},
        {"top_k": 3},
        {"top_p": 0.3},
        {"temperature": 0.2, "top_p": 0.95},
        {"repetition_penalty": 0.5, "top_k": 50, "top_p": 0.999},
    ],
)
def test_the_distribution_equals_that_of_transformers(settings: dict[str, Any]) -> None:
    numbers = np.random.default_rng(8)
    vocabulary = Vocabulary.of(300, range(300))
    for _ in range(50):
        logits = numbers.normal(0, 3, 300).astype(np.float32)
        prompt = numbers.integers(300, size=40).tolist()
        ours = Sampler(SamplingSettings(**settings), vocabulary, prompt).shares(logits)
        expected = _transformers_shares(logits, prompt, **settings)
        assert_allclose(ours, expected, atol=1e-6)


def test_settings_take_over_what_is_given_and_known() -> None:
    settings = SamplingSettings(temperature=0.5, top_k=7)
    changed = settings.overridden({"temperature": 0, "top_k": None, "eos_token_id": 5})
    assert changed == SamplingSettings(temperature=0, top_k=7)


@pytest.mark.parametrize("top_p", [0.2, 0.5, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0])
def test_draws_follow_the_shares_that_top_p_leaves(top_p: float, spread: float) -> None:
    logits = np.random.default_rng(1).normal(0, spread, 12).astype(np.float32)
    sampler = Sampler(SamplingSettings(top_p=top_p, seed=3), Vocabulary.of(12, range(12)))
    shares = sampler.shares(logits)
    draws = np.bincount([sampler.sample(logits) for _ in range(6000)], minlength=12) / 6000
    assert (draws > 0).tolist() == (shares > 0).tolist()
    np.testing.assert_allclose(draws, shares, atol=0.03)
