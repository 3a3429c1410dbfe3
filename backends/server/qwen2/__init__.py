"""Qwen1.5, Qwen2 and Qwen2.5 checkpoints, natively: their network, from the published files.

Tokenizer and chat template are the checkpoint's own. Executes no code from a checkpoint. Importing
this imports no torch: ``load_network`` does where it computes with it.

To train one: ``Qwen2Network(Qwen2Config(...))`` of ``network`` starts at random,
``network(FlatBatch.of(sequences, rows))`` gives logits with gradients, and ``network.save(folder)``
writes weights that ``load_model`` reads beside a tokenizer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backends.server.checkpoints.generation_config import read_defaults
from backends.server.checkpoints.precision import BFLOAT16, FLOAT32, INT4, INT8, is_large
from backends.server.checkpoints.weights import Progress, no_progress
from backends.server.qwen2.config import (
    Qwen2Config,
    effective_config,
    packed_name,
    read_config,
)
from backends.server.tokenizer.template import TemplateTokenizer, load_tokenizer

if TYPE_CHECKING:
    from backends.server.model import Network

__all__ = [
    "Qwen2Config",
    "fallback_id",
    "load_network",
    "load_tokenizer",
    "possible_precisions",
    "read_defaults",
]


def possible_precisions(folder: Path) -> tuple[str, ...]:
    """In what a checkpoint folder can be computed, its own choice first.

    Raises:
        CheckpointError: it is quantised, or something is missing or damaged.
    """
    possible = [FLOAT32, BFLOAT16, INT8]
    if is_large(folder):
        possible = [INT8, FLOAT32, BFLOAT16]
    if read_config(folder).fits_groups:
        possible.append(INT4)
    return tuple(possible)


def load_network(
    folder: Path,
    precision: str,
    progress: Progress = no_progress,
    adapter: Path | None = None,
    threads: int | None = None,
) -> Network:
    """The network of a checkpoint folder, in one of the possible precisions.

    Args:
        folder: holds config.json and the weights.
        precision: one of ``possible_precisions``.
        progress: is told of the stages "weights" and "converting".
        adapter: a LoRA adapter's folder, which is merged into the weights.
        threads: how many compute; None: as many as there are cores.

    Raises:
        CheckpointError: something is missing, damaged or doesn't fit the config.
    """
    if precision in (INT8, INT4):
        network = _native_network(folder, precision, progress, adapter, threads)
        if network is not None:
            return network
    from backends.server.qwen2 import checkpoint  # noqa: PLC0415 - imports torch

    return checkpoint.load_network(folder, precision, progress, adapter, threads)


def _native_network(
    folder: Path, precision: str, progress: Progress, adapter: Path | None, threads: int | None
) -> Network | None:
    """The network in native code; None where the CPU or the shape asks for torch."""
    from backends.server.kernels import Compute  # noqa: PLC0415 - not where torch computes
    from backends.server.qwen2 import native  # noqa: PLC0415 - as above

    compute, config = Compute.chosen(threads), effective_config(folder, adapter)
    if compute is None or not native.fits(config):
        return None
    name = packed_name(precision, adapter)
    return native.load_network(folder, config, precision, name, adapter, progress, compute)


def fallback_id(_tokenizer: TemplateTokenizer) -> None:
    """Logits that are no numbers are a failure here."""
