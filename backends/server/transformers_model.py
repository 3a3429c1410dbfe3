"""Any other chat model that transformers knows natively: its own network, cache and tokenizer.

Slower than the families with code of their own, with the same face. A checkpoint's own code is
never executed: what transformers itself doesn't know is refused.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
import transformers
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    DynamicCache,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.cache_utils import DynamicLayer

from backends.checkpoint import CONTEXT_KEYS
from backends.server.batch import FlatBatch, KVCache, Span, common_prefix, finish
from backends.server.checkpoints.adapter import merge_adapter
from backends.server.checkpoints.architecture import UNREADABLE, read_architecture
from backends.server.checkpoints.generation_config import read_defaults
from backends.server.checkpoints.precision import BFLOAT16, FLOAT32, unquantised_precisions
from backends.server.checkpoints.weights import Progress, read_json, read_tensors
from backends.server.eager.linear import DTYPES
from backends.server.eager.network import TorchNetwork, use_threads
from backends.server.errors import CheckpointError
from backends.server.tokenizer.template import TemplateTokenizer
from backends.server.tokenizer.template import load_tokenizer as load_template_tokenizer

__all__ = [
    "TransformersCache",
    "TransformersNetwork",
    "fallback_id",
    "load_network",
    "load_tokenizer",
    "possible_precisions",
    "read_defaults",
]

_CONTEXT = 2048
_OTHER_INPUTS = ("vision_config", "audio_config", "image_token_id", "audio_token_id")
# How far logits after a cache may be from those without one on average, as a share of their spread.
_SAME = {FLOAT32: 0.001, BFLOAT16: 0.05}
_INSTEAD = "Serve it with vLLM, llama.cpp, Ollama or the like, and give URL#model."


class TransformersCache(KVCache):
    """What transformers keeps of one sequence.

    Windows and recurrent layers forget, so a cache with such can only be kept as it is: see
    ``TransformersNetwork.reusable``.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self._config = config
        self.layers = DynamicCache(config=config)

    @property
    def remembers(self) -> bool:
        """Whether it holds every token's keys and values, so that the last ones can be dropped."""
        return all(type(layer) is DynamicLayer for layer in self.layers.layers)

    @property
    def nbytes(self) -> int:
        """Size of all tensors in it."""
        held = [value for layer in self.layers.layers for value in vars(layer).values()]
        # Some have several states of a kind.
        several = [one for value in held if isinstance(value, dict) for one in value.values()]
        tensors = [one for one in (*held, *several) if isinstance(one, Tensor)]
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    def truncate(self, length: int) -> None:
        """See ``KVCache``.

        Raises:
            ValueError: it doesn't remember what it would go back to.
        """
        if length >= self.length:
            return
        if not self.remembers:
            raise ValueError("This kind of cache can't go back.")
        self.layers.crop(length - self.length)
        super().truncate(length)

    @torch.inference_mode()
    def prefix(self, length: int) -> Self:
        """See ``KVCache``.

        Raises:
            ValueError: it doesn't remember what it would go back to.
        """
        copied = type(self)(self._config)
        copied.token_ids = list(self.token_ids)
        copied.layers = copy.deepcopy(self.layers)
        copied.truncate(length)
        return copied


class TransformersNetwork(nn.Module):
    """A network of transformers behind the flat batch: one span after the other.

    Args:
        model: computes in the precision of its weights.

    Attributes:
        one_by_one: a sequence can only be continued by single tokens, as some recurrent ones.
    """

    one_by_one = False

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self._selects = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._remembers = self.new_cache().remembers

    @property
    def vocab_size(self) -> int:
        """Number of logits a row."""
        return int(self.model.config.get_text_config().vocab_size)

    @property
    def context(self) -> int:
        """How many tokens a sequence may have."""
        said = (getattr(self.model.config, key, None) for key in CONTEXT_KEYS)
        most = next((value for value in said if isinstance(value, int) and value > 0), _CONTEXT)
        return min(most, _first_context(self.model.config) or most)

    def new_cache(self) -> TransformersCache:
        """An empty cache for one sequence."""
        return TransformersCache(self.model.config)

    @property
    def chunkable(self) -> bool:
        """Whether a prompt may go through in pieces; token by token it would take too long."""
        return not self.one_by_one

    def reusable(self, stored: Sequence[int], prompt: Sequence[int]) -> int:
        """How many of a stored sequence's first tokens serve a prompt.

        All that are the same; where the cache can't go back, all that are stored or none.
        """
        same = common_prefix(stored, prompt)
        return same if same == len(stored) or self._remembers else 0

    def forward(self, batch: FlatBatch) -> Tensor:
        """Logits of the wanted rows, (rows, vocab), float32; caches grow by their spans."""
        return finish(self.slices(batch))

    def slices(self, batch: FlatBatch) -> Generator[None, None, Tensor]:
        """The same in slices: a span each."""
        wanted = range(sum(batch.lengths)) if batch.rows is None else sorted(set(batch.rows))
        parts: list[Tensor] = []
        start = 0
        for span in batch.spans:
            stop = start + len(span.token_ids)
            parts.append(self._logits(span, [row - start for row in wanted if start <= row < stop]))
            start = stop
            yield
        logits = torch.cat(parts).float()
        if batch.rows is None:
            return logits
        place = {row: index for index, row in enumerate(wanted)}
        return logits[[place[row] for row in batch.rows]]

    def _logits(self, span: Span, rows: list[int]) -> Tensor:
        """Logits of some of a span's rows, (rows, vocab)."""
        if span.past and self.one_by_one:
            steps = [self._run(Span((token,), span.cache), [0]) for token in span.token_ids]
            return torch.cat(steps)[rows]
        return self._run(span, rows)

    def _run(self, span: Span, rows: list[int]) -> Tensor:
        """The same in one pass."""
        keep = torch.tensor(rows, dtype=torch.long)
        inputs: dict[str, Any] = {"input_ids": torch.tensor([span.token_ids]), "use_cache": False}
        if span.cache is not None:
            layers = cast(TransformersCache, span.cache).layers
            inputs |= {"past_key_values": layers, "use_cache": True}
        if self._selects:
            inputs["logits_to_keep"] = keep
        logits: Tensor = self.model(**inputs).logits[0]
        if span.cache is not None:
            span.cache.token_ids.extend(span.token_ids)
        return logits if self._selects else logits[keep]


