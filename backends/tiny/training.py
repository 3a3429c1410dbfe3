"""The training loop: batches of answered conversations, AdamW, a cosine learning rate.

The same seed, corpus, recipe and thread count give the same weights, bit for bit. Knows no family:
a `Trainee` says how a conversation becomes tokens.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from backends.server.batch import FlatBatch
from backends.tiny.conversations import Conversation, ConversationSource
from backends.tiny.recipe import Recipe

# More than one is slower where other work runs on the same cores, as two trainings at once do:
# 0.6 s a step against 2.1 s, and only 0.3 s on an idle machine (2 cores, 4 million parameters).
THREADS = 1
_GRADIENT_NORM = 1.0
_FINAL_SHARE = 0.05


@dataclass(frozen=True)
class Example:
    """Token ids of one sequence.

    Attributes:
        answers: (start, end) of every stretch of ids that is to be learnt.
    """

    ids: tuple[int, ...]
    answers: tuple[tuple[int, int], ...]


class Trainee(Protocol):
    """One family's network and its way of writing conversations."""

    @property
    def network(self) -> nn.Module:
        """What is trained: takes a `FlatBatch`, gives logits of its wanted rows."""

    def examples(self, conversation: Conversation) -> list[Example]:
        """Return the sequences by which the conversation is learnt."""

    def save(self, folder: Path) -> None:
        """Write weights and settings beside the tokenizer's files."""


def prepare_torch(seed: int) -> None:
    """Make everything that follows in this process reproducible."""
    torch.manual_seed(seed)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)


def train(
    trainee: Trainee,
    source: ConversationSource,
    recipe: Recipe,
    on_step: Callable[[float], None],
) -> None:
    """Run the recipe's steps; `on_step` gets the loss of each."""
    optimizer = _make_optimizer(trainee.network, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe))
    batches = _batches(trainee, source, recipe.tokens_per_step)
    trainee.network.train()
    for _ in range(recipe.steps):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = _loss(trainee.network, next(batches))
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trainee.network.parameters(), _GRADIENT_NORM)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        on_step(loss.item())


def _loss(network: nn.Module, batch: list[Example]) -> Tensor:
    """Return the mean cross-entropy over the answers' tokens."""
    rows: list[int] = []
    targets: list[int] = []
    offset = 0
    for example in batch:
        for start, end in example.answers:
            # The row before a token predicts it.
            rows.extend(range(offset + start - 1, offset + end - 1))
            targets.extend(example.ids[start:end])
        offset += len(example.ids)
    logits = network(FlatBatch.of((example.ids for example in batch), rows))
    return functional.cross_entropy(logits.float(), torch.tensor(targets))


def _make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))


def _rate(step: int, recipe: Recipe) -> float:
    """Return the share of the learning rate at a step: linear up, then a half cosine down."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return _FINAL_SHARE + (1 - _FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * done))


def _batches(trainee: Trainee, source: ConversationSource, budget: int) -> Iterator[list[Example]]:
    """Yield batches of up to `budget` tokens without end.

    In the order in which they were drawn: sorted by length they would be quicker, but every step
    would learn one topic and forget another.
    """
    batch: list[Example] = []
    while True:
        for example in (found for drawn in source.epoch() for found in trainee.examples(drawn)):
            if batch and sum(len(other.ids) for other in batch) + len(example.ids) > budget:
                yield batch
                batch = []
            batch.append(example)
