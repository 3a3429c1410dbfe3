"""Ratings frames written by hand, as `rating.frames` makes them of a database."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from db import Dimension, Side

MODELS = ("one", "two")
FIRST_DAY = pd.Timestamp("2026-03-01", tz="UTC")

_DEFAULTS: Mapping[str, Any] = {
    "rater": "r1",
    "session": None,
    "prompt": "p1",
    "pair": "one|two",
    "left_model": "one",
    "right_model": "two",
    "blind": True,
    "language": "en",
    "kind": "regular",
    "repeat_of": None,
    "better": None,
    "preference": "tie",
    "guess": None,
    "n_turns": 1,
    "rating_s": np.nan,
    "ready_s": np.nan,
    "left_chars": np.nan,
    "right_chars": np.nan,
    "flags": (),
}


def trial(**values: Any) -> dict[str, Any]:
    """One row; `left` and `right` are one score for all dimensions, or a list of five."""
    row = {**_DEFAULTS, **values}
    for side in Side:
        scores = row.pop(side.value, 3.0)
        scores = scores if isinstance(scores, Sequence) else [scores] * len(Dimension)
        for dimension, score in zip(Dimension, scores, strict=True):
            row.setdefault(f"{side.value}_{dimension.value}", float(score))
    return row


def frame(*rows: Mapping[str, Any]) -> pd.DataFrame:
    """A frame of `trial`s, numbered and a minute apart in this order where they don't say."""
    numbered = [
        {"trial": f"t{n}", "rated_at": FIRST_DAY + pd.Timedelta(minutes=n), **row}
        for n, row in enumerate(rows)
    ]
    made = pd.DataFrame(numbered, columns=list(numbered[0]) if numbered else columns())
    numbers = [name for name in columns() if name.endswith(("_s", "_chars")) or _is_score(name)]
    return made.astype(dict.fromkeys(numbers, float))


def columns() -> list[str]:
    """The names of a frame's columns."""
    return ["trial", "rated_at", *trial()]


def swapped(ratings: pd.DataFrame) -> pd.DataFrame:
    """The same ratings with every pair of panes the other way round."""
    names = {}
    for name in columns():
        for here, there in (("left_", "right_"), ("right_", "left_")):
            if name.startswith(here):
                names[name] = there + name.removeprefix(here)
    sides = {"left": "right", "right": "left"}
    other = ratings.rename(columns=names)
    for column in ("preference", "guess", "better"):
        other[column] = ratings[column].map(lambda value: sides.get(value, value))
    return other


def renamed(ratings: pd.DataFrame) -> pd.DataFrame:
    """The same ratings with the two models' names exchanged."""
    names = dict(zip(MODELS, reversed(MODELS), strict=True))
    other = ratings.copy()
    for side in Side:
        other[f"{side.value}_model"] = ratings[f"{side.value}_model"].map(names)
    return other


def drawn(
    prompts: int, raters: int, seed: int = 0, *, better_by: float = 0.4, noise: float = 0.8
) -> pd.DataFrame:
    """A study in which each rater rates each prompt; sides, preferences and guesses vary."""
    random = np.random.default_rng(seed)
    rows = []
    for prompt in range(prompts):
        hard, apart = random.normal(3, 0.8), random.normal(better_by, 0.6)
        for rater in range(raters):
            first, second = (
                np.clip(np.rint(hard + by + random.normal(0, noise, len(Dimension))), 1, 5)
                for by in (0, apart)
            )
            two_left = bool(random.random() < 0.5)
            rows.append(
                trial(
                    rater=f"r{rater}",
                    prompt=f"p{prompt:04}",
                    left_model=MODELS[two_left],
                    right_model=MODELS[not two_left],
                    left=list(second if two_left else first),
                    right=list(first if two_left else second),
                    preference=str(random.choice(["left", "right", "tie", "both_bad"])),
                    guess=str(random.choice(["left", "right"])),
                    left_chars=float(random.integers(10, 400)),
                    right_chars=float(random.integers(10, 400)),
                    rating_s=600.0,
                )
            )
    return frame(*rows)


def _is_score(name: str) -> bool:
    return name.startswith(("left_", "right_")) and name.split("_")[1] in set(Dimension)
