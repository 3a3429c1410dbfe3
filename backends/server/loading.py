"""Makes an engine of a checkpoint folder, ready to answer.

``host`` imports it in the thread that is to step the model. Imports no torch itself: those families
and precisions do that compute with it.
"""

from __future__ import annotations

import logging
from pathlib import Path

from backends.amounts import bytes_text
from backends.memory import default_cache_bytes, free_bytes
from backends.server.checkpoints.weights import Progress
from backends.server.engine import Engine
from backends.server.generation import Limits
from backends.server.model import load_model

logger = logging.getLogger(__name__)


def load_engine(
    folder: Path,
    precision: str | None,
    limits: Limits,
    progress: Progress,
    adapter: Path | None = None,
) -> Engine:
    """Loads a model and lets it say its first word, which nobody hears.

    Args:
        folder: a checkpoint.
        precision: see ``load_model``.
        limits: what the model may use.
        progress: is told how far loading is.
        adapter: see ``load_model``.

    Raises:
        CheckpointError: the folder holds nothing that can chat.
    """
    model = load_model(folder, precision, progress, adapter, limits.threads)
    progress("first step", 0.0)
    # Finds a missing chat template now, and makes the first answer as fast as the others.
    model.generate(model.tokenizer.encode_chat([{"role": "user", "content": "?"}]), 2)
    cache_bytes = limits.cache_bytes
    if cache_bytes is None:
        cache_bytes = default_cache_bytes(free_bytes())
    logger.info("Up to %s are for what ended answers leave to later ones", bytes_text(cache_bytes))
    return Engine(model, places=limits.places, queue=limits.queue, cache_bytes=cache_bytes)
