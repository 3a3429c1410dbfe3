"""How `client` asks an OpenAI-compatible endpoint and reads its stream, by the openai package.

Everything that an endpoint sends is checked here; what goes wrong leaves as a `BackendError`. Only
`client` imports it.
"""

import logging
import re
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any

import httpx2
import openai
import openai.resources.chat.completions  # else the first answer's clock counts it: 40 ms
from pydantic import BaseModel, ConfigDict, Field

from backends.catalog import Sampling
from backends.client import (
    BackendError,
    BadAnswer,
    Endpoint,
    Finish,
    Message,
    ModelBusy,
    ModelUnavailable,
    Piece,
    PromptTooLong,
)
from backends.connection import open_client

logger = logging.getLogger(__name__)

# No answer that a person would rate comes near; an endpoint that ignores max_tokens must not fill
# memory and database.
_LONGEST_ANSWER = 1_000_000


async def stream(
    endpoint: Endpoint, messages: Sequence[Message], sampling: Sampling, piece_timeout_s: float
) -> AsyncGenerator[Piece | Finish, None]:
    """Yield the pieces of one answer, then exactly one `Finish`: see `client.stream_answer`."""
    try:
        async with _connect(endpoint, piece_timeout_s) as client:
            completions = client.chat.completions
            answer = _Answer()
            events = await completions.create(**_request(endpoint, messages, sampling), stream=True)
            async with events:
                _check_content_type(events.response.headers.get("content-type", ""))
                async for event in events:
                    if piece := answer.take(event):
                        yield piece
            yield answer.finish()
    except _FAILURES as error:
        failure = _failure(error)
        _log(endpoint, failure, error)
        raise failure from error
    except BackendError as failure:
        _log(endpoint, failure, failure)
        raise


def _connect(endpoint: Endpoint, piece_timeout_s: float) -> openai.AsyncOpenAI:
    client = openai.AsyncOpenAI(
        base_url=endpoint.base_url,
        api_key=endpoint.api_key or "none",
        max_retries=0,
        http_client=open_client(endpoint.base_url, timeout_s=piece_timeout_s),
    )
    # Read from the environment by the package; a stranger's endpoint has no business with them.
    client.organization = client.project = None
    return client


