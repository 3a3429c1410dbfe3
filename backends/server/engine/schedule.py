"""Whose prompt is computed next while others are being answered.

Prompts share the network as fairly as they can without making anyone wait for long: the one with
the least left comes first, so that a short prompt isn't stuck behind a long one; but a quarter goes
to the one that came first, so that new short ones can't hold it up for ever. Computes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

_FOR_THE_FIRST = 4


def share_out(remaining: Sequence[int], budget: int) -> list[int]:
    """How many tokens of each prompt go into the next step.

    Args:
        remaining: what is left of each, in the order in which they came.
        budget: the most tokens of all together.
    """
    shares = [0] * len(remaining)
    shortest_first = sorted(range(len(remaining)), key=remaining.__getitem__)
    wishes = [(place, budget) for place in shortest_first]
    for place, most in [(0, max(1, budget // _FOR_THE_FIRST)), *wishes] if remaining else []:
        more = min(most, remaining[place] - shares[place], budget - sum(shares))
        shares[place] += more
    return shares


class Turns:
    """The same where one prompt at a time can be computed: chooses it for every turn."""

    def __init__(self) -> None:
        self._count = 0

    def choose(self, sizes: Sequence[int]) -> int:
        """The place of the prompt whose turn it is.

        Args:
            sizes: of at least one prompt, in the order in which they came.
        """
        self._count += 1
        return 0 if self._count % _FOR_THE_FIRST == 0 else sizes.index(min(sizes))
