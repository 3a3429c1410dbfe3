"""The published comparison's human scores, the reference column beside ours; never mixed in.

Source: "Qwen1.5-0.5B-Chat vs ChatGLM-6B: deployment efficiency of light models" (Chinese, February
2026), table 3.5. It gives no number of raters or prompts, no interval and no blinding.
"""

from collections.abc import Mapping
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
