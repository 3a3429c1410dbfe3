"""Which precisions an unquantised checkpoint can be computed in, and which one it takes by itself.

Looks at how the weights are stored, without reading them, and at what the CPU multiplies well.
Quantised checkpoints have rules of their own, in their families.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from backends.server.errors import CheckpointError
from backends.server.weights import read_json, read_tensors

FLOAT32 = "float32"
BFLOAT16 = "bfloat16"
DTYPES = {FLOAT32: torch.float32, BFLOAT16: torch.bfloat16}

# Below this the weights fit into caches, and float32 is as fast.
_LARGE = 100_000_000


def unquantised_precisions(folder: Path) -> tuple[str, ...]:
    """The precisions of a checkpoint whose weights are plain floats, its own choice first.

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
    large_and_short = _stored_short(folder) > _LARGE
    if large_and_short and multiplies_bfloat16():
        return (BFLOAT16, FLOAT32)
    return (FLOAT32, BFLOAT16)


def multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for it; without them it is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def choose(wanted: str | None, possible: Sequence[str], folder: Path) -> str:
    """The precision that is wanted, or the checkpoint's own choice.

    Args:
        wanted: a precision, None for the own choice.
        possible: the checkpoint's precisions, its own choice first.
        folder: the checkpoint, for the message.

    Raises:
        CheckpointError: the checkpoint can't be computed so.
    """
    if wanted is None:
        return possible[0]
    if wanted not in possible:
        raise CheckpointError(
            f"{folder} can't be computed in {wanted!r}; possible: {', '.join(possible)}."
        )
    return wanted


def _stored_short(folder: Path) -> int:
    """How many weights are stored in 16 bits."""
    # Tensors are mapped: only their headers are read here.
    tensors = (tensor for _, tensor in read_tensors(folder))
    return sum(t.numel() for t in tensors if t.dtype in (torch.float16, torch.bfloat16))
