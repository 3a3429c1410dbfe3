"""The web application around the Gradio pages: health, static files, headers, language, cookie.

Gradio has no place for these: its `head` comes after its own translations have chosen a language,
and its routes know no cookies. Knows nothing of trials.
"""

import json
import warnings
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cache
from hashlib import sha256
from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.language import COOKIE as LANGUAGE_COOKIE
from ui.language import LOCALES, language_of, texts_in, translations
from ui.visitor import cookie_header, known_id

STATIC_PATH = "/twopane"
_STATIC_FOLDER = Path(__file__).parent / "static"

# Gradio's page needs inline scripts, and evaluates the templates of its HTML components. Whatever
# an answer smuggles into the page, nothing can be fetched from or sent to another host.
_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_GET = ["GET", "HEAD"]

_LONGEST_BODY = 1_000_000
"""In bytes. The longest prompt has 80 kB; a body of 100 MB would stall every stream."""

_CLOSED = ("upload", "deep_link", "openapi.json", "vibe-", "process_recording", "proxy=")
"""Routes of Gradio that no page here needs, and that would take in files or describe the app."""

_SCRIPT_TEXTS = (
    *("missing_none", "missing_one", "missing_many", "connection_lost"),
    *("file_too_large", "file_read", "file_unreadable"),
)

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
Readiness = Callable[[], Awaitable[dict[str, bool]]]
Answer = Callable[[Request], Awaitable[Response]]


def build_app(
    pages: gr.Blocks,
    paths: Sequence[str],
    *,
    lifespan: Lifespan,
    ready: Readiness,
    metrics: Answer | None = None,
) -> FastAPI:
    """Return the application that serves `pages`.

    Args:
        pages: The Gradio pages, with their events.
        paths: Where the pages are; these get their language and the rater's cookie.
        lifespan: What to start before and stop after serving.
        ready: Says what works, by name; the app is ready when all do.
        metrics: Answers who asks for figures; see `metrics`. Without it there are none.
    """
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(PageMiddleware, paths=paths)

    @app.api_route("/healthz", methods=_GET)
    async def healthz() -> dict[str, str]:
        return {"status": "up"}

    @app.api_route("/readyz", methods=_GET)
    async def readyz() -> JSONResponse:
        parts = await ready()
        return JSONResponse(parts, status_code=200 if all(parts.values()) else 503)

    if metrics is not None:
        app.add_route("/metrics", metrics, methods=_GET)
    app.mount(STATIC_PATH, StaticFiles(directory=_STATIC_FOLDER))
    with warnings.catch_warnings():
        # Gradio says so for every app of several pages, also with `ssr_mode=False`.
        warnings.filterwarnings("ignore", message="SSR mode is not supported")
        gr.mount_gradio_app(
            app,
            pages,
            path="/",
            footer_links=["api"],
            run_history=False,
            enable_monitoring=False,
            max_file_size="64kb",
            show_error=False,
            ssr_mode=False,
            pwa=False,
            i18n=translations(),
            theme=_theme(),
            app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
        )
    return app


def _theme() -> gr.themes.Base:
    fonts = ("system-ui", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "sans-serif")
    return gr.themes.Default(
        primary_hue="teal",
        neutral_hue="slate",
        font=[gr.themes.Font(name) for name in fonts],
        font_mono=[gr.themes.Font("ui-monospace"), gr.themes.Font("monospace")],
    ).set(  # text needs a contrast of 4.5 to its ground (WCAG AA); the defaults have 2.5 to 3.9
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_600",
        block_title_text_color_dark="*neutral_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
        button_cancel_background_fill_dark="#b91c1c",
        button_cancel_background_fill_hover_dark="#991b1b",
    )


class PageMiddleware:
    """Gives every page its language, script, style and rater; every response its headers."""

    def __init__(self, app: ASGIApp, paths: Sequence[str]) -> None:
        self._app = app
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and dress the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        path = str(scope["path"]).removeprefix(str(scope.get("root_path", "")))
        if refusal := _refusal(request, path):
            await refusal(scope, receive, _with_headers(send))
        elif request.method == "GET" and path in self._paths:
            scope["headers"] = [h for h in scope["headers"] if h[0] != b"accept-encoding"]
            await self._app(scope, receive, _PageSender(send, request))
        else:
            await self._app(scope, receive, _with_headers(send))


def _refusal(request: Request, path: str) -> Response | None:
    """Return what answers a request that must not reach Gradio, or None."""
    if path.startswith(tuple(f"/gradio_api/{route}" for route in _CLOSED)):
        return PlainTextResponse("Not found", 404)
    if request.method in ("GET", "HEAD"):
        return None
    length = request.headers.get("content-length", "")
    if not length.isdecimal():  # sent in chunks: how long it gets can't be known
        return PlainTextResponse("Say how long it is: Content-Length", 411)
    return PlainTextResponse("Too long", 413) if int(length) > _LONGEST_BODY else None


def _with_headers(send: Send) -> Send:
    async def dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_HEADERS)
        await send(message)

    return dressed


class _PageSender:
    """Holds back one page until it is whole, then sends it with our head in front."""

    def __init__(self, send: Send, request: Request) -> None:
        self._send = send
        self._request = request
        self._start: Message = {}
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        if message["type"] != "http.response.body":
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        headers = MutableHeaders(scope=self._start)
        headers.update(_HEADERS)
        headers["Cache-Control"] = "no-store"  # the page depends on the visitor
        if known_id(self._request) is None:
            headers.append("Set-Cookie", cookie_header(self._request))
        if headers.get("content-type", "").startswith("text/html"):
            self._body = self._body.replace(b"<head>", b"<head>" + self._head(), 1)
            self._body = self._body.replace(b'lang="en"', self._lang(), 1)
            headers["content-length"] = str(len(self._body))
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": self._body})

    def _lang(self) -> bytes:
        return f'lang="{language_of(self._request)}"'.encode()

    def _head(self) -> bytes:
        """Our head: the language before Gradio's scripts ask the browser for it, and our files."""
        language = language_of(self._request)
        texts = json.dumps({name: texts_in(language)(name) for name in _SCRIPT_TEXTS})
        root = str(self._request.scope.get("root_path", "")).rstrip("/")
        return (
            f'<link rel="icon" href="{root}{STATIC_PATH}/icon.svg" type="image/svg+xml">'
            f'<link rel="stylesheet" href="{root}{STATIC_PATH}/page.css?{_version("page.css")}">'
            "<script>"
            f'Object.defineProperty(navigator,"language",{{get:()=>"{LOCALES[language]}"}});'
            f'window.twopane={{language:"{language}",languageCookie:"{LANGUAGE_COOKIE}",'
            f"texts:{texts}}};"
            "</script>"
            f'<script src="{root}{STATIC_PATH}/stream.js?{_version("stream.js")}"></script>'
            f'<script src="{root}{STATIC_PATH}/panel.js?{_version("panel.js")}"></script>'
        ).encode()


@cache
def _version(file: str) -> str:
    """Return what changes with the file, so that no browser pairs an old one with a new page."""
    return sha256((_STATIC_FOLDER / file).read_bytes()).hexdigest()[:8]
