"""What a client may send, checked: the part of OpenAI's chat completion request that is served.

Fields that would change the answer and aren't served are refused unless they are neutral; others
that clients add are ignored. Knows no model.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from backends.server.conversation import Utterance
from backends.server.generation import SAMPLING_BOUNDS


def _encodable(text: str) -> str:
    """Refuses halves of surrogate pairs, which JSON can carry and no tokenizer can read."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the text has lone surrogates: it is no Unicode text") from None
    return text


def _within(name: str) -> Any:
    bounds = SAMPLING_BOUNDS[name]
    return Field(ge=bounds.least, le=bounds.most)


_Text = Annotated[str, AfterValidator(_encodable)]
_StopString = Annotated[_Text, Field(min_length=1, max_length=256)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class TextPart(_Strict):
    """A part of a message; only text is understood."""

    type: Literal["text"]
    text: _Text


class ChatMessage(_Strict):
    """One message."""

    role: Literal["system", "user", "assistant"]
    content: _Text | list[TextPart]

    @property
    def utterance(self) -> Utterance:
        """The message with its parts put together."""
        if isinstance(self.content, str):
            return Utterance(self.role, self.content)
        return Utterance(self.role, "".join(part.text for part in self.content))


class StreamOptions(_Strict):
    """How a stream ends."""

    include_usage: bool | None = None


class ChatRequest(_Strict):
    """The body of ``POST /v1/chat/completions``; None leaves the choice to the checkpoint."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    model: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, _within("temperature")] | None = None
    top_p: Annotated[float, _within("top_p")] | None = None
    top_k: Annotated[int, _within("top_k")] | None = None
    repetition_penalty: Annotated[float, _within("repetition_penalty")] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: _StopString | Annotated[list[_StopString], Field(max_length=16)] | None = None
    n: Literal[1] | None = None
    logprobs: Literal[False] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def longest_answer(self) -> int | None:
        """The most tokens that the client wants."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def sampling(self) -> dict[str, float | int | None]:
        """The values that override the checkpoint's; -1 is another way to say that top-k is off."""
        top_k = self.top_k if self.top_k is None else max(self.top_k, 0)
        names = {"temperature", "top_p", "repetition_penalty", "seed"}
        return {"top_k": top_k, **self.model_dump(include=names)}
