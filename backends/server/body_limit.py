"""Refuses requests whose body is too long, before anything of it is kept or parsed."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LONGEST_BODY = 8_000_000
"""In bytes: several times the longest context of any model here."""


class BodyLimit:
    """ASGI middleware.

    Args:
        app: gets what isn't refused.
        longest: in bytes.
    """

    def __init__(self, app: ASGIApp, longest: int = LONGEST_BODY) -> None:
        self._app = app
        self._longest = longest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers it."""
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        # Thrown away piece by piece: a client that still sends doesn't listen.
        while (await receive()).get("more_body"):
            pass
        await refusal(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        length = dict(scope["headers"]).get(b"content-length", b"")
        if not length.isdigit():  # sent in chunks: how long it gets can't be known
            return _error(411, "Say how long the body is: Content-Length.")
        if int(length) > self._longest:
            return _error(413, f"The body has {int(length)} bytes; {self._longest} are possible.")
        return None


def _error(status: int, message: str) -> JSONResponse:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": error}, status)
