"""Chooses the next token from a row of logits.

Each request has a ``Sampler`` with its own random numbers, one a token, so its answer depends on
its seed alone and not on what else is in the batch. Knows no text and no network.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from backends.server.errors import GenerationError
from backends.server.generation import SamplingSettings

# Dividing by less would leave the range of float32; the likeliest token has all weight anyway.
_GREEDY_BELOW = 1e-5


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What may be sampled.

    Attributes:
        forbidden: True for the ids that stand for nothing, (vocab,).
        fallback_id: what is sampled where the logits are no numbers; None: that is a failure.
    """

    forbidden: Tensor
    fallback_id: int | None = None

    @classmethod
    def of(cls, size: int, decodable: Container[int], fallback_id: int | None = None) -> Vocabulary:
        """The vocabulary of a network with ``size`` rows and a tokenizer that may know fewer."""
        forbidden = torch.tensor([token not in decodable for token in range(size)])
        return cls(forbidden, fallback_id)


class Sampler:
    """Chooses the tokens of one request.

    Args:
        settings: how.
        vocabulary: from what.
        prompt_ids: what the repetition penalty counts as said already.
    """

    def __init__(
        self, settings: SamplingSettings, vocabulary: Vocabulary, prompt_ids: Iterable[int] = ()
    ) -> None:
        self._settings = settings
        self._vocabulary = vocabulary
        self._said = set(prompt_ids)
        self._random = torch.Generator()
        if settings.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(settings.seed)

    def sample(self, logits: Tensor) -> int:
        """The next token after one row of logits, (vocab,).

        Raises:
            GenerationError: the logits are no numbers.
        """
        if self._settings.temperature < _GREEDY_BELOW:
            token = int(self._scores(logits).argmax())
        else:
            token = _draw(self.shares(logits), self._random)
        self._said.add(token)
        return token

    def shares(self, logits: Tensor) -> Tensor:
        """What the next token would be drawn from, (vocab,), where the temperature isn't 0.

        Raises:
            GenerationError: the logits are no numbers.
        """
        return probabilities(self._scores(logits), self._settings)

    def _scores(self, logits: Tensor) -> Tensor:
        """The logits of what may be said, less where it was said before."""
        logits = make_finite(logits, self._vocabulary.fallback_id)
        logits = logits.masked_fill(self._vocabulary.forbidden, -torch.inf)
        if self._settings.repetition_penalty == 1:
            return logits
        return _penalised(logits, self._said, self._settings.repetition_penalty)


def make_finite(logits: Tensor, fallback_id: int | None) -> Tensor:
    """The logits as they are, or, where some are nan or inf, all weight on ``fallback_id``.

    Raises:
        GenerationError: there is no ``fallback_id``.
    """
    if torch.isfinite(logits).all():
        return logits
    if fallback_id is None:
        raise GenerationError("The model's numbers ran out of range.")
    replaced = torch.zeros_like(logits)
    replaced[..., fallback_id] = 5e4
    return replaced


def probabilities(logits: Tensor, settings: SamplingSettings) -> Tensor:
    """The distribution that is sampled from, (vocab,): temperature, then top-k, then top-p.

    Ties at the border of top-k stay in, as in transformers.
    """
    scores = logits.float() / settings.temperature
    if 0 < settings.top_k < len(scores):
        border = scores.topk(settings.top_k).values[-1]
        scores = scores.masked_fill(scores < border, -torch.inf)
    if settings.top_p < 1:
        scores = _nucleus(scores, settings.top_p)
    return scores.softmax(dim=-1)


def _nucleus(scores: Tensor, top_p: float) -> Tensor:
    """Leaves the likeliest tokens whose probability sums up to ``top_p``, at least one."""
    kept = int(torch.isfinite(scores).sum())
    values, ids = scores.topk(kept)
    shares = values.softmax(dim=-1)
    outside = shares.cumsum(dim=-1) - shares >= top_p
    outside[0] = False
    return scores.index_fill(0, ids[outside], -torch.inf)


def _penalised(logits: Tensor, said: set[int], penalty: float) -> Tensor:
    ids = torch.tensor(sorted(said))
    scores = logits[ids]
    weaker = torch.where(scores < 0, scores * penalty, scores / penalty)
    return logits.index_copy(0, ids, weaker)


def _draw(shares: Tensor, random: torch.Generator) -> int:
    """One id; in the order of ids, so that rounding can't swap neighbours."""
    sums = shares.double().cumsum(dim=0)
    point = torch.rand(1, generator=random, dtype=torch.float64) * sums[-1]
    return int(torch.searchsorted(sums, point, right=True).clamp(max=len(shares) - 1))
