"""What `serve` serves: two models that run here or elsewhere, or the recorded answers of a pack.

Reads the pack and weighs the models; starts none. Pages and the panel are put together in `app.py`.
"""

import logging
from dataclasses import dataclass

from backends import memory
from backends.backend import Backend
from backends.catalog import Model
from backends.cores import threads_per_server, usable_cores
from backends.lineup import Models
from backends.specs import UnknownModel
from backends.supervisor import ModelServer, RemoteModel
from db import Database
from rating.packs import store
from rating.packs.pack import Pack
from rating.packs.pack_file import SUFFIX, read_pack
from rating.packs.replay import PackAnswers, PackedModel, packed_model
from rating.run import Source, ask_model
from ui.command_line.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """Two models, and the pack whose models they are, if they are one's."""

    settings: Settings
    models: Models
    pack: Pack | None = None
    packed: tuple[PackedModel, ...] = ()

    def make_backends(self, models: Models, force: bool) -> tuple[Backend, Backend]:
        """Return what runs `models`, not started; nothing has to run those of the pack."""
        threads = self.settings.threads or threads_per_server(models)
        logger.info(
            "each local model computes with %d threads of %d cores", threads, usable_cores()
        )
        first, second = (self._make_backend(model, threads, force) for model in models)
        return first, second

    def _make_backend(self, model: Model, threads: int, force: bool) -> Backend:
        settings = self.settings
        if known := next((one for one in self.packed if one.model == model), None):
            return known
        if not model.local:
            return RemoteModel(model, api_key=settings.api_key.get_secret_value())
        options = ["--hubs", settings.hubs, *(["--force"] if force else [])]
        if settings.precision:
            options += ["--precision", settings.precision]
        if settings.cache_memory is not None:
            options += ["--cache-memory", str(settings.cache_memory)]
        return ModelServer(model, threads=threads, options=options)

    def source(self, database: Database) -> Source:
        """Return what gives the answers; those of a pack are taken into the database first.

        Raises:
            DatabaseError: It can't be written.
        """
        if self.pack is None:
            return ask_model
        assert self.settings.pack is not None
        name = self.settings.pack.name.removesuffix(SUFFIX)
        pack_id = store.take(database, self.pack, name)
        logger.info("the answers are those of the pack %s, %s", name, pack_id)
        return PackAnswers(database, pack_id, self.pack.prompt_set).ask


def served_by(settings: Settings) -> Served:
    """Return what the settings ask for.

    Raises:
        UnknownModel: No such model, or the pack hasn't got it; says what to do.
        DoesNotFit: The models need more memory than is free.
        BadPack: The pack's file is none, not whole, or changed.
        OSError: It can't be read.
    """
    if settings.pack is not None:
        return _served_from(settings, read_pack(settings.pack))
    models = settings.models()
    if not settings.force:
        memory.fit(models, precisions=settings.precisions, cache_bytes=settings.cache_bytes).check()
    return Served(settings, models)


def _served_from(settings: Settings, pack: Pack) -> Served:
    entries = {entry.key: entry for entry in pack.models}
    for chosen in (settings.left, settings.right):
        if chosen is not None and chosen not in entries:
            known = ", ".join(entries)
            raise UnknownModel(f"The pack has no answers of {chosen}. It has those of {known}.")
    left = settings.left or next((key for key in entries if key != settings.right), None)
    right = settings.right or next((key for key in entries if key != left), None)
    if left is None or right is None or left == right:
        raise UnknownModel("Two different models are compared. Give a pack that has two.")
    packed = (packed_model(entries[left]), packed_model(entries[right]))
    return Served(settings, (packed[0].model, packed[1].model), pack, packed)
