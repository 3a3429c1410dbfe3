"""Chooses the next token from a row of logits.

Each request has a ``Sampler`` with its own random numbers, so its answer depends on its seed alone
and not on what else is in the batch. Knows no text and no network.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backends.server.errors import GenerationError
from backends.server.generation import SamplingSettings

Row = NDArray[np.float32]
"""One number for every id, (vocab,)."""

# Dividing by less would leave the range of float32; the likeliest token has all weight anyway.
_GREEDY_BELOW = 1e-5
# Below such a share of all, drawing until it is met takes longer than sorting.
_RARELY_INSIDE = 0.5
_BLOCK = 1024  # of running sums
_ROWS = 16  # of the rectangle whose columns' highest scores bound the highest of all


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What may be sampled.

    Attributes:
        forbidden: True for the ids that stand for nothing, (vocab,).
        fallback_id: what is sampled where the logits are no numbers; None: that is a failure.
    """

    forbidden: NDArray[np.bool_]
    fallback_id: int | None = None

    @classmethod
    def of(cls, size: int, decodable: Container[int], fallback_id: int | None = None) -> Vocabulary:
        """The vocabulary of a network with ``size`` rows and a tokenizer that may know fewer."""
        forbidden = np.array([token not in decodable for token in range(size)])
        return cls(forbidden, fallback_id)


