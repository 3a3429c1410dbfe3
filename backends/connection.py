"""HTTP clients for model endpoints: what goes through a proxy, and which certificates are read.

Knows nothing of what is said over the connection.
"""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx2

_CONNECT_TIMEOUT_S = 5.0


def open_client(
    base_url: str, *, timeout_s: float, headers: Mapping[str, str] | None = None
) -> httpx2.AsyncClient:
    """Return a client for `base_url` that waits `timeout_s` for each piece of an answer."""
    url = urlsplit(base_url)
    return httpx2.AsyncClient(
        base_url=base_url,
        headers=headers,
        timeout=httpx2.Timeout(timeout_s, connect=_CONNECT_TIMEOUT_S),
        # A redirect would carry the conversation to a place that nobody has named.
        follow_redirects=False,
        # A proxy for the outside world can't reach this machine's own servers.
        trust_env=not _is_loopback(url.hostname or ""),
        # Reading the certificates takes 30 ms on 2 cores, for nothing where there is no TLS.
        verify=url.scheme != "http",
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
