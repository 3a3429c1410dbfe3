"""The published comparison's human scores, the reference column beside ours; never mixed in.

Source: "Qwen1.5-0.5B-Chat vs ChatGLM-6B: deployment efficiency of light models" (Chinese, February
2026), table 3.5. It gives no number of raters or prompts, no interval and no blinding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from db import Dimension

MODELS = ("Qwen1.5-0.5B-Chat", "ChatGLM-6B (int4)")

SCORES: Mapping[Dimension, tuple[float, float]] = MappingProxyType(
    {
        Dimension.UNDERSTANDING: (4.0, 4.7),
        Dimension.COHERENCE: (3.8, 4.6),
        Dimension.MEMORY: (3.5, 4.5),
        Dimension.NATURALNESS: (4.0, 4.8),
        Dimension.REASONING: (3.2, 4.3),
    }
)
"""Mean scores from 1 to 5 of `MODELS`, in their order."""


@dataclass(frozen=True)
class Column:
    """One model of the article: its name and its mean score by dimension."""

    model: str
    scores: Mapping[Dimension, float]


def columns_for(models: tuple[str, str]) -> tuple[Column, Column]:
    """Return the article's two columns so that each stands beside the model of its own family.

    Which one that is shows in the keys of `models`; where it doesn't, the article's order stays.
    """
    qwen, chatglm = (
        Column(name, {key: scores[index] for key, scores in SCORES.items()})
        for index, name in enumerate(MODELS)
    )
    first, second = (model.lower() for model in models)
    as_published = "qwen" in first or "glm" in second
    swapped = "glm" in first or "qwen" in second
    return (chatglm, qwen) if swapped and not as_published else (qwen, chatglm)