class Sampler:
    """Chooses the tokens of one request; to be used by one thread at a time.

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
        self._said = np.zeros_like(vocabulary.forbidden)
        self._said[list(prompt_ids)] = True
        # Worked on in place: at 152k ids, new memory for every row costs ten times the arithmetic.
        self._row = np.empty(len(self._said), np.float32)
        # Seeds may be negative; numpy's are not.
        seed = None if settings.seed is None else settings.seed % 2**64
        self._random = np.random.Generator(np.random.PCG64(seed))

    def sample(self, logits: Row) -> int:
        """The next token after one row of logits, (vocab,).

        Raises:
            GenerationError: the logits are no numbers.
        """
        scores = self._scores(logits)
        if self._settings.temperature < _GREEDY_BELOW:
            token = int(scores.argmax())
        else:
            token = _drawn(scores, self._settings, self._random)
        self._said[token] = True
        return token

    def shares(self, logits: Row) -> Row:
        """What the next token would be drawn from, (vocab,), where the temperature isn't 0.

        Raises:
            GenerationError: the logits are no numbers.
        """
        return probabilities(self._scores(logits), self._settings)

    def _scores(self, logits: Row) -> Row:
        """The logits of what may be said, less where it was said before."""
        scores = self._row
        scores[:] = make_finite(logits, self._vocabulary.fallback_id)
        scores[self._vocabulary.forbidden] = -np.inf
        penalty = self._settings.repetition_penalty
        if penalty != 1:
            said = np.flatnonzero(self._said)
            old = scores[said]
            scores[said] = np.where(old < 0, old * penalty, old / penalty)
        return scores


def make_finite(logits: Row, fallback_id: int | None) -> Row:
    """The logits as they are, or, where some are nan or inf, all weight on ``fallback_id``.

    Raises:
        GenerationError: there is no ``fallback_id``.
    """
    # A nan is both the most and the least.
    if np.isfinite(logits.max()) and np.isfinite(logits.min()):
        return logits
    if fallback_id is None:
        raise GenerationError("The model's numbers ran out of range.")
    replaced = np.zeros_like(logits)
    replaced[..., fallback_id] = 5e4
    return replaced


def probabilities(scores: Row, settings: SamplingSettings) -> Row:
    """The distribution that is sampled from, (vocab,): temperature, then top-k, then top-p.

    Ties at the border of top-k stay in, as in transformers.
    """
    ids, weights = _weighed(scores.copy(), settings)
    _leave_nucleus(weights, settings.top_p)
    shares = np.zeros_like(scores)
    shares[ids] = weights / weights.sum()
    return shares


def _weighed(scores: Row, settings: SamplingSettings) -> tuple[NDArray[np.intp] | slice, Row]:
    """Ids and, in proportion, their probabilities before top-p; overwrites ``scores``."""
    ids: NDArray[np.intp] | slice = slice(None)
    if 0 < settings.top_k < len(scores):
        ids = _likeliest(scores, settings.top_k)
        scores = scores[ids]
    scores -= scores.max()
    scores /= settings.temperature
    return ids, np.exp(scores, out=scores)


def _likeliest(scores: Row, count: int) -> NDArray[np.intp]:
    """The ids of the ``count`` highest scores and of those that equal the last of them."""
    columns = len(scores) // _ROWS
    floor = -np.inf
    if columns >= count:
        # At least ``count`` scores reach this, and hardly any more: cheaper than sorting them all.
        highest = scores[: columns * _ROWS].reshape(_ROWS, columns).max(axis=0)
        floor = np.partition(highest, columns - count)[columns - count]
    ids = np.flatnonzero(scores >= floor)
    first = len(ids) - count
    border = np.partition(scores[ids], first)[first]
    likeliest: NDArray[np.intp] = ids[scores[ids] >= border]
    return likeliest


def _leave_nucleus(weights: Row, top_p: float) -> None:
    """Leaves the most with a share of ``top_p`` together, at least one; of equals the first."""
    if top_p >= 1:
        return
    total = float(weights.sum(dtype=np.float64))
    # All with less than this have together less than 1 - top_p: none of them is needed, and most
    # of a vocabulary needn't be sorted.
    rising = weights[weights > (1 - top_p) * total / (2 * len(weights))]
    rising.sort()
    needed = _first_beyond(rising[::-1], np.nextafter(top_p * total, 0)) + 1
    border = rising[-needed]
    weights[weights < border] = 0
    equals = np.flatnonzero(weights == border)
    above = len(rising) - int(rising.searchsorted(border, side="right"))
    weights[equals[needed - above :]] = 0


def _drawn(scores: Row, settings: SamplingSettings, random: np.random.Generator) -> int:
    """An id by the distribution of ``probabilities``; overwrites ``scores``.

    In the order of ids, so that rounding swaps none of them.
    """
    ids, weights = _weighed(scores, settings)
    enough = settings.top_p
    if enough < _RARELY_INSIDE:
        _leave_nucleus(weights, enough)
        enough = 1.0
    total = float(weights.sum(dtype=np.float64))
    while True:
        place = _first_beyond(weights, random.random() * total)
        # To draw again what lies outside gives the same distribution, and sorts nothing: a
        # vocabulary of 152k takes 0.4 ms instead of up to 1.8.
        if enough >= 1 or _share_before(weights, place) < enough * total:
            return place if isinstance(ids, slice) else int(ids[place])


def _share_before(weights: Row, place: int) -> float:
    """The sum of all that are more than the one at a place, or as much and before it."""
    weight = weights[place]
    more = float(weights[weights > weight].sum(dtype=np.float64))
    return more + float(weight) * int(np.count_nonzero(weights[:place] == weight))


def _first_beyond(weights: Row, point: float) -> int:
    """The first place where all weights so far exceed ``point``, or are all; never one of 0."""
    # In blocks: sums from place to place take 1.5 ms for 152k.
    blocks = np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK), dtype=np.float64)
    block, rest = _search(blocks.cumsum(), point)
    start = block * _BLOCK
    inside = weights[start : start + _BLOCK].cumsum(dtype=np.float64)
    return start + _search(inside, rest)[0]


def _search(sums: NDArray[np.float64], point: float) -> tuple[int, float]:
    """The first place with a sum beyond ``point``, and what is missing before it."""
    place = int(sums.searchsorted(min(point, np.nextafter(sums[-1], 0)), side="right"))
    return place, point - (float(sums[place - 1]) if place else 0.0)