def _first_context(config: PreTrainedConfig) -> Any:
    """How many tokens keep their angles whatever follows, where more change those of the first.

    A prompt in pieces, or one that goes on from a stored one, would mix both kinds.
    """
    said = getattr(config, "rope_parameters", None)
    if isinstance(said, dict) and said.get("rope_type") in ("longrope", "dynamic"):
        return said.get("original_max_position_embeddings")
    return None


def possible_precisions(folder: Path) -> tuple[str, ...]:
    """In what a checkpoint folder can be computed, its own choice first.

    Raises:
        CheckpointError: it is quantised, or its weights are missing or damaged.
    """
    return unquantised_precisions(folder)


def load_tokenizer(folder: Path) -> TemplateTokenizer:
    """The tokenizer of a checkpoint folder.

    Raises:
        CheckpointError: the model is none that can be run, or no chat model.
    """
    _kind(folder)
    tokenizer = load_template_tokenizer(folder)
    if not tokenizer.has_template:
        raise CheckpointError(f"{folder} has no chat template: it is no chat model.")
    return tokenizer


def load_network(
    folder: Path,
    precision: str,
    progress: Progress,
    adapter: Path | None = None,
    threads: int | None = None,
) -> TorchNetwork:
    """The network of a checkpoint folder, in one of the possible precisions.

    Raises:
        CheckpointError: something is missing, damaged or doesn't fit the config, or transformers
            can't continue this kind of network from its cache.
    """
    use_threads(threads)
    model = _load(folder, precision, progress)
    if adapter is not None:
        model = merge_adapter(model, adapter)
    network = TransformersNetwork(model)
    network.train(False)
    network.requires_grad_(False)
    _check_cache(network, folder, _SAME[precision])
    return TorchNetwork(network)


def fallback_id(_tokenizer: TemplateTokenizer) -> None:
    """Logits that are no numbers are a failure here."""


def _kind(folder: Path) -> type[PreTrainedConfig]:
    """The class of config for the folder's model type.

    Raises:
        CheckpointError: transformers has no network for it, or it wants more than text.
    """
    raw = read_json(folder / "config.json")
    name = raw.get("model_type")
    if not isinstance(name, str) or name not in CONFIG_MAPPING:
        own = "; its own code is never executed" if "auto_map" in raw else ""
        raise CheckpointError(
            f"{folder} holds a model of type {name!r}, which transformers doesn't know{own}. "
            f"{_INSTEAD}"
        )
    kind = CONFIG_MAPPING[name]
    encodes = raw.get("is_encoder_decoder", kind.is_encoder_decoder)
    if encodes or kind in MODEL_FOR_MASKED_LM_MAPPING:
        raise CheckpointError(f"{folder} holds an encoder ({name}), which can't chat.")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING or any(key in raw for key in _OTHER_INPUTS):
        raise CheckpointError(
            f"{folder} holds a model for more or other than text ({name}), which isn't supported. "
            f"{_INSTEAD}"
        )
    return kind


def _load(folder: Path, precision: str, progress: Progress) -> PreTrainedModel:
    kind = _kind(folder)
    config = read_architecture(folder, kind)
    state = dict(read_tensors(folder, progress))
    network: Any = MODEL_FOR_CAUSAL_LM_MAPPING[kind]
    try:
        # Without a name: transformers gets the tensors that were read safely, and looks for
        # nothing in the folder.
        with _no_bars():
            model, outcome = network.from_pretrained(
                None,
                config=config,
                state_dict=state,
                dtype=DTYPES[precision],
                local_files_only=True,
                output_loading_info=True,
            )
    except UNREADABLE as error:
        raise CheckpointError(f"The weights in {folder} don't fit the config: {error}") from error
    if outcome["missing_keys"]:
        missing = ", ".join(sorted(outcome["missing_keys"])[:5])
        raise CheckpointError(f"{folder} lacks weights: {missing}.")
    return cast(PreTrainedModel, model)


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Without transformers' own progress on stderr."""
    bars: Any = transformers.logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


@torch.inference_mode()
def _check_cache(network: TransformersNetwork, folder: Path, most: float) -> None:
    """Finds out how a sequence can be continued: a few networks can't, some of them silently.

    Raises:
        CheckpointError: this one can't.
    """
    why = ""
    try:
        for one_by_one in (False, True):
            network.one_by_one = one_by_one
            if _error_of_cache(network) <= most:
                return
    except UNREADABLE as error:
        why = f": {error}"
    raise CheckpointError(
        f"{folder} holds a network ({network.model.config.model_type}) that can't be continued "
        f"from a cache of keys and values{why}. {_INSTEAD}"
    )


def _error_of_cache(network: TransformersNetwork) -> float:
    ids = tuple(range(8))
    whole = network(FlatBatch.of([ids]))
    cache = network.new_cache()
    parts = [network(FlatBatch((Span(part, cache),))) for part in (ids[:5], ids[5:7], ids[7:])]
    return float((torch.cat(parts) - whole).abs().mean() / whole.std())
