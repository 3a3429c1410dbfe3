"""Continuous batching: many requests answered by one model, token by token."""
