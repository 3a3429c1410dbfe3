"""Which files of a folder or a repository hold a model's weights: one rule for all who ask.

Goes by names, in the order of transformers: safetensors before PyTorch files, one whole file before
shards with their index. Files of other names (adapters, other layouts, what a training run left
behind) are no weights. Opens nothing, fetches nothing and imports no torch.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePosixPath

# The name of a whole file, and those of shards; the index is called after the whole file.
_SETS = (
    ("model.safetensors", re.compile(r"model[-_]\d+-of-\d+\.safetensors")),
    ("pytorch_model.bin", re.compile(r"pytorch_model[-_]\d+-of-\d+\.bin")),
)
_INDEX = ".index.json"


@dataclass(frozen=True)
class WeightSet:
    """The files that one copy of a model's weights consists of.

    Attributes:
        files: at least one; all are of one format.
        index: what says which shard holds what; "" where the weights are in one file.
    """

    files: tuple[str, ...]
    index: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The weights and their index."""
        return (*self.files, self.index) if self.index else self.files


def choose_weights(names: Collection[str]) -> WeightSet | None:
    """Return the weights among these names that are loaded; None if there are none."""
    for whole, shard in _SETS:
        if whole in names:
            return WeightSet((whole,))
        shards = tuple(sorted(name for name in names if shard.fullmatch(name)))
        if shards and whole + _INDEX in names:
            return WeightSet(shards, whole + _INDEX)
    return None


def weight_file_names(names: Collection[str]) -> tuple[str, ...]:
    """Return the weight files among these names, without their index; empty if there are none."""
    chosen = choose_weights(names)
    return chosen.files if chosen else ()


def indexed_names(index: object) -> tuple[str, ...]:
    """Return the shards that an index asks for, once parsed; empty if it is none.

    They lie beside it, whatever folder it names.
    """
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict):
        return ()
    return tuple(sorted({PurePosixPath(str(name)).name for name in shards.values()}))
