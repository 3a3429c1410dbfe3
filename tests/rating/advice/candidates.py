"""Candidates as a measurement and raters would leave them, without either."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from rating.advice.candidates import Candidate, Compared, Ground
from rating.statistics.intervals import mean_of

QWEN = "qwen1.5-0.5b-chat"
CHATGLM = "chatglm-6b-int4"

RUNS = tuple(product(range(1, 4), range(1, 6)))
"""Three prompts, five times each, as a measurement asks unless told otherwise."""


def candidate(
    key: str, *, first_s: float = 1.0, answer_s: float = 4.0, spread: float = 0.1, **changes: Any
) -> Candidate:
    """Make a model that was measured well; single times lie up to `spread` around their mean."""
    around = [1 + spread * (-1) ** n * (n + 1) / len(RUNS) for n in range(len(RUNS))]
    middle = sum(around) / len(around)
    values: dict[str, Any] = {
        "peak_bytes": 2_000_000_000,
        "size_bytes": 1_000_000_000,
        "cold_start_s": 10.0,
        "warm_start_s": 5.0,
        "first_token_s": {r: first_s * a / middle for r, a in zip(RUNS, around, strict=True)},
        "answer_s": {r: answer_s * a / middle for r, a in zip(RUNS, around, strict=True)},
    }
    return Candidate(key, **values | changes)


def compared(*differences: float, blind: bool = True) -> Compared:
    """What ratings say where these are the differences by prompt, on every ground."""
    mean = mean_of(differences)
    assert mean is not None
    return Compared(dict.fromkeys(Ground, mean), n_ratings=len(differences), blind=blind)


def rated(
    one: Candidate, other: Candidate, differences: Sequence[float], *, blind: bool = True
) -> tuple[Candidate, Candidate]:
    """Return both with ratings; a positive difference is for `one`."""
    here = compared(*differences, blind=blind)
    there = compared(*(-value for value in differences), blind=blind)
    return (
        replace(one, against={**one.against, other.model_key: here}),
        replace(other, against={**other.against, one.model_key: there}),
    )


def article_pair() -> tuple[Candidate, Candidate]:
    """The article's models with its own figures, unrated."""
    return (
        candidate(
            QWEN,
            first_s=0.9,
            answer_s=3.03,
            peak_bytes=2_100_000_000,
            size_bytes=1_100_000_000,
            cold_start_s=12.0,
            warm_start_s=6.0,
        ),
        candidate(
            CHATGLM,
            first_s=3.1,
            answer_s=7.97,
            peak_bytes=6_500_000_000,
            size_bytes=3_800_000_000,
            cold_start_s=310.0,
            warm_start_s=150.0,
        ),
    )
