"""Streams one answer from any OpenAI-compatible endpoint, ours or another's.

Doesn't retry, doesn't pace or mask, and doesn't know which model an endpoint runs. Nothing that an
endpoint says reaches a person through an error. How it is asked and read is `streaming`'s, which is
imported by the first answer: the openai package takes 0.4 s and 40 MB (2026-11-29).

    BackendError            no answer, or only a part of one
    ├── ModelUnavailable    can't be reached, isn't loaded yet, or died in the middle
    ├── ModelBusy           has too many requests at the moment
    ├── PromptTooLong       the conversation doesn't fit the model's context
    └── BadAnswer           the endpoint refused, or said what can't be understood
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from backends.catalog import Sampling

__all__ = [
    "BackendError",
    "BadAnswer",
    "Endpoint",
    "Finish",
    "Message",
    "ModelBusy",
    "ModelUnavailable",
    "Piece",
    "PromptTooLong",
    "Sampling",
    "prepare",
    "stream_answer",
]


class BackendError(Exception):
    """No whole answer came; the message is for the person who asked and names no model."""

    text = "This side's model failed. Ask this side again."

    def __init__(self, text: str | None = None) -> None:
        super().__init__(text or self.text)


class ModelUnavailable(BackendError):  # noqa: N818 -- reads as what it is
    """The model can't be reached, isn't loaded yet, or died in the middle of its answer."""

    text = "This side's model can't be reached at the moment. Wait a little, then ask it again."


class ModelBusy(BackendError):  # noqa: N818 -- reads as what it is
    """The model has too many requests at the moment."""

    text = "This side's model is busy. Wait a moment, then ask it again."


class PromptTooLong(BackendError):  # noqa: N818 -- reads as what it is
    """The conversation doesn't fit the model's context."""

    text = "The conversation is too long for this side's model. Shorten it, or start a new trial."


class BadAnswer(BackendError):  # noqa: N818 -- reads as what it is
    """The endpoint refused the request, or answered what can't be understood."""

    text = (
        "This side's model gave no usable answer. Ask it again; if that doesn't help, tell whoever "
        "runs this panel: the log says more."
    )


@dataclass(frozen=True)
class Endpoint:
    """Where a model answers; `base_url` ends in what precedes `/chat/completions`."""

    base_url: str
    model: str
    api_key: str = field(default="none", repr=False)


@dataclass(frozen=True)
class Message:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Piece:
    """Some more text of the answer, `elapsed_s` after the request was sent; never empty."""

    text: str
    elapsed_s: float


@dataclass(frozen=True)
class Finish:
    """The end of a whole answer.

    Attributes:
        prompt_tokens: None where the endpoint doesn't count.
        completion_tokens: None where the endpoint doesn't count.
        first_token_s: From sending the request to the first piece; None for an empty answer.
        total_s: From sending the request to the end of the answer.
    """

    reason: Literal["stop", "length"]
    prompt_tokens: int | None
    completion_tokens: int | None
    first_token_s: float | None
    total_s: float


def stream_answer(
    endpoint: Endpoint,
    messages: Sequence[Message],
    sampling: Sampling,
    *,
    piece_timeout_s: float = 600.0,
) -> AsyncGenerator[Piece | Finish, None]:
    """Yield the pieces of one answer, then exactly one `Finish`.

    Closing the generator, or cancelling the task that reads it, closes the connection; a server of
    ours stops generating then.

    Raises:
        BackendError: One of its kinds, as the module's docstring draws them.
    """
    from backends.streaming import stream  # noqa: PLC0415 -- takes long to import

    return stream(endpoint, messages, sampling, piece_timeout_s)


def prepare() -> None:
    """Import what the first answer would wait for, and all that go on beside it with it."""
    import backends.streaming  # noqa: F401, PLC0415 -- takes long to import
