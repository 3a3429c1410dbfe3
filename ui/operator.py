"""Who runs the panel: may see how the models are doing, and exchange them.

With a key that was set: who has entered it. Without one: who visits straight from this machine.
Knows nothing of pages or models.
"""

import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import HTTPConnection

from ui.errors import Refused
from ui.visitor import known_id

_TRIES = 5
_TRY_EVERY_S = 2.0
"""A key of 6 random letters would take 20 years to guess at that rate."""

_SOURCES = 1_000
"""Addresses whose wrong keys are remembered."""

_FORWARDED = (
    *("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"),
    *("x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip", "via"),
)


class Operator:
    """Tells the operator from other visitors. What is admitted lasts until the app is restarted."""

    def __init__(self, key: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        """`key` is what the operator must know; None or "" trusts this machine instead."""
        self._key = key or ""
        self._clock = clock
        self._admitted: set[str] = set()
        self._tries: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @property
    def has_key(self) -> bool:
        """Whether a key makes the operator."""
        return bool(self._key)

    def admits(self, connection: HTTPConnection) -> bool:
        """Whether the request comes from the operator."""
        if self.has_key:
            return known_id(connection) in self._admitted
        return _is_from_this_machine(connection)

    def check(self, connection: HTTPConnection) -> None:
        """Raise Refused unless the request comes from the operator."""
        if not self.admits(connection):
            raise Refused("operator_only")

    def enter(self, connection: HTTPConnection, key: object) -> None:
        """Admit the visitor who knows the key.

        Raises:
            Refused: It is another one; too many wrong ones were tried from that address; no key
                was set, or the browser takes no cookie to be known by.
        """
        visitor = known_id(connection)
        if not self.has_key or visitor is None:
            raise Refused("operator_only")
        self._check_key(connection, _bytes(str(key).strip()))
        self._admitted.add(visitor)

    def check_program(self, connection: HTTPConnection) -> None:
        """Raise Refused unless a program of the operator's asks.

        It is one as a visitor would be; or it sends the key, each time, as its bearer token.
        """
        if self.admits(connection):
            return
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if not self.has_key or scheme.lower() != "bearer":
            raise Refused("operator_only")
        # Starlette has read the bytes as Latin-1, where some of a key's look like blanks.
        self._check_key(connection, token.strip(" ").encode("latin-1"))

    def _check_key(self, connection: HTTPConnection, key: bytes) -> None:
        """Compare the key, unless too many wrong ones came from where this one comes from."""
        source = connection.client.host if connection.client else ""
        now_s = self._clock()
        left, counted_s = self._tries.pop(source, (float(_TRIES), now_s))
        left = min(left + (now_s - counted_s) / _TRY_EVERY_S, _TRIES)
        allowed = left >= 1
        right = allowed and hmac.compare_digest(key, _bytes(self._key))
        self._tries[source] = (left - 1 if allowed and not right else left, now_s)
        if len(self._tries) > _SOURCES:
            self._tries.popitem(last=False)
        if not right:
            raise Refused("wrong_key" if allowed else "too_many_keys")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a browser may send half a character


def _is_from_this_machine(connection: HTTPConnection) -> bool:
    """Whether nothing stands between the visitor's browser and this machine.

    The host is looked at as well: a page of another site can give its own name this address.
    """
    if _is_sent_by_another_site(connection):
        return False
    if connection.client is None or any(name in connection.headers for name in _FORWARDED):
        return False
    host = connection.url.hostname or ""
    return _is_loopback(connection.client.host) and (host == "localhost" or _is_loopback(host))


def _is_sent_by_another_site(connection: HTTPConnection) -> bool:
    """Whether the page behind the request isn't ours.

    Gradio asks that of three names of this machine only. Browsers name a page's site with every
    event that is sent to a server; "null" is one without a name, such as a file.
    """
    origin = connection.headers.get("origin")
    own = f"{connection.url.scheme}://{connection.headers.get('host', '')}"
    return origin is not None and origin.lower() != own.lower()


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
