"""Qwen2 and Qwen1.5 checkpoints: network by transformers, tokenizer and chat template their own.

The only module that imports transformers. Each sequence keeps its own cache; spans with caches go
through the network one after the other. Executes no code from a checkpoint.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from jinja2 import TemplateError
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, DynamicCache, Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from backends.server.batch import FlatBatch, KVCache, Span
from backends.server.conversation import MessageLike, read_conversation
from backends.server.errors import CheckpointError, ConversationError, SequenceError
from backends.server.generation import SamplingSettings
from backends.server.weights import Progress, read_json, read_optional_json, read_tensors

_REPLACEMENT = "\ufffd"
# What transformers raises for files that it can't make sense of.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, StrictDataclassError)


class Qwen2Cache(KVCache):
    """Keys and values of one sequence, kept by transformers."""

    def __init__(self, config: Qwen2Config) -> None:
        super().__init__()
        self.layers = DynamicCache(config=config)


class Qwen2Network(nn.Module):
    """transformers' network behind the flat batch; trainable where there are no caches.

    Args:
        model: in float32.
    """

    def __init__(self, model: Qwen2ForCausalLM) -> None:
        super().__init__()
        self.model = model

    @property
    def vocab_size(self) -> int:
        """Number of logits a row."""
        return int(self.model.config.vocab_size)

    @property
    def context(self) -> int:
        """How many tokens a sequence may have."""
        return int(self.model.config.max_position_embeddings)

    def new_cache(self) -> Qwen2Cache:
        """An empty cache for one sequence."""
        return Qwen2Cache(self.model.config)

    def forward(self, batch: FlatBatch) -> Tensor:
        """Logits of the batch's wanted rows, (rows, vocab); caches grow by their spans."""
        if any(span.cache is not None for span in batch.spans):
            hidden = torch.cat([self._continue(span) for span in batch.spans])
        else:
            hidden = self._whole(batch)
        return cast(Tensor, self.model.lm_head(batch.select(hidden)))

    def _whole(self, batch: FlatBatch) -> Tensor:
        """Hidden states of sequences without caches, together: padding behind is never seen."""
        sequences = [torch.tensor(span.token_ids) for span in batch.spans]
        padded = pad_sequence(sequences, batch_first=True)
        hidden = self.model.model(input_ids=padded, use_cache=False).last_hidden_state
        inside = torch.arange(padded.shape[1]) < torch.tensor(batch.lengths).unsqueeze(1)
        return cast(Tensor, hidden[inside])

    def _continue(self, span: Span) -> Tensor:
        """Hidden states of one span, (n, hidden)."""
        cache = cast(Qwen2Cache, span.cache) if span.cache is not None else self.new_cache()
        output = self.model.model(
            input_ids=torch.tensor([span.token_ids]), past_key_values=cache.layers, use_cache=True
        )
        cache.token_ids.extend(span.token_ids)
        return cast(Tensor, output.last_hidden_state[0])


