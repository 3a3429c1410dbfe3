"""Holds the one model of this process: fetches, loads and runs it in a thread of its own.

Says at any time how far that is. Imports what computes in that thread only, so that the process can
answer before. Knows no HTTP; how weights are fetched is ``backends.hub``'s.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from backends import hub, memory
from backends.catalog import HUBS, Hub, Model
from backends.checkpoint import UnusableFolder, read_checkpoint
from backends.cores import usable_cores
from backends.server.errors import ServerError
from backends.server.generation import Limits

if TYPE_CHECKING:
    from backends.server.engine import Engine

logger = logging.getLogger(__name__)

# Where each stage begins and ends in the whole. A download counts apart: it may take hours.
_STAGES = {
    "download": (0.0, 1.0),
    "libraries": (0.02, 0.1),
    "converting": (0.1, 0.85),
    "weights": (0.1, 0.9),
    "tokenizer": (0.9, 0.95),
    "first step": (0.95, 1.0),
}
# What is wrong with the model, its files or the machine, said to whoever runs the server.
_EXPLAINED = (ServerError, hub.HubError, memory.DoesNotFit, UnusableFolder)


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded.

    Attributes:
        precisions: in what it may compute, the first being taken that its weights allow; empty
            leaves the choice to them.
        hubs: where weights are looked for that are not here yet.
        force: load what needs more memory than is free.
    """

    precisions: Sequence[str] = ()
    hubs: Sequence[Hub] = HUBS
    force: bool = False


@dataclass(frozen=True)
class Health:
    """How the process is.

    Attributes:
        progress: of the loading, or of the download while there is one, 0 to 1.
        stage: of loading, in a word.
        download: how far the download is.
        error: why loading failed.
    """

    status: Literal["loading", "ready", "failed"]
    progress: float = 0.0
    stage: str = "starting"
    download: hub.Download | None = None
    error: str = ""


class ModelHost:
    """Loads one model and lets it answer.

    Args:
        model: what to load; without a folder, it is fetched.
        limits: what it may use.
        options: how it is loaded.
    """

    def __init__(self, model: Model, limits: Limits, options: LoadOptions | None = None) -> None:
        self._model = model
        self._limits = limits
        self._options = options or LoadOptions()
        self._health = Health("loading")
        self._engine: Engine | None = None
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    @property
    def model(self) -> Model:
        """What is loaded; complete once its files are there."""
        return self._model

    @property
    def health(self) -> Health:
        """How far it is."""
        return self._health

    @property
    def threads(self) -> int:
        """With how many it computes."""
        return self._limits.threads or usable_cores()

    @property
    def engine(self) -> Engine | None:
        """What answers; None until the model is ready."""
        return self._engine

    def start(self) -> None:
        """Begins to load, and returns at once; does nothing where it has begun."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """Ends all answers."""
        if self._engine is not None:
            self._engine.close()

    def _run(self) -> None:
        engine = self._load_or_fail()
        if engine is None:
            return
        self._engine = engine
        # Before others know: the app shows only what a server says while it loads.
        precision = engine.model.precision
        logger.info("%s is ready: %s, threads: %d", self.model.key, precision, self.threads)
        self._health = Health("ready", 1.0, "ready")
        # In the thread that loaded the model: torch decodes up to 1.7 times slower in another.
        engine.run()

    def _load_or_fail(self) -> Engine | None:
        try:
            return self._load()
        except _EXPLAINED as error:
            logger.error("%s can't be loaded: %s", self.model.key, error)
            self._health = Health("failed", error=str(error))
        except BaseException as error:  # Rust's panics, in tokenizers, are no Exception
            logger.exception("%s can't be loaded", self.model.key)
            self._health = Health("failed", error=f"{type(error).__name__}: {error}")
        return None

    def _load(self) -> Engine:
        folder = self._model.folder or hub.fetch(
            self._model.sources, hubs=self._options.hubs, progress=self._note_download
        )
        self._model = self._model.with_checkpoint(read_checkpoint(folder))
        if not self._options.force:
            memory.fit(
                [self._model],
                precisions=self._options.precisions,
                cache_bytes=self._limits.cache_bytes,
            ).check()
        self._note("libraries", 0.0)
        # May import torch, which takes seconds; before, the process must already answer.
        from backends.server.loading import load_engine  # noqa: PLC0415

        limits = replace(self._limits, threads=self.threads)
        precision = ",".join(self._options.precisions) or None
        return load_engine(folder, precision, limits, self._note, self._model.adapter)

    def _note_download(self, download: hub.Download) -> None:
        done = download.done_bytes / (download.total_bytes or 1)
        self._health = Health("loading", done, "download", download)

    def _note(self, stage: str, done: float) -> None:
        start, end = _STAGES[stage]
        self._health = Health("loading", start + (end - start) * done, stage)
