import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from backends.server.errors import GenerationError
from backends.server.generation import SamplingSettings
from backends.server.sampling import Sampler, Vocabulary, make_finite, probabilities
from tests.backends.server.checkpoints import GOLDEN

ALL = Vocabulary.of(6, range(6))
LOGITS = torch.tensor([0.0, 3.0, 1.0, 2.9, -1.0, 2.0])


def _draws(settings: SamplingSettings, logits: Tensor = LOGITS, count: int = 300) -> set[int]:
    sampler = Sampler(settings, ALL)
    return {sampler.sample(logits) for _ in range(count)}


def test_the_distribution_equals_the_originals_chat_defaults() -> None:
    arrays = np.load(GOLDEN / "cases.npz")
    logits = torch.from_numpy(arrays["sampling/logits"])[0]
    ours = probabilities(logits, SamplingSettings(temperature=0.95, top_k=50, top_p=0.7))
    torch.testing.assert_close(
        ours, torch.from_numpy(arrays["sampling/probs"])[0], atol=1e-5, rtol=0
    )


def test_logits_that_are_no_numbers_become_the_originals_blank() -> None:
    arrays = np.load(GOLDEN / "cases.npz")
    config = json.loads((GOLDEN / "fp16" / "config.json").read_text())
    assert config["vocab_size"] == arrays["sampling/invalid_in"].shape[1]
    ours = make_finite(torch.from_numpy(arrays["sampling/invalid_in"]), 5)
    torch.testing.assert_close(ours, torch.from_numpy(arrays["sampling/invalid_out"]))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_without_a_fallback_such_logits_are_a_failure(bad: float) -> None:
    with pytest.raises(GenerationError, match="out of range"):
        Sampler(SamplingSettings(), ALL).sample(torch.tensor([0.0, bad, 1, 1, 1, 1]))


def test_temperature_zero_takes_the_likeliest() -> None:
    assert _draws(SamplingSettings(temperature=0)) == {1}


def test_a_temperature_next_to_zero_takes_the_likeliest() -> None:
    assert _draws(SamplingSettings(temperature=1e-44), 100 * LOGITS) == {1}


def test_top_k_leaves_so_many() -> None:
    assert _draws(SamplingSettings(top_k=2)) == {1, 3}


def test_top_k_beyond_the_vocabulary_leaves_all() -> None:
    assert _draws(SamplingSettings(top_k=99, temperature=3)) == set(range(6))


def test_top_p_leaves_the_likeliest_that_reach_it() -> None:
    shares = LOGITS.softmax(0)
    assert shares[1] < 0.6 < shares[1] + shares[3]
    assert _draws(SamplingSettings(top_p=0.6)) == {1, 3}


def test_top_p_zero_leaves_one() -> None:
    assert _draws(SamplingSettings(top_p=0)) == {1}


def test_draws_follow_the_probabilities() -> None:
    sampler = Sampler(SamplingSettings(seed=3), ALL)
    counts = torch.bincount(torch.tensor([sampler.sample(LOGITS) for _ in range(4000)]))
    torch.testing.assert_close(counts / 4000, LOGITS.softmax(0), atol=0.03, rtol=0)


def test_a_low_temperature_with_forbidden_ids_draws_allowed_ones_only() -> None:
    sampler = Sampler(SamplingSettings(temperature=1e-6), Vocabulary.of(6, {0, 2}))
    assert {sampler.sample(LOGITS) for _ in range(50)} == {2}


def test_the_repetition_penalty_counts_prompt_and_answer() -> None:
    settings = SamplingSettings(repetition_penalty=10, temperature=0)
    sampler = Sampler(settings, ALL, prompt_ids=[1])
    assert [sampler.sample(LOGITS) for _ in range(4)] == [3, 5, 2, 1]


def test_the_repetition_penalty_lowers_negative_logits_too() -> None:
    sampler = Sampler(SamplingSettings(repetition_penalty=2, temperature=0), ALL, prompt_ids=[0])
    assert sampler.sample(torch.tensor([-1.0, -1.5, -9, -9, -9, -9])) == 1


def _transformers_shares(logits: Tensor, prompt: list[int], **settings: Any) -> Tensor:
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
    processed: Tensor = scores(torch.tensor([prompt]), logits.unsqueeze(0))
    return processed.softmax(-1)[0]


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
    random = torch.Generator().manual_seed(8)
    vocabulary = Vocabulary.of(300, range(300))
    for _ in range(50):
        logits = torch.randn(300, generator=random) * 3
        prompt = torch.randint(300, (40,), generator=random).tolist()
        ours = Sampler(SamplingSettings(**settings), vocabulary, prompt).shares(logits)
        expected = _transformers_shares(logits, prompt, **settings)
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)


def test_settings_take_over_what_is_given_and_known() -> None:
    settings = SamplingSettings(temperature=0.5, top_k=7)
    changed = settings.overridden({"temperature": 0, "top_k": None, "eos_token_id": 5})
    assert changed == SamplingSettings(temperature=0, top_k=7)
