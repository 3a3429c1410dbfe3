"""A loaded chat model: one face over all families.

``load_model`` and ``load_tokenizer`` find the family by the folder's config.json. Imports no torch:
only those families and precisions do that compute with it. Serves nothing and schedules nothing;
``engine`` does.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from backends.checkpoint import Family
from backends.server.batch import FlatBatch, KVCache, Logits, Span
from backends.server.checkpoints.precision import choose
from backends.server.checkpoints.weights import Progress, no_progress, read_json
from backends.server.conversation import MessageLike
from backends.server.errors import CheckpointError, ContextError, SequenceError
from backends.server.generation import SamplingSettings
from backends.server.sampling import Sampler, Vocabulary


class Network(Protocol):
    """One family's forward pass."""

    @property
    def vocab_size(self) -> int:
        """Number of logits a row."""

    @property
    def context(self) -> int:
        """How many tokens a sequence may have."""

    @property
    def chunkable(self) -> bool:
        """Whether a prompt may go through in pieces: each token sees only those before it."""

    def new_cache(self) -> KVCache:
        """An empty cache for one sequence."""

    def reusable(self, stored: Sequence[int], prompt: Sequence[int]) -> int:
        """How many of a stored sequence's first tokens serve a prompt.

        At most ``len(prompt) - 1``: the last token has to go through for its logits.
        """

    def step(self, batch: FlatBatch) -> Logits:
        """Logits of the wanted rows; caches grow by their spans."""

    def slices(self, batch: FlatBatch) -> Generator[None, None, Logits]:
        """The same in slices of bounded work: yields between them, returns the logits.

        Other batches, with other caches, may be stepped in between. Closed half way, it leaves
        nothing usable in its caches.
        """


class Tokenizer(Protocol):
    """One family's tokenizer and chat format."""

    @property
    def decodable(self) -> Collection[int]:
        """The ids that stand for something."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end an answer."""

    def encode(self, text: str) -> list[int]:
        """As the original encodes one text, with what it adds."""

    def encode_plain(self, text: str) -> list[int]:
        """The same without what it adds."""

    def encode_text(self, text: str) -> list[int]:
        """Text, whatever it looks like: never a control token."""

    def encode_chat(self, messages: Sequence[MessageLike | Mapping[str, str]]) -> list[int]:
        """The prompt of a conversation, the messages being text."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without control tokens."""

    def answer(self, ids: Sequence[int]) -> str:
        """A whole answer as it is shown."""

    def settled(self, ids: Sequence[int]) -> str:
        """The part of the answer that further ids can't change, blanks at its end included."""


@dataclass(frozen=True, eq=False)
class ChatModel:
    """A network with its tokenizer and what its checkpoint says about its use.

    Attributes:
        precision: the one in which it computes.
        defaults: how it is sampled where a request doesn't say.
    """

    family: Family
    precision: str
    network: Network
    tokenizer: Tokenizer
    defaults: SamplingSettings
    vocabulary: Vocabulary

    @property
    def context(self) -> int:
        """Prompt and answer together, in tokens."""
        return self.network.context

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end an answer."""
        return self.tokenizer.stop_ids

    def logits(self, token_ids: Sequence[int]) -> Logits:
        """Logits after every token of one sequence, (T, vocab).

        Raises:
            SequenceError: the sequence is empty, or its ids make no sense to the model.
        """
        self.check(token_ids)
        return self.network.step(FlatBatch.of([token_ids]))

    def step(self, spans: Sequence[Span]) -> Logits:
        """Logits after the last token of every span, (spans, vocab)."""
        return self.network.step(FlatBatch.step(spans))

    def generate(
        self,
        token_ids: Sequence[int],
        max_new_tokens: int,
        temperature: float = 0.0,
        *,
        top_k: int = 0,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
    ) -> list[int]:
        """New ids after a sequence, the one that ends the answer included.

        Args:
            token_ids: the prompt.
            max_new_tokens: stops there, or where the context ends, if no stop id came before.
            temperature: 0 takes the likeliest token every time.
            top_k: see ``SamplingSettings``, as for the rest.
            top_p: as above.
            repetition_penalty: as above.
            seed: as above.

        Raises:
            ContextError: the prompt leaves no room.
            SequenceError: its ids make no sense to the model.
        """
        self.check(token_ids)
        room = self.room_after(len(token_ids))
        settings = SamplingSettings(repetition_penalty, temperature, top_k, top_p, seed)
        sampler = Sampler(settings, self.vocabulary, token_ids)
        cache = self.network.new_cache()
        new: list[int] = []
        while len(new) < min(max_new_tokens, room) and not (new and new[-1] in self.stop_ids):
            pending = (new[-1],) if new else tuple(token_ids)
            new.append(sampler.sample(self.step([Span(pending, cache)])[0]))
        return new

    def room_after(self, prompt_tokens: int) -> int:
        """How long an answer may become after a prompt.

        Raises:
            ContextError: there is no room at all.
        """
        if prompt_tokens >= self.context:
            raise ContextError(prompt_tokens, self.context)
        return self.context - prompt_tokens

    def check(self, token_ids: Sequence[int]) -> None:
        """Refuses what could only fail, or read what isn't there, in a forward pass.

        Raises:
            SequenceError: there are no ids, or one that the network doesn't know.
        """
        if not token_ids:
            raise SequenceError("The prompt has no tokens.")
        rows = self.network.vocab_size
        unknown = next((token for token in token_ids if not 0 <= token < rows), None)
        if unknown is not None:
            raise SequenceError(
                f"The prompt has the token {unknown}, but this model's network knows only 0 to "
                f"{rows - 1}: its tokenizer is not quite its own."
            )


class _FamilyModule(Protocol):
    """What a family's module offers."""

    def possible_precisions(self, folder: Path) -> tuple[str, ...]:
        """In what the checkpoint can be computed, its own choice first."""

    def load_network(
        self,
        folder: Path,
        precision: str,
        progress: Progress,
        adapter: Path | None,
        threads: int | None,
    ) -> Network:
        """The network, computing in one of the possible precisions."""

    def load_tokenizer(self, folder: Path) -> Tokenizer:
        """The tokenizer alone."""

    def read_defaults(self, folder: Path) -> SamplingSettings:
        """The checkpoint's own way of sampling."""

    def fallback_id(self, tokenizer: Tokenizer) -> int | None:
        """What the original says where its logits are no numbers."""


