"""The angles by which positions turn queries and keys, in the ways that Qwen2's configs name.

Gives frequencies as numpy arrays; turning is the network's business. The formulas are those of
transformers (``modeling_rope_utils``), computed in float32 as the checkpoints were trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from backends.server.errors import CheckpointError

Frequencies = NDArray[np.float32]

_ORIGINAL = "original_max_position_embeddings"

# By kind, what its settings have to say, and what they may.
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "dynamic": ("factor",),
    "linear": ("factor",),
    "yarn": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}
_OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "yarn": ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"),
}


@dataclass(frozen=True)
class Rotary:
    """A way of turning, with its settings.

    Attributes:
        kind: "default", "linear", "yarn", "llama3", or "dynamic", which is the default within the
            context, and nothing else is ever computed.
        theta: the base of the wavelengths.
        original_context: the length that "yarn" and "llama3" stretch.
        settings: other numbers, by their published names.
        truncate: whether "yarn" rounds the borders of its ramp.
    """

    kind: str = "default"
    theta: float = 10_000.0
    original_context: int = 32768
    settings: tuple[tuple[str, float], ...] = ()
    truncate: bool = True

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], context: int) -> Self:
        """Reads what a config.json says, in the older or the newer names.

        Raises:
            CheckpointError: a kind that isn't known, or nonsense.
        """
        said = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
        # Some other families have parameters of their own for each kind of layer.
        if not isinstance(said, dict) or any(isinstance(part, dict) for part in said.values()):
            raise CheckpointError(f"rope_parameters can't be {said!r}.")
        kind: Any = said.get("rope_type", said.get("type", "default"))
        if not isinstance(kind, str) or kind not in _NEEDED:
            raise CheckpointError(f"Positions of the kind {kind!r} (rope_type) can't be computed.")
        if raw.get("partial_rotary_factor", said.get("partial_rotary_factor", 1)) != 1:
            raise CheckpointError("Heads that turn in part (partial_rotary_factor) aren't known.")
        optional = [name for name in _OPTIONAL.get(kind, ()) if said.get(name) is not None]
        return cls(
            kind,
            theta=_number("rope_theta", said.get("rope_theta", raw.get("rope_theta", 10_000)), 1),
            original_context=int(_number(_ORIGINAL, said.get(_ORIGINAL) or context)),
            settings=tuple(
                (name, _number(name, said.get(name))) for name in (*_NEEDED[kind], *optional)
            ),
            truncate=bool(said.get("truncate", True)),
        )

    def to_dict(self) -> dict[str, Any]:
        """The same in the names of a config.json."""
        said: dict[str, Any] = {"rope_type": self.kind, "rope_theta": self.theta}
        if self.kind in ("yarn", "llama3"):
            said[_ORIGINAL] = self.original_context
        if self.kind == "yarn":
            said["truncate"] = self.truncate
        return said | dict(self.settings)

    def frequencies(self, head_dim: int) -> Frequencies:
        """Radians a position, for each pair of a head's columns (j, j + head_dim / 2)."""
        plain = self._plain(head_dim)
        if self.kind == "linear":
            return np.asarray(plain / self._factor, np.float32)
        if self.kind == "llama3":
            return self._llama3(plain)
        if self.kind == "yarn":
            return self._yarn(plain, head_dim)
        return plain

    @property
    def scale(self) -> float:
        """What cosines and sines are multiplied by."""
        if self.kind != "yarn":
            return 1.0
        settings = dict(self.settings)
        if "attention_factor" in settings:
            return settings["attention_factor"]
        if "mscale" in settings and "mscale_all_dim" in settings:
            over = _magnitude(self._factor, settings["mscale"])
            return over / _magnitude(self._factor, settings["mscale_all_dim"])
        return _magnitude(self._factor)

    @property
    def _factor(self) -> float:
        return dict(self.settings)["factor"]

    def _plain(self, head_dim: int) -> Frequencies:
        exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
        return np.asarray(1 / np.float32(self.theta) ** exponents, np.float32)

    def _llama3(self, plain: Frequencies) -> Frequencies:
        """Slow turns slower by the factor, fast ones as they are, those between in between."""
        settings = dict(self.settings)
        low, high = settings["low_freq_factor"], settings["high_freq_factor"]
        # As a step where they are the same.
        span = max(high - low, 1e-6)
        turns = self.original_context * plain / np.float32(2 * math.pi)
        share = np.clip((turns - low) / span, 0, 1)
        mixed = (1 - share) * plain / self._factor + share * plain
        return np.asarray(mixed, np.float32)

    def _yarn(self, plain: Frequencies, head_dim: int) -> Frequencies:
        """The same with a ramp over the columns."""
        settings = dict(self.settings)
        low = self._column(settings.get("beta_fast", 32), head_dim)
        high = self._column(settings.get("beta_slow", 1), head_dim)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, head_dim - 1)
        if low == high:
            high += 0.001
        columns = np.arange(len(plain), dtype=np.float32)
        ramp = np.clip((columns - np.float32(low)) / np.float32(high - low), 0, 1)
        mixed = plain / np.float32(self._factor) * ramp + plain * (1 - ramp)
        return np.asarray(mixed, np.float32)

    def _column(self, turns: float, head_dim: int) -> float:
        """Which pair of columns turns so often within the original context."""
        positions = self.original_context / (turns * 2 * math.pi)
        return head_dim * math.log(positions) / (2 * math.log(self.theta))


def _magnitude(factor: float, weight: float = 1.0) -> float:
    """YaRN's correction of attention for a stretched context."""
    return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0


def _number(name: str, value: Any, above: float = 0) -> float:
    """A setting's value.

    Raises:
        CheckpointError: it is none that it can have.
    """
    if type(value) not in (int, float) or not above < value < math.inf:
        raise CheckpointError(f"{name} can't be {value!r}.")
    return float(value)
