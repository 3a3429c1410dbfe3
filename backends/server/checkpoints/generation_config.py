"""How a checkpoint wants to be used: its generation_config.json, read as transformers reads it.

Chooses no tokens and loads no weights.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.server.checkpoints.weights import read_optional_json
from backends.server.errors import CheckpointError
from backends.server.generation import SAMPLING_BOUNDS, SamplingSettings

logger = logging.getLogger(__name__)

_FILE = "generation_config.json"
# What transformers takes where a file that wants sampling doesn't say.
_SAMPLED = SamplingSettings(temperature=1.0, top_k=50, top_p=1.0)
_GREEDY = SamplingSettings(temperature=0.0)
# Settings that change the answer and that the sampler doesn't know, with their neutral values.
_UNKNOWN: dict[str, tuple[Any, ...]] = {
    "min_p": (0,),
    "typical_p": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "num_beams": (1,),
    "no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1,),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "sequence_bias": ({}, []),
}


def read_defaults(folder: Path) -> SamplingSettings:
    """How the checkpoint wants to be sampled; greedily unless it asks for chance.

    Raises:
        CheckpointError: the file can't be read, or says nonsense.
    """
    given = read_sampling(folder)
    if read_optional_json(folder / _FILE).get("do_sample"):
        return _SAMPLED.overridden(given)
    return _GREEDY.overridden({"repetition_penalty": given.get("repetition_penalty")})


def read_sampling(folder: Path) -> dict[str, float]:
    """The settings that the file gives, none beyond what a client may ask for.

    A larger value becomes the largest: the client sends back what it has learnt from here, and
    would be refused every answer.

    Raises:
        CheckpointError: the file can't be read, or says nonsense.
    """
    said = read_optional_json(folder / _FILE)
    _warn_of_unknown(said, folder)
    given = {n: _number(said, n, folder) for n in SAMPLING_BOUNDS if said.get(n) is not None}
    kept = {name: _within_bounds(name, value) for name, value in given.items()}
    beyond = [name for name, value in given.items() if kept[name] < value]
    if beyond:
        asked, taken = (", ".join(f"{n} {v[n]}" for n in beyond) for v in (given, kept))
        logger.warning("%s asks for %s; the most is taken: %s", folder / _FILE, asked, taken)
    return kept


def read_stop_ids(folder: Path, otherwise: int | None) -> frozenset[int]:
    """The ids that end an answer: generation_config.json's, else config.json's and ``otherwise``.

    Raises:
        CheckpointError: a file can't be read.
    """
    said = read_optional_json(folder / _FILE).get("eos_token_id")
    if said is None:
        said = _listed(read_optional_json(folder / "config.json").get("eos_token_id"))
        said.append(otherwise)
    return frozenset(token for token in _listed(said) if isinstance(token, int))


def _number(said: Mapping[str, Any], name: str, folder: Path) -> float:
    value = said[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not SAMPLING_BOUNDS[name].least <= value < math.inf:
        raise CheckpointError(f"{folder / _FILE} gives {name} as {value!r}: no such value.")
    return int(max(value, 0)) if name == "top_k" else value


def _within_bounds(name: str, value: float) -> float:
    most = SAMPLING_BOUNDS[name].most
    return value if most is None else min(value, most)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _warn_of_unknown(said: Mapping[str, Any], folder: Path) -> None:
    unknown = [
        name
        for name, neutral in _UNKNOWN.items()
        if said.get(name) is not None and said[name] not in neutral
    ]
    if unknown:
        logger.warning("%s asks for %s, which is not done here", folder / _FILE, ", ".join(unknown))
