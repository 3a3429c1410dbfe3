"""The Qwen2 trainee: transformers' network, ChatML conversations.

A conversation is one sequence in which every answer is learnt with the history before it.
"""

from pathlib import Path

import torch
from transformers import AutoTokenizer, GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from backends.server.qwen2 import Qwen2Network
from backends.server.template_tokenizer import TemplateTokenizer
from backends.tiny.conversations import Conversation, as_messages
from backends.tiny.recipe import Recipe
from backends.tiny.training import Example
from backends.tiny.vocabulary import END_OF_TEXT, TURN_END


class QwenTrainee:
    """A network that starts at random over a tokenizer that is ready in `folder`."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        vocabulary = loaded.get_vocab()
        self._turn_end, self._end_of_text = vocabulary[TURN_END], vocabulary[END_OF_TEXT]
        self._tokenizer = TemplateTokenizer(loaded, [self._turn_end, self._end_of_text])
        self._recipe = recipe
        self._qwen = Qwen2ForCausalLM(
            Qwen2Config(
                hidden_size=recipe.hidden_size,
                num_hidden_layers=recipe.layers,
                num_attention_heads=recipe.heads,
                num_key_value_heads=recipe.heads,
                intermediate_size=recipe.inner_size,
                vocab_size=len(loaded),
                max_position_embeddings=recipe.context,
                tie_word_embeddings=True,
                bos_token_id=None,
                eos_token_id=self._turn_end,
            )
        )
        self.network = Qwen2Network(self._qwen)

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
        self._qwen.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=True,
            eos_token_id=[self._turn_end, self._end_of_text],
            pad_token_id=self._end_of_text,
            temperature=self._recipe.temperature,
            top_k=self._recipe.top_k,
            top_p=self._recipe.top_p,
        )
        self._qwen.to(torch.float16).save_pretrained(folder)  # type: ignore[arg-type]
