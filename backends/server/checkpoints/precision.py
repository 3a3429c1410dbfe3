"""Which precisions an unquantised checkpoint can be computed in, and which one it takes by itself.

Looks at how the weights are stored, without reading them, and at what the CPU multiplies well.
Quantised checkpoints have rules of their own, in their families.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backends.server.checkpoints.weights import count_short, read_json
from backends.server.errors import CheckpointError

FLOAT32 = "float32"
BFLOAT16 = "bfloat16"
INT8 = "int8"
INT4 = "int4"
INT4_GROUP = 32
"""Neighbouring columns that share a scale in int4."""

# Below this the weights fit into caches, and float32 is as fast.
_LARGE = 100_000_000


def unquantised_precisions(folder: Path) -> tuple[str, ...]:
    """The plain precisions of a checkpoint whose weights are floats, its own choice first.

    Raises:
        CheckpointError: it is quantised, or its weights are missing or damaged.
    """
    if is_large(folder) and multiplies_bfloat16():
        return (BFLOAT16, FLOAT32)
    return (FLOAT32, BFLOAT16)


def is_large(folder: Path) -> bool:
    """Whether a checkpoint of floats has so many of 16 bits that reading them takes the time.

    Raises:
        CheckpointError: it is quantised, or its weights are missing or damaged.
    """
    quantised = read_json(folder / "config.json").get("quantization_config")
    if quantised is not None:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        raise CheckpointError(
            f"{folder} is quantised ({method}), which can't be read for this kind of model. "
            "Use the checkpoint that isn't quantised."
        )
    return count_short(folder) > _LARGE


def multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for it; without them it is slower than float32."""
    import torch  # noqa: PLC0415 - those who compute without it don't ask

    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def choose(wanted: str | None, possible: Sequence[str], folder: Path) -> str:
    """The precision that is wanted, or the checkpoint's own choice.

    Args:
        wanted: a precision, or several parted by commas, of which the first possible one is taken;
            None for the own choice.
        possible: the checkpoint's precisions, its own choice first.
        folder: the checkpoint, for the message.

    Raises:
        CheckpointError: the checkpoint can't be computed so.
    """
    if wanted is None:
        return possible[0]
    chosen = next((name for name in wanted.split(",") if name in possible), None)
    if chosen is None:
        raise CheckpointError(
            f"{folder} can't be computed in {wanted!r}; possible: {', '.join(possible)}."
        )
    return chosen
