"""A proxy between browser and app that keeps all that the app sends: headers, bodies, events.

Stands before the app rather than inside the browser, so that nothing can pass it: also streams that
the browser breaks off, and what no script ever reads. Changes nothing but the compression; it can
let the end of an event stream come late, as a slow line does.
"""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_OWN_TO_A_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length"}
_GRADIO_ASSETS = re.compile(r"/(assets|static)/")
_CLOSING = b'data: {"msg":"close_stream"'


@dataclass
class Exchange:
    """One request, and what has come back so far."""

    path: str
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    parts: list[bytes] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The whole response: status, headers, body."""
        head = "\n".join(f"{name}: {value}" for name, value in self.headers)
        body = b"".join(self.parts)
        return f"{self.status}\n{head}\n\n{body.decode('utf-8', 'replace')}"


class Recording(ThreadingHTTPServer):
    """A running proxy and all exchanges through it."""

    daemon_threads = True

    def __init__(self, app_port: int, closing_lag_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Forwarder)
        self.app_port = app_port
        self.closing_lag_s = closing_lag_s
        self.exchanges: list[Exchange] = []

    @property
    def url(self) -> str:
        """Where a browser reaches the app through the proxy."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def events(self) -> list[dict[str, Any]]:
        """Everything that the app's event streams have said."""
        streams = [e.text for e in list(self.exchanges) if "/queue/data" in e.path]
        lines = [line for text in streams for line in text.splitlines()]
        return [json.loads(line[5:]) for line in lines if line.startswith("data:")]

    def said(self) -> dict[str, str]:
        """Everything that the app has sent, by path, without Gradio's own scripts and styles."""
        whole: dict[str, str] = {}
        for exchange in list(self.exchanges):
            if not _GRADIO_ASSETS.search(exchange.path):
                whole[exchange.path] = whole.get(exchange.path, "") + exchange.text
        return whole


class _Forwarder(BaseHTTPRequestHandler):
    """Passes one request on, and the response back as it comes."""

    server: Recording
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._forward()

    def do_POST(self) -> None:
        self._forward()

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {k: v for k, v in self.headers.items() if k.lower() != "accept-encoding"}
        exchange = Exchange(self.path)
        self.server.exchanges.append(exchange)
        upstream = HTTPConnection("127.0.0.1", self.server.app_port)
        self.close_connection = True
        try:
            upstream.request(self.command, self.path, body or None, headers)
            response = upstream.getresponse()
            exchange.status, exchange.headers = response.status, response.getheaders()
            self.send_response_only(response.status)
            for name, value in response.getheaders():
                if name.lower() not in _OWN_TO_A_CONNECTION:
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            while part := response.read1():
                exchange.parts.append(part)
                self._send(part)
        except OSError:
            pass  # one of the two has gone: so is the other then
        finally:
            upstream.close()

    def _send(self, part: bytes) -> None:
        before, closing, after = part.partition(_CLOSING)
        self.wfile.write(before)
        if closing:
            time.sleep(self.server.closing_lag_s)
            self.wfile.write(closing + after)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the test's output is not the place."""


@contextmanager
def recording(app_port: int, closing_lag_s: float = 0.0) -> Iterator[Recording]:
    """Run a proxy before the app at that port; the end of an event stream comes that much late."""
    proxy = Recording(app_port, closing_lag_s)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
