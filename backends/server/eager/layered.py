"""What the families' own networks have in common: a table, layers, a norm and a head.

What a layer computes, and which tokens see which, is the family's business.
"""

from __future__ import annotations

import textwrap
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from backends.server.batch import FlatBatch, finish
from backends.server.checkpoints.saving import save_network
from backends.server.eager.kv_cache import TorchCache
from backends.server.eager.linear import PLAIN, Storage, Table
from backends.server.eager.network import select
from backends.server.errors import CheckpointError


class ConfigLike(Protocol):
    """What of a family's config all have."""

    @property
    def vocab_size(self) -> int:
        """Rows of the table."""

    def to_dict(self) -> dict[str, Any]:
        """The same as a config.json."""


@dataclass(frozen=True)
class Parts:
    """The modules that a batch goes through, under whatever names they are published."""

    table: Table
    layers: nn.ModuleList
    norm: nn.Module
    head: Table


Config = TypeVar("Config", bound=ConfigLike)


class LayeredNetwork(nn.Module, ABC, Generic[Config]):
    """A decoder, computed layer by layer; starts at random unless loaded.

    Args:
        config: the shape.
        storage: how the matrices are stored; others than plain ones can't be trained.
    """

    def __init__(self, config: Config, storage: Storage = PLAIN) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def on_meta(cls, config: Config, storage: Storage = PLAIN) -> Self:
        """A network without numbers: says which tensors it needs."""
        with torch.device("meta"):
            return cls(config, storage)

    @classmethod
    def from_tensors(
        cls, config: Config, tensors: Iterable[tuple[str, Tensor]], storage: Storage = PLAIN
    ) -> Self:
        """A network that computes with these tensors, in the types of its storage.

        Raises:
            CheckpointError: tensors are missing, unknown or of the wrong shape.
        """
        network = cls.on_meta(config, storage)
        types = {name: tensor.dtype for name, tensor in network.state_dict().items()}
        state = {name: tensor.to(types.get(name, tensor.dtype)) for name, tensor in tensors}
        try:
            network.load_state_dict(state, assign=True)
        except RuntimeError as error:
            # torch names every tensor of every layer.
            message = textwrap.shorten(str(error), 600, placeholder=" ...")
            raise CheckpointError(f"The weights don't fit the config: {message}") from error
        return network.eval().requires_grad_(False)

    @property
    def vocab_size(self) -> int:
        """Number of logits a row."""
        return self.config.vocab_size

    @property
    @abstractmethod
    def parts(self) -> Parts:
        """What a batch goes through."""

    @abstractmethod
    def layout(self, batch: FlatBatch) -> Any:
        """What every layer is given beside the hidden state."""

    def new_cache(self) -> TorchCache:
        """An empty cache for one sequence."""
        return TorchCache(len(self.parts.layers))

    def forward(self, batch: FlatBatch) -> Tensor:
        """Logits of the batch's wanted rows, (rows, vocab); caches grow by their spans.

        Raises:
            SequenceError: a sequence that the family can't place.
        """
        return finish(self.slices(batch))

    def slices(self, batch: FlatBatch) -> Generator[None, None, Tensor]:
        """The same in slices: a layer each."""
        parts, layout = self.parts, self.layout(batch)
        hidden = parts.table.rows(torch.from_numpy(batch.token_ids))
        for layer in parts.layers:
            hidden = layer(hidden, layout)
            yield
        hidden = parts.norm(select(batch, hidden))
        batch.extend_caches()
        return parts.head.product(hidden)

    def save(self, folder: Path) -> None:
        """Writes config.json and model.safetensors (float16, published names)."""
        save_network(self, self.config.to_dict(), folder)


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns the two halves of the last dimension against each other, by an angle for each pair."""
    first, second = heads.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
