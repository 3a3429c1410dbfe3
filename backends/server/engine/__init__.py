"""Continuous batching: many requests answered by one model, token by token."""

from backends.server.engine.engine import Engine

__all__ = ["Engine"]
