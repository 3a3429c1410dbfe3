"""The HTTP face of a model server, in the shape of OpenAI's API.

``GET /health``, ``GET /v1/models``, ``POST /v1/chat/completions`` (streamed or whole). Answers only
while the client listens: a closed connection ends the generation within one token. Every error has
OpenAI's shape. Knows no torch and loads nothing; prompts and answers are not logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from backends.catalog import Model
from backends.server.body_limit import BodyLimit
from backends.server.completion import Completion
from backends.server.errors import (
    BusyError,
    ContextError,
    ConversationError,
    GenerationError,
    NotReadyError,
    SequenceError,
    ServerError,
)
from backends.server.generation import GenerationRequest
from backends.server.host import ModelHost
from backends.server.schema import ChatRequest

if TYPE_CHECKING:
    from backends.server.engine import Engine

_CLIENT_CLOSED = 499
_HTTP_ERRORS: dict[type[ServerError], tuple[int, str, str | None]] = {
    ContextError: (400, "invalid_request_error", "context_length_exceeded"),
    ConversationError: (400, "invalid_request_error", None),
    SequenceError: (400, "invalid_request_error", None),
    BusyError: (429, "rate_limit_error", "busy"),
    GenerationError: (500, "server_error", None),
}


def create_app(host: ModelHost) -> FastAPI:
    """The application around one hosted model, which starts to load when the server is up."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        host.start()
        yield
        host.close()

    app = FastAPI(title="Model server", lifespan=lifespan, openapi_url=None)
    app.state.host = host
    app.add_middleware(BodyLimit)
    app.add_api_route("/health", _health)
    app.add_api_route("/v1/models", _models)
    app.add_api_route("/v1/chat/completions", _complete, methods=["POST"], response_model=None)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ServerError, _on_server_error)
    app.add_exception_handler(Exception, _on_defect)
    return app


async def _health(request: Request) -> JSONResponse:
    host: ModelHost = request.app.state.host
    health = host.health
    if health.status == "loading":
        body = {"status": "loading", "progress": round(health.progress, 3), "stage": health.stage}
        download = {"download": asdict(health.download)} if health.download else {}
        return JSONResponse(body | download, 503)
    if health.status == "failed":
        return JSONResponse({"status": "failed", "error": health.error}, 500)
    engine = _ready_engine(host)
    identity = {"model": host.model.key, "revision": host.model.revision}
    state = {"precision": engine.model.precision, "threads": host.threads, "pid": os.getpid()}
    load = {"running": engine.running, "waiting": engine.waiting}
    reuse = {"prefix_cache": asdict(engine.prefix_stats)}
    defaults = {"defaults": asdict(engine.model.defaults)}
    files = {"checkpoint": _checkpoint(host.model, engine.model.context)}
    return JSONResponse({"status": "ready"} | identity | state | load | reuse | defaults | files)


def _checkpoint(model: Model, context: int) -> dict[str, Any]:
    """What only the files, or the loaded network, could tell, in the fields of ``Checkpoint``."""
    return {
        "folder": str(model.folder),
        "family": model.family,
        "context": context,
        "parameters": model.parameters,
        "size_bytes": model.size_bytes,
        "bits": model.bits,
        "revision": model.revision,
    }


async def _models(request: Request) -> JSONResponse:
    host: ModelHost = request.app.state.host
    model = {"id": host.model.key, "object": "model", "created": 0, "owned_by": "twopane"}
    return JSONResponse({"object": "list", "data": [model]})


async def _complete(body: ChatRequest, request: Request) -> Response:
    host: ModelHost = request.app.state.host
    engine = _ready_engine(host)
    # A prompt may be long, and other streams must not wait for its tokens to be counted.
    longest = host.model.defaults.max_tokens
    wanted = await asyncio.to_thread(_generation_request, engine, body, longest)
    completion = Completion(engine, wanted, host.model.key)
    if body.stream:
        apart = bool(body.stream_options and body.stream_options.include_usage)
        return _EventStream(completion, usage_apart=apart)
    return await _whole_answer(completion, request)


def _ready_engine(host: ModelHost) -> Engine:
    if host.engine is None:
        raise NotReadyError(host.health.error)
    return host.engine


def _generation_request(engine: Engine, body: ChatRequest, max_tokens: int) -> GenerationRequest:
    messages = [message.utterance for message in body.messages]
    return GenerationRequest(
        prompt_ids=tuple(engine.model.tokenizer.encode_chat(messages)),
        max_tokens=body.longest_answer or max_tokens,
        sampling=engine.model.defaults.overridden(body.sampling),
        stops=body.stops,
    )


async def _whole_answer(completion: Completion, request: Request) -> Response:
    """The answer in one piece, or nothing once the client has gone."""
    answer = asyncio.create_task(completion.whole())
    gone = asyncio.create_task(_until_closed(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            return Response(status_code=_CLIENT_CLOSED)
        return JSONResponse(answer.result())
    finally:
        completion.cancel()
        answer.cancel()
        gone.cancel()


async def _until_closed(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _EventStream(StreamingResponse):
    """A stream that stops generating as soon as it isn't sent any more, for whatever reason."""

    def __init__(self, completion: Completion, *, usage_apart: bool) -> None:
        self._completion = completion
        super().__init__(
            completion.server_sent_events(usage_apart=usage_apart),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._completion.cancel()


def _error(
    status: int, message: str, kind: str, code: str | None = None, param: str | None = None
) -> JSONResponse:
    error = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": error}, status)


async def _on_invalid(_request: Request, error: Exception) -> JSONResponse:
    """The first thing that is wrong with a body; doesn't repeat what the client sent."""
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = error.errors()[0]
    if first["type"] == "json_invalid":
        return _error(400, "The body is no JSON.", "invalid_request_error")
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    message = f"{place}: {first['msg']}" if place else str(first["msg"])
    return _error(400, message, "invalid_request_error", param=place or None)


async def _on_http_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, str(error.detail), "invalid_request_error")


async def _on_server_error(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, NotReadyError):
        return _not_ready(request.app.state.host)
    for kind, (status, name, code) in _HTTP_ERRORS.items():
        if isinstance(error, kind):
            return _error(status, str(error), name, code)
    return _error(500, str(error), "server_error")


def _not_ready(host: ModelHost) -> JSONResponse:
    health = host.health
    if health.status == "failed":
        return _error(500, f"The model can't be loaded: {health.error}", "server_error", "failed")
    done = f"{health.progress:.0%}"
    return _error(503, f"The model is still loading ({done}).", "server_error", "loading")


async def _on_defect(_request: Request, _error_: Exception) -> JSONResponse:
    return _error(500, "The server failed; its log says why.", "server_error")
