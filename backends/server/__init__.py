"""One chat model in a process of its own, behind an OpenAI-compatible API.

The only package of the project that imports torch, and only once something here is used:
importing ``backends.server`` itself is cheap. ``load_model`` and ``load_tokenizer`` are its face
for other code; ``python -m backends.server`` is its face for everyone else.
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
