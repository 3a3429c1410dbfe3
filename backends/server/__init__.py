"""One chat model in a process of its own, behind an OpenAI-compatible API.

The only package of the project that imports torch, and only once something here is used:
importing ``backends.server`` itself is cheap. ``load_model`` and ``load_tokenizer`` are its face
for other code; ``python -m backends.server`` is its face for everyone else.

From the outside in: ``api`` and ``host`` serve; ``engine`` batches requests; ``model`` is one face
over the families ``qwen2``, ``chatglm`` and ``transformers_model``; these compute with ``eager``
(torch) or ``native`` (our own ``kernels``), and read with ``checkpoints`` and ``tokenizer``.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backends.server.model import ChatModel, load_model, load_tokenizer

__all__ = ["ChatModel", "load_model", "load_tokenizer"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("backends.server.model"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