def _request(endpoint: Endpoint, messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
    request: dict[str, Any] = {
        "model": endpoint.model,
        "messages": [
            {"role": message.role, "content": _encodable(message.content)} for message in messages
        ],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "stream_options": {"include_usage": True},
    }
    if sampling.seed is not None:
        request["seed"] = sampling.seed
    beyond_openai = {"top_k": sampling.top_k, "repetition_penalty": sampling.repetition_penalty}
    if extra := {name: value for name, value in beyond_openai.items() if value is not None}:
        request["extra_body"] = extra
    return request


def _encodable(text: str) -> str:
    """Join halves of surrogate pairs and replace lone ones, which UTF-8 can't carry."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# --- reading what the endpoint sends ------------------------------------------------------------


class _Part(BaseModel):
    """Base of the parts of an event: what we use of it, checked; whatever else is ignored."""

    model_config = ConfigDict(from_attributes=True, strict=True)


class _Delta(_Part):
    content: str | None = None


class _Choice(_Part):
    index: int | None = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


_TokenCount = Annotated[int, Field(ge=0, lt=2**31)]  # what a database column holds


class _Usage(_Part):
    prompt_tokens: _TokenCount | None = None
    completion_tokens: _TokenCount | None = None


class _Event(_Part):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None


class _Answer:
    """What has arrived of one answer. Its clock starts when it is made."""

    def __init__(self) -> None:
        self._start_s = time.perf_counter()
        self._first_token_s: float | None = None
        self._characters = 0
        self._reason: str | None = None
        self._usage = _Usage()

    def take(self, event: object) -> Piece | None:
        """Take in one event and return the text in it, if any."""
        checked = _Event.model_validate(event)
        self._usage = checked.usage or self._usage
        choice = next((choice for choice in checked.choices or [] if not choice.index), _Choice())
        self._reason = choice.finish_reason or self._reason
        text = choice.delta.content if choice.delta else None
        return self._piece(text) if text else None

    def _piece(self, text: str) -> Piece:
        elapsed_s = time.perf_counter() - self._start_s
        if self._first_token_s is None:
            self._first_token_s = elapsed_s
        self._characters += len(text)
        if self._characters > _LONGEST_ANSWER:
            raise ValueError("the answer doesn't end")
        # SQL databases and browsers choke on NUL.
        return Piece(_encodable(text).replace("\0", "\ufffd"), elapsed_s)

    def finish(self) -> Finish:
        """Return the end of the answer, or explain why it has none."""
        if self._reason is None:
            raise ModelUnavailable(_BROKE_OFF)
        if self._reason in ("content_filter", "error", "abort"):
            raise ValueError(f"the answer was ended by {self._reason}")
        return Finish(
            # Endpoints have many words for "stop": eos, end_turn, stop_sequence, ...
            reason="length" if self._reason == "length" else "stop",
            prompt_tokens=self._usage.prompt_tokens,
            completion_tokens=self._usage.completion_tokens,
            first_token_s=self._first_token_s,
            total_s=time.perf_counter() - self._start_s,
        )


def _check_content_type(content_type: str) -> None:
    """Refuse a web page or a whole JSON answer, in which the reader would see an empty stream."""
    if content_type and "event-stream" not in content_type:
        raise ValueError(f"an answer of type {content_type}")


# --- errors --------------------------------------------------------------------------------------

_FAILURES = (
    openai.OpenAIError,
    httpx2.HTTPError,  # the package lets it through while it reads an error's text
    httpx2.InvalidURL,
    ValueError,  # an event that is no UTF-8, no JSON, or not what OpenAI would send
    RecursionError,  # JSON in JSON in JSON
)
_BROKE_OFF = "This side's model broke off in the middle of its answer. Ask it again."
_SILENT = "This side's model has stopped answering. Wait a little, then ask it again."
_LOADING = "This side's model is still loading. Wait a little, then ask it again."


def _failure(error: Exception) -> BackendError:
    """Turn an error of the `openai` package into ours, without a word of the endpoint's."""
    if isinstance(error, openai.APITimeoutError):
        connecting = isinstance(error.__cause__, httpx2.ConnectTimeout)
        return ModelUnavailable() if connecting else ModelUnavailable(_SILENT)
    if isinstance(error, openai.APIConnectionError | httpx2.TransportError):
        reached = isinstance(error.__cause__, httpx2.ReadError | httpx2.RemoteProtocolError)
        return ModelUnavailable(_BROKE_OFF) if reached else ModelUnavailable()
    if isinstance(error, openai.APIError):
        return _failure_said(error, getattr(error, "status_code", None))
    return BadAnswer()


def _failure_said(error: openai.APIError, status: int | None) -> BackendError:
    """Tell by status and code what the endpoint means; `status` is None in mid-stream."""
    said = f"{error.code} {error.type} {error.message}".lower()
    # vLLM and llama.cpp have no such code, but words for it.
    too_long = r"context_length_exceeded|exceed_context_size|context (length|size|window)"
    if status == 413 or (status in (400, 422, None) and re.search(too_long, said)):
        return PromptTooLong()
    if status == 503 and "loading" in said:
        return ModelUnavailable(_LOADING)
    if status in (429, 503):
        return ModelBusy()
    return ModelUnavailable() if status in (502, 504) else BadAnswer()


def _log(endpoint: Endpoint, failure: BackendError, error: Exception) -> None:
    """Tell the log what the person must not see; what the endpoint said may quote the prompt."""
    logger.warning(
        "%s at %s: %s (%s, status %s)",
        endpoint.model,
        endpoint.base_url,
        type(failure).__name__,
        type(error).__name__,
        getattr(error, "status_code", "none"),
    )
    logger.debug("%s said: %s", endpoint.model, error)
