"""Holds the one model of this process: loads it in a thread of its own, then runs its engine there.

Says at any time how far that is. Imports torch in that thread only, so that the process can answer
before. Knows no HTTP.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from backends.server.errors import ServerError
from backends.server.generation import Limits

if TYPE_CHECKING:
    from backends.server.engine import Engine

logger = logging.getLogger(__name__)

# Where each stage begins and ends in the whole.
_STAGES = {
    "libraries": (0.02, 0.1),
    "tokenizer": (0.1, 0.15),
    "weights": (0.15, 0.95),
    "first step": (0.95, 1.0),
}


@dataclass(frozen=True)
class HostedModel:
    """What is served, by the names that others know it by.

    Attributes:
        max_tokens: an answer's length where a request doesn't say.
    """

    key: str
    folder: Path
    revision: str = ""
    max_tokens: int = 512


@dataclass(frozen=True)
class Health:
    """How the process is.

    Attributes:
        progress: of loading, 0 to 1.
        stage: of loading, in a word.
        error: why loading failed.
    """

    status: Literal["loading", "ready", "failed"]
    progress: float = 0.0
    stage: str = "starting"
    error: str = ""


class ModelHost:
    """Loads one model and lets it answer.

    Args:
        model: what to load.
        limits: what it may use.
    """

    precision = "float32"

    def __init__(self, model: HostedModel, limits: Limits) -> None:
        self.model = model
        self._limits = limits
        self._health = Health("loading")
        self._engine: Engine | None = None

    @property
    def health(self) -> Health:
        """How far it is."""
        return self._health

    @property
    def engine(self) -> Engine | None:
        """What answers; None until the model is ready."""
        return self._engine

    def start(self) -> None:
        """Begins to load; returns at once."""
        threading.Thread(target=self._run, name="model", daemon=True).start()

    def close(self) -> None:
        """Ends all answers."""
        if self._engine is not None:
            self._engine.close()

    def _run(self) -> None:
        engine = self._load_or_fail()
        if engine is None:
            return
        self._engine = engine
        self._health = Health("ready", 1.0, "ready")
        logger.info("%s is ready", self.model.key)
        # In the thread that loaded the model: torch decodes up to 1.7 times slower in another.
        engine.run()

    def _load_or_fail(self) -> Engine | None:
        try:
            return self._load()
        except ServerError as error:
            logger.error("%s can't be loaded: %s", self.model.key, error)
            self._health = Health("failed", error=str(error))
        except Exception as error:
            logger.exception("%s can't be loaded", self.model.key)
            self._health = Health("failed", error=f"{type(error).__name__}: {error}")
        return None

    def _load(self) -> Engine:
        self._note("libraries", 0.0)
        # Imports torch, which takes seconds; before, the process must already answer.
        from backends.server.loading import load_engine  # noqa: PLC0415

        return load_engine(self.model.folder, self.precision, self._limits, self._note)

    def _note(self, stage: str, done: float) -> None:
        start, end = _STAGES[stage]
        self._health = Health("loading", start + (end - start) * done, stage)
