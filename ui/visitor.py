"""Who is at the page: a random id in a cookie, nothing else is known of a rater.

The cookie is out of reach of scripts. Who has it is the rater: a reload, a second tab and a
restarted app find the same trial again.
"""

import re
from hashlib import sha256

import gradio as gr
from starlette.requests import HTTPConnection

from db import new_id
from rating.session import Visitor
from ui.language import language_of

COOKIE = "twopane_rater"
LIFETIME_S = 400 * 24 * 3600
"""The longest that browsers keep a cookie."""

_ID = re.compile(r"[0-9a-f]{32}")


def known_id(request: HTTPConnection) -> str | None:
    """Return the rater's id if the request carries one that we could have given."""
    value = request.cookies.get(COOKIE, "")
    return value if _ID.fullmatch(value) else None


def cookie_header(request: HTTPConnection) -> str:
    """Return a `Set-Cookie` value with a new id.

    Over HTTPS it also works inside another site's frame, as a Hugging Face Space is shown.
    """
    secure = request.headers.get("x-forwarded-proto", request.url.scheme).startswith("https")
    where = "SameSite=None; Secure; Partitioned" if secure else "SameSite=Lax"
    return f"{COOKIE}={new_id()}; Max-Age={LIFETIME_S}; Path=/; HttpOnly; {where}"


def connection_of(request: gr.Request) -> HTTPConnection:
    """Return the HTTP request behind a Gradio event."""
    assert request.request is not None  # only a request made by hand has none
    return request.request


def visitor_of(request: gr.Request) -> Visitor:
    """Return who sent a Gradio event; a client without cookies is known by its session."""
    connection = connection_of(request)
    rater = known_id(connection) or sha256(str(request.session_hash).encode()).hexdigest()[:32]
    return Visitor(rater, language_of(connection))