class Qwen2Tokenizer:
    """A checkpoint's own tokenizer and chat template, with the messages kept text.

    Args:
        tokenizer: transformers' one.
        stop_ids: the ids that end an answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop_ids: Iterable[int]) -> None:
        self._tokenizer: Any = tokenizer
        # Whether control tokens are looked for is a switch inside the tokenizer, not an argument.
        self._switch = threading.Lock()
        self._decodable = frozenset(tokenizer.get_vocab().values())
        self._stop_ids = frozenset(stop_ids)
        added = tokenizer.added_tokens_decoder
        self._controls = {token.content: token_id for token_id, token in added.items()}
        self._control = _any_of(self._controls)
        self._unswitched = _any_of(t.content for t in added.values() if not t.special)

    @property
    def decodable(self) -> frozenset[int]:
        """The ids that stand for something; a network may have more rows."""
        return self._decodable

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end an answer."""
        return self._stop_ids

    def encode(self, text: str) -> list[int]:
        """As transformers encodes one text, with what the checkpoint adds."""
        return self._encode(text, as_text=False, add=True)

    def encode_plain(self, text: str) -> list[int]:
        """The same without what it adds; strings of control tokens become their ids."""
        return self._encode(text, as_text=False)

    def encode_text(self, text: str) -> list[int]:
        """The ids of text, whatever it looks like: never a control token."""
        # Added tokens that are not called special would still be found: cut them in two.
        cut = secrets.token_hex(8)
        parts = _cut_inside(self._unswitched, text, cut).split(cut)
        return [token for part in parts for token in self._encode(part, as_text=True)]

    def encode_chat(self, messages: Sequence[MessageLike | Mapping[str, str]]) -> list[int]:
        """The prompt that the chat template makes, ready to be answered.

        Only the template's own control tokens become their ids: those in the messages are cut
        apart before the template sees them, and put together again as text.

        Raises:
            ConversationError: the messages don't take turns, or the template refuses them.
            CheckpointError: there is no chat template.
        """
        cut = secrets.token_hex(8)
        rendered = self._render(
            [
                {"role": said.role, "content": _cut_inside(self._control, said.content, cut)}
                for said in read_conversation(messages).utterances
            ]
        )
        ids: list[int] = []
        for index, part in enumerate(self._control.split(rendered)):
            text = part.replace(cut, "")
            ids += [self._controls[part]] if index % 2 else self.encode_text(text)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; control tokens vanish, half a character shows as U+FFFD.

        Raises:
            SequenceError: an id stands for nothing.
        """
        if not self._decodable.issuperset(ids):
            raise SequenceError("Some of these ids have no text.")
        text: str = self._tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def answer(self, ids: Sequence[int]) -> str:
        """A whole answer as it is shown: the decoded text."""
        return self.decode(ids)

    def settled(self, ids: Sequence[int]) -> str:
        """The part of the answer that further ids can't change."""
        return self.decode(ids).rstrip(_REPLACEMENT)

    def _encode(self, text: str, *, as_text: bool, add: bool = False) -> list[int]:
        with self._switch:
            ids: list[int] = self._tokenizer.encode(
                text, add_special_tokens=add, split_special_tokens=as_text
            )
        return ids

    def _render(self, messages: list[dict[str, str]]) -> str:
        if not self._tokenizer.chat_template:
            raise CheckpointError("This checkpoint has no chat template: it is no chat model.")
        try:
            text: str = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:
            message = f"The model's chat template refuses these messages: {error}"
            raise ConversationError(message) from error
        return text


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    """Matches any of the words, the longest first, as a group; without words it matches nothing."""
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile("(" + ("|".join(map(re.escape, longest_first)) or r"(?!)") + ")")


def _cut_inside(words: re.Pattern[str], text: str, cut: str) -> str:
    """Puts ``cut`` behind the first character of every word, also of words that overlap."""
    if not words.search(text):
        return text
    return re.sub(f"(?={words.pattern})(.)", rf"\g<2>{cut}", text, flags=re.DOTALL)


def load_network(folder: Path, progress: Progress) -> Qwen2Network:
    """The network of a checkpoint folder, in float32.

    Raises:
        CheckpointError: something is missing, damaged or doesn't fit the config.
    """
    raw = read_json(folder / "config.json")
    try:
        config = Qwen2Config.from_dict(raw)
        with torch.device("meta"):
            model = Qwen2ForCausalLM(config)
    except _UNREADABLE as error:
        raise CheckpointError(f"{folder / 'config.json'} is no Qwen2 config: {error}") from error
    # Its frequencies are computed, not loaded.
    model.model.rotary_emb = Qwen2RotaryEmbedding(config)
    state = {name: tensor.to(torch.float32) for name, tensor in read_tensors(folder, progress)}
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state.get("model.embed_tokens.weight", torch.empty(0))
    try:
        outcome = model.load_state_dict(state, strict=False, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"The weights don't fit the config: {error}") from error
    if outcome.missing_keys:
        raise CheckpointError(f"{folder} lacks weights: {', '.join(outcome.missing_keys[:5])}.")
    network = Qwen2Network(model)
    network.train(False)
    return network.requires_grad_(False)


def load_tokenizer(folder: Path) -> Qwen2Tokenizer:
    """The tokenizer of a checkpoint folder.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.json")):
        # transformers would make one up.
        raise CheckpointError(f"{folder} has no tokenizer.json: the tokenizer is missing.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except _UNREADABLE as error:
        raise CheckpointError(f"{folder} has no tokenizer that can be read: {error}") from error
    return Qwen2Tokenizer(tokenizer, _read_stop_ids(folder, tokenizer))


def read_defaults(folder: Path) -> SamplingSettings:
    """How the checkpoint wants to be sampled, by its generation_config.json."""
    return SamplingSettings().overridden(read_optional_json(folder / "generation_config.json"))


def fallback_id(_tokenizer: Qwen2Tokenizer) -> None:
    """Logits that are no numbers are a failure here."""


def _read_stop_ids(folder: Path, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """generation_config.json's stop ids; where it says nothing, the tokenizer's and config's."""
    generation = read_optional_json(folder / "generation_config.json").get("eos_token_id")
    config = read_json(folder / "config.json").get("eos_token_id")
    said = generation if generation is not None else [config, tokenizer.eos_token_id]
    flat = said if isinstance(said, list) else [said]
    return frozenset(int(token) for token in flat if isinstance(token, int))
