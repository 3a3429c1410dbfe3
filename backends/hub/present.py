"""What is known of a model at a hub before it is loaded: all that its files say, if they are here.

Looks at this machine only. Fetches nothing.
"""

import logging

from backends.catalog import Model
from backends.checkpoint import UnusableFolder, read_checkpoint
from backends.hub.caches import find
from backends.hub.errors import NotFound

logger = logging.getLogger(__name__)


def with_files(model: Model) -> Model:
    """Return `model` with what its files say, or as it is where they are still at a hub."""
    if model.folder is not None or not model.sources:
        return model
    try:
        folder = find(model.sources)
        return model if folder is None else model.with_checkpoint(read_checkpoint(folder))
    except (NotFound, UnusableFolder) as error:  # loading it will say so, to whom it concerns
        logger.debug("%s: %s", model.key, error)
        return model
