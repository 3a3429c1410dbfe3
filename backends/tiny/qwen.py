"""The Qwen2 trainee: the network and tokenizer of `backends.server`, ChatML conversations.

A conversation is one sequence in which every answer is learnt with the history before it.
"""

import json
from pathlib import Path

from backends.server.qwen2 import Qwen2Config
from backends.server.qwen2.network import Qwen2Network
from backends.server.tokenizer.by_transformers import read_with_transformers
from backends.server.tokenizer.template import TemplateTokenizer
from backends.tiny.conversations import Conversation, as_messages
from backends.tiny.recipe import Recipe
from backends.tiny.training import Example
from backends.tiny.vocabulary import END_OF_TEXT, TURN_END


class QwenTrainee:
    """A network that starts at random over a tokenizer that is ready in `folder`."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        stored = read_with_transformers(folder)
        vocabulary = stored.tokenizer.get_vocab()
        self._turn_end, self._end_of_text = vocabulary[TURN_END], vocabulary[END_OF_TEXT]
        self._tokenizer = TemplateTokenizer(
            stored.tokenizer, stored.template, [self._turn_end, self._end_of_text]
        )
        self._recipe = recipe
        self.network = Qwen2Network(
            Qwen2Config(
                hidden_size=recipe.hidden_size,
                num_hidden_layers=recipe.layers,
                num_attention_heads=recipe.heads,
                num_key_value_heads=recipe.heads,
                intermediate_size=recipe.inner_size,
                vocab_size=len(vocabulary),
                max_position_embeddings=recipe.context,
                tie_word_embeddings=True,
            )
        )

    def examples(self, conversation: Conversation) -> list[Example]:
        """Return the conversation as one sequence, or nothing where it is too long."""
        exchanges = conversation.exchanges
        ids: list[int] = []
        answers: list[tuple[int, int]] = []
        for turn, exchange in enumerate(exchanges):
            # A ChatML prompt begins with the prompts of the turns before it, so what was found
            # for them stays where it is.
            prompt = self._tokenizer.encode_chat(as_messages(exchanges[:turn], exchange.question))
            ids = [*prompt, *self._tokenizer.encode_text(exchange.answer), self._turn_end]
            if turn >= conversation.trained_from:
                answers.append((len(prompt), len(ids)))
        return [Example(tuple(ids), tuple(answers))] if len(ids) <= self._recipe.context else []

    def save(self, folder: Path) -> None:
        """Write weights and settings beside the tokenizer's files."""
        self.network.save(folder)
        settings = {
            "do_sample": True,
            "eos_token_id": [self._turn_end, self._end_of_text],
            "pad_token_id": self._end_of_text,
            "temperature": self._recipe.temperature,
            "top_k": self._recipe.top_k,
            "top_p": self._recipe.top_p,
        }
        text = json.dumps(settings, indent=2) + "\n"
        (folder / "generation_config.json").write_text(text, encoding="utf-8")
