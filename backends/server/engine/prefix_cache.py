"""Keeps the keys and values of ended answers for prompts that begin in the same way.

A conversation's next turn, an answer that is asked for again and a common system text then cost
only what is new. Memory-bounded: what hasn't served for longest goes first, and of a sequence that
is too long by itself the beginning stays. Belongs to one thread; knows no requests, and leaves it
to the network what of a stored sequence serves a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from backends.server.batch import KVCache
from backends.server.model import Network

# Computing so few tokens anew takes hardly longer than finding and copying them.
_LEAST_TOKENS = 16
# Too long sequences are cut at a multiple of this: caches may take memory in steps of it.
_STEP = 64


@dataclass(frozen=True)
class PrefixStats:
    """What reuse has spared so far, and what is kept for it.

    Attributes:
        hits: prompts of which a part was there already.
        reused_tokens: how many tokens that was in all.
        sequences: how many are kept.
        kept_bytes: the memory that they take.
        limit_bytes: the most that they may take.
    """

    hits: int = 0
    reused_tokens: int = 0
    sequences: int = 0
    kept_bytes: int = 0
    limit_bytes: int = 0


class PrefixCache:
    """The caches of ended answers.

    Args:
        network: whose caches they are.
        limit_bytes: the most memory that they may take together.

    Attributes:
        stats: may be read by any thread.
    """

    def __init__(self, network: Network, limit_bytes: int) -> None:
        self._network = network
        self._limit_bytes = limit_bytes
        self._kept: list[KVCache] = []  # the next to go first
        self.stats = PrefixStats(limit_bytes=limit_bytes)

    def cache_for(self, prompt: Sequence[int], in_use: Iterable[KVCache] = ()) -> KVCache:
        """A cache of the caller's own that holds as much of a prompt's beginning as is known.

        A kept sequence that serves as a whole is given away; of any other, the part that serves is
        copied, so that it can still serve others.

        Args:
            prompt: all of it; at least its last token is left to compute.
            in_use: more caches to copy from.
        """
        stored = [*in_use, *self._kept]
        # Of equals, rather one that need not be copied, and rather the latest.
        found = [
            (length, length == cache.length, place)
            for place, cache in enumerate(stored)
            if (length := self._network.reusable(cache.token_ids, prompt)) >= _LEAST_TOKENS
        ]
        if not found:
            return self._network.new_cache()
        length, _, place = max(found)
        cache = self._take(stored[place], length)
        self._count(hits=self.stats.hits + 1, reused_tokens=self.stats.reused_tokens + length)
        return cache

    def keep(self, cache: KVCache) -> None:
        """Takes over the cache of an ended answer, or as much of its beginning as fits."""
        fitting = cache if cache.nbytes <= self._limit_bytes else self._cut(cache)
        if fitting is not None and fitting.length >= _LEAST_TOKENS:
            self._add(fitting)

    def clear(self) -> None:
        """Gives the memory back."""
        self._kept.clear()
        self._count()

    def _cut(self, cache: KVCache) -> KVCache | None:
        """A copy of what fits; None where the network can't cut there, or it would serve nobody."""
        length = cache.length * self._limit_bytes // cache.nbytes // _STEP * _STEP
        ids = cache.token_ids
        cuts = self._network.reusable(ids, ids[: length + 1]) == length
        if not length or not cuts or self._network.reusable(ids[:length], ids) < length:
            return None
        copied = cache.prefix(length)
        return copied if copied.nbytes <= self._limit_bytes else None

    def _add(self, cache: KVCache) -> None:
        better = next((kept for kept in self._kept if self._replaces(kept, cache)), None)
        if better is not None:
            self._use(better)
        else:
            self._kept = [kept for kept in self._kept if not self._replaces(cache, kept)]
            self._kept.append(cache)
            while sum(kept.nbytes for kept in self._kept) > self._limit_bytes:
                del self._kept[0]
        self._count()

    def _take(self, cache: KVCache, length: int) -> KVCache:
        kept = any(cache is one for one in self._kept)
        if kept and length == cache.length:
            self._kept = [one for one in self._kept if one is not cache]
            return cache
        if kept:
            self._use(cache)
        return cache.prefix(length)

    def _use(self, cache: KVCache) -> None:
        self._kept = [*(one for one in self._kept if one is not cache), cache]

    def _replaces(self, one: KVCache, other: KVCache) -> bool:
        """Whether one serves whatever the other serves: it has all of it, perhaps with more."""
        continued = [*other.token_ids, other.token_ids[-1]]
        return self._network.reusable(one.token_ids, continued) == other.length

    def _count(self, **changes: int) -> None:
        kept_bytes = sum(kept.nbytes for kept in self._kept)
        self.stats = replace(
            self.stats, sequences=len(self._kept), kept_bytes=kept_bytes, **changes
        )
