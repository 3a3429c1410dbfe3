"""What the engine is asked for, may use, and says back: plain data.

Knows no torch, no HTTP and no tokens' meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class Bounds:
    """The least and the most that a setting may be, both included; None: there is no most."""

    least: float
    most: float | None


SAMPLING_BOUNDS: Mapping[str, Bounds] = {
    "repetition_penalty": Bounds(1e-3, 10),
    "temperature": Bounds(0, 2),
    "top_k": Bounds(-1, None),  # -1 is another way to say that it is off
    "top_p": Bounds(0, 1),
}
"""What a client may ask for, and so what a checkpoint's own settings are held to."""


@dataclass(frozen=True)
class SamplingSettings:
    """How the next token is chosen, in the order in which it is applied.

    Attributes:
        repetition_penalty: makes ids that were already there less likely; 1 is off.
        temperature: 0 takes the likeliest token.
        top_k: only so many likeliest tokens; 0 is off.
        top_p: only the likeliest tokens that together have this probability; 1 is off.
        seed: the same seed gives the same answer; None: a new one every time.
    """

    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None

    def overridden(self, given: Mapping[str, Any]) -> SamplingSettings:
        """The same, with every value of ``given`` that is one of its fields and not None."""
        known = SamplingSettings.__dataclass_fields__
        changes = {k: v for k, v in given.items() if k in known and v is not None}
        return replace(self, **changes)


@dataclass(frozen=True)
class Limits:
    """What the process may use.

    Attributes:
        threads: for the model's arithmetic; None: as many as there are cores.
        places: how many requests are answered at a time.
        queue: how many more may wait.
        cache_bytes: for the keys and values of ended answers, so that a conversation's next turn
            computes only what is new; those of answers in the making come on top. None: it depends
            on what is free once the model is loaded.
    """

    threads: int | None = None
    places: int = 8
    queue: int = 32
    cache_bytes: int | None = None


@dataclass(frozen=True)
class GenerationRequest:
    """One answer that is wanted.

    Attributes:
        prompt_ids: the whole prompt.
        max_tokens: the answer's longest length; cut to what the context leaves.
        sampling: how tokens are chosen.
        stops: strings that end the answer and are not part of it.
    """

    prompt_ids: tuple[int, ...]
    max_tokens: int
    sampling: SamplingSettings
    stops: tuple[str, ...] = ()


@dataclass(frozen=True)
class Waiting:
    """The request waits for a place.

    Attributes:
        before: how many requests are before it: answered at the moment, or waiting as well.
    """

    before: int


@dataclass(frozen=True)
class TextPiece:
    """More of the answer; never changes what was said before."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The end of an answer.

    Attributes:
        completion_tokens: without the token that ends the answer.
    """

    reason: Literal["stop", "length", "cancelled"]
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Failed:
    """The model failed; nothing more comes."""

    message: str


Event = Waiting | TextPiece | Finished | Failed
