"""What makes each of the two built-in models what it is: sizes, steps, variety, sampling defaults.

Data only. `tiny-chatglm` is meant to be clearly the better one, so that rating them means
something: `tiny-qwen` gets a smaller network and fewer steps.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from backends.tiny.conversations import Variety

ModelKey = Literal["tiny-qwen", "tiny-chatglm"]


@dataclass(frozen=True)
class Recipe:
    """Everything but the corpus and the seed that a training run depends on.

    Attributes:
        key: The model's name, which it also calls itself.
        inner_size: Width of the feed-forward network (gated in Qwen2, not in ChatGLM).
        vocabulary_size: Upper bound; a small corpus may fill less.
        tokens_per_step: Upper bound.
        temperature: Default for chats with the finished model, as are `top_p` and `top_k`.
    """

    key: ModelKey
    layers: int
    hidden_size: int
    heads: int
    inner_size: int
    vocabulary_size: int
    steps: int
    tokens_per_step: int
    learning_rate: float
    variety: Variety
    warmup_steps: int = 100
    weight_decay: float = 0.05
    context: int = 1024
    temperature: float = 0.4
    top_p: float = 0.8
    top_k: int = 20

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain data, for the training record."""
        return asdict(self)


RECIPES: dict[ModelKey, Recipe] = {
    "tiny-qwen": Recipe(
        key="tiny-qwen",
        layers=3,
        hidden_size=192,
        heads=3,
        inner_size=512,
        vocabulary_size=3000,
        steps=800,
        tokens_per_step=1600,
        learning_rate=2e-3,
        variety=Variety(),
    ),
    "tiny-chatglm": Recipe(
        key="tiny-chatglm",
        layers=3,
        hidden_size=256,
        heads=4,
        inner_size=1024,
        vocabulary_size=2400,
        steps=2000,
        tokens_per_step=1600,
        learning_rate=2e-3,
        variety=Variety(),
    ),
}
