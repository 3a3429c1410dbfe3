"""The ChatGLM trainee: the network and tokenizer of `backends.server`, `[Round n]` prompts.

Every answer is a sequence of its own, since all that comes before it sees itself both ways.
"""

import json
from pathlib import Path

import torch
from torch import nn

from backends.server.chatglm import ChatGLMConfig, ChatGLMTokenizer
from backends.server.chatglm.network import ChatGLMNetwork
from backends.tiny.conversations import Conversation, as_messages
from backends.tiny.recipe import Recipe
from backends.tiny.training import Example

_EMBEDDING_STD = 0.02
_ADDED_GAIN = 4.0


class ChatGLMTrainee:
    """A network that starts at random over a tokenizer that is ready in `folder`."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self._tokenizer = ChatGLMTokenizer.from_folder(folder)
        self._recipe = recipe
        self.network = ChatGLMNetwork(
            ChatGLMConfig(
                hidden_size=recipe.hidden_size,
                num_layers=recipe.layers,
                num_attention_heads=recipe.heads,
                inner_hidden_size=recipe.inner_size,
                vocab_size=len(self._tokenizer.decodable),
                max_sequence_length=recipe.context,
                bos_token_id=self._tokenizer.bos_id,
                eos_token_id=self._tokenizer.eos_id,
                mask_token_id=self._tokenizer.mask_id,
                gmask_token_id=self._tokenizer.gmask_id,
                pad_token_id=self._tokenizer.pad_id,
            )
        )
        _start_evenly(self.network)

    def examples(self, conversation: Conversation) -> list[Example]:
        """Return one sequence for every answer that is to be learnt."""
        turns = range(conversation.trained_from, len(conversation.exchanges))
        found = [self._example(conversation, turn) for turn in turns]
        return [example for example in found if len(example.ids) <= self._recipe.context]

    def save(self, folder: Path) -> None:
        """Write weights and settings beside the tokenizer's files."""
        self.network.save(folder)
        settings = {
            "do_sample": True,
            "eos_token_id": self._tokenizer.eos_id,
            "pad_token_id": self._tokenizer.pad_id,
            "temperature": self._recipe.temperature,
            "top_k": self._recipe.top_k,
            "top_p": self._recipe.top_p,
        }
        text = json.dumps(settings, indent=2) + "\n"
        (folder / "generation_config.json").write_text(text, encoding="utf-8")

    def _example(self, conversation: Conversation, turn: int) -> Example:
        exchange = conversation.exchanges[turn]
        history = conversation.exchanges[:turn]
        prompt = self._tokenizer.encode_chat(as_messages(history, exchange.question))
        answer = [*self._tokenizer.encode_text(exchange.answer), self._tokenizer.eos_id]
        return Example((*prompt, *answer), ((len(prompt), len(prompt) + len(answer)),))


@torch.no_grad()
def _start_evenly(network: ChatGLMNetwork) -> None:
    """Shrink the embedding and enlarge what attention and MLP add to the residual.

    The tied head begins by repeating the token just read, the more the larger the embedding, and
    the residual's factor of 7.5 is meant for many more layers than these.
    """
    nn.init.normal_(network.transformer.word_embeddings.weight, std=_EMBEDDING_STD)
    for name, weight in network.named_parameters():
        if name.endswith(("attention.dense.weight", "mlp.dense_4h_to_h.weight")):
            weight.mul_(_ADDED_GAIN)
