"""The published comparison's scores and measurements, the column beside ours; never mixed in.

Source: "Qwen1.5-0.5B-Chat vs ChatGLM-6B: deployment efficiency of light models" (Chinese, February
2026), tables 3.3 to 3.5. It gives no number of raters or prompts, no interval and no blinding, no
spread of its times, and doesn't say how memory and CPU use were read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from backends.measurement import ARTICLE_PROMPTS
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

HARDWARE = (
    "one virtual machine with Ubuntu 20.04, 4 CPU cores, 8 GB of memory and no GPU; Transformers "
    "on the CPU, ChatGLM-6B as its int4 checkpoint"
)
"""What the article measured on."""

Figure = float | str
"""A number in the unit that its name says, or the article's own words where it gives no number."""

RESOURCES: Mapping[str, tuple[Figure, Figure]] = MappingProxyType(
    {
        "size_bytes": ("~1.1 GB", "~3.8 GB"),
        "peak_bytes": ("< 2.1 GB", "> 6.5 GB"),
        "cold_start_s": (12.0, 310.0),
        "cpu_share": (0.65, "95-100 %"),
        "fits_on_disk": ("yes", "no (risk of running out)"),
    }
)
"""Its table 3.3, by the names of `backends.measurement.Resources` where there is one."""

LATENCY_S: Mapping[str, tuple[float, float]] = MappingProxyType(
    dict(zip(ARTICLE_PROMPTS, ((1.8, 4.7), (3.2, 7.9), (4.1, 11.3)), strict=True))
)
"""Its table 3.4 by prompt: mean seconds of 5 repeats."""

FIRST_TOKEN_S = (0.9, 3.1)
"""Its table 3.4, last row; it doesn't say of which prompt."""


@dataclass(frozen=True)
class Reference:
    """What the article measured of one of its models."""

    model: str
    resources: Mapping[str, Figure]
    latency_s: Mapping[str, float]
    first_token_s: float


REFERENCES = tuple(
    Reference(
        model=name,
        resources=MappingProxyType({key: row[index] for key, row in RESOURCES.items()}),
        latency_s=MappingProxyType({prompt: row[index] for prompt, row in LATENCY_S.items()}),
        first_token_s=FIRST_TOKEN_S[index],
    )
    for index, name in enumerate(MODELS)
)


def reference_for(model: str) -> Reference | None:
    """Return the article's model of the same family as the one of that key; None if it has none."""
    name = model.lower()
    if "qwen" in name:
        return REFERENCES[0]
    return REFERENCES[1] if "glm" in name else None


def references_beside(models: Sequence[str]) -> tuple[Reference, ...]:
    """Return the article's columns for a table of `models`, in their order, each once.

    Where none of them is of a family that the article measured, both of its own are returned.
    """
    found = [reference_for(model) for model in models]
    first_places = sorted(found.index(one) for one in REFERENCES if one in found)
    return tuple(one for place in first_places if (one := found[place])) or REFERENCES


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
