"""Which model stands on which side, for which rater.

Sides are balanced per rater and pair in permuted blocks. The blocks have varying lengths, and the
seed that orders them never leaves the server: with blocks of one known length a rater who has seen
the first reveals of a block could work out the last. Knows nothing of databases or models.
"""

import random
from collections.abc import Iterator

_HALF_BLOCKS = (2, 3, 4)


def pair_key(model: str, other: str) -> str:
    """Return the name of the pair, the same whichever side each model is on."""
    return "|".join(sorted((model, other)))


def swapped(seed: int, pair: str, rated_before: int) -> bool:
    """Whether the pair's second model (in the order of the key) goes to the left this time.

    Args:
        seed: The rater's secret seed.
        pair: What `pair_key` returned.
        rated_before: How many trials of this pair the rater has rated. An abandoned trial does not
            count: the next one repeats its sides, so that rated trials stay balanced.
    """
    sides = _sides(random.Random(f"{seed}|{pair}"))
    for _ in range(rated_before):
        next(sides)
    return next(sides)


def _sides(source: random.Random) -> Iterator[bool]:
    while True:
        half = source.choice(_HALF_BLOCKS)
        block = [True, False] * half
        source.shuffle(block)
        yield from block