def load_model(
    folder: Path | str,
    precision: str | None = "float32",
    progress: Progress = no_progress,
    adapter: Path | str | None = None,
    threads: int | None = None,
) -> ChatModel:
    """Loads a checkpoint folder of any family that is known.

    Args:
        folder: holds config.json, the weights and the tokenizer.
        precision: "float32", "bfloat16", "int8" or "int4", where the checkpoint allows it, or
            several parted by commas, the first that it allows; None leaves the choice to it.
        progress: is told how far loading is.
        adapter: a folder with a LoRA adapter for these weights, which is merged into them.
        threads: how many compute; None: as many as whoever computes chooses.

    Raises:
        CheckpointError: something is missing, damaged or not supported.
    """
    folder = Path(folder)
    family = family_of(folder)
    module = _module(family)
    precision = choose(precision, module.possible_precisions(folder), folder)
    adapter = Path(adapter) if adapter else None
    # In this order: a native network's kernels are compiled while the tokenizer is read.
    network = module.load_network(folder, precision, progress, adapter, threads)
    progress("tokenizer", 0.0)
    tokenizer = module.load_tokenizer(folder)
    if max(tokenizer.decodable) >= network.vocab_size:
        raise CheckpointError(
            f"{folder} has a tokenizer with more ids than the network's {network.vocab_size} rows."
        )
    return ChatModel(
        family=family,
        precision=precision,
        network=network,
        tokenizer=tokenizer,
        defaults=module.read_defaults(folder),
        vocabulary=Vocabulary.of(
            network.vocab_size, tokenizer.decodable, module.fallback_id(tokenizer)
        ),
    )


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """The tokenizer of a checkpoint folder, without its weights.

    A folder that holds ChatGLM's tokenizer file alone is enough.

    Raises:
        CheckpointError: something is missing, damaged or not supported.
    """
    folder = Path(folder)
    alone = (folder / "ice_text.model").exists() and not (folder / "config.json").exists()
    return _module("chatglm" if alone else family_of(folder)).load_tokenizer(folder)


def family_of(folder: Path) -> Family:
    """The family of a checkpoint folder.

    Raises:
        CheckpointError: there is no folder, or it has no config.json.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder.")
    kind = read_json(folder / "config.json").get("model_type")
    return cast(Family, kind) if kind in ("qwen2", "chatglm") else "transformers"


def _module(family: Family) -> _FamilyModule:
    """The family's code, imported only now: one family's libraries are not needed by another."""
    name = "transformers_model" if family == "transformers" else family
    return cast(_FamilyModule, importlib.import_module(f"backends.server.{name}"))
