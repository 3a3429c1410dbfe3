"""A scripted model server with the same face as `backends.server`, made of the standard library.

Why a fake: the real one can't be told to load slowly, die in the middle of an answer, hang, or send
garbage, and it needs torch. How it loads is said on its command line; how it answers is said by the
prompt: a JSON object `{"status", "headers", "body": [...]}` is played as it stands, any other gets
the answer in `ANSWER`. Items of a body are text to send, a number of seconds to wait, or "DIE".
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ANSWER = ("你好", "！很高兴", "见到你", "。")


def chunk(delta: dict[str, Any] | None = None, reason: str | None = None, **more: Any) -> str:
    """One event of a streamed chat completion."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": reason}
    event = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "fake"}
    return f"data: {json.dumps(event | {'choices': [choice]} | more)}\n\n"


def usage(prompt: int, completion: int) -> str:
    """The event after the last one that OpenAI sends for `stream_options.include_usage`."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": 0}
    return f"data: {json.dumps({'choices': [], 'usage': counts})}\n\n"


def whole_answer() -> Iterator[str | float]:
    """What a well-behaved server sends."""
    yield chunk({"role": "assistant", "content": ""})
    for piece in ANSWER:
        yield chunk({"content": piece})
        yield 0.01
    yield chunk(reason="stop")
    yield usage(7, len(ANSWER))
    yield "data: [DONE]\n\n"


class FakeServer(ThreadingHTTPServer):
    """One fake model server and what it has seen."""

    daemon_threads = True

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(("127.0.0.1", options.port), Handler)
        self.options = options
        self.start_s = time.monotonic()
        self.requests: list[dict[str, Any]] = []
        self.closed_early = 0

        only_forced = options.only_forced
        self._refuses = only_forced and only_forced.exists() and not options.force

    def health(self) -> tuple[int, dict[str, Any]]:
        """Status and body of `GET /health`."""
        progress = (time.monotonic() - self.start_s) / (self.options.load_s or 1e-9)
        if self.options.health:
            return 200, json.loads(self.options.health)
        if self.options.fail_load:
            return 500, {"status": "failed", "error": self.options.fail_load}
        if self._refuses:
            return 500, {"status": "failed", "error": "too large"}
        if progress < 1:
            return 503, {"status": "loading", "progress": round(progress, 2), "stage": "weights"}
        return 200, {"status": "ready"}


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    server: FakeServer

    def do_GET(self) -> None:
        status, body = self.server.health()
        if self.path == "/v1/models":
            status, body = 200, {"object": "list", "data": [{"id": "fake", "object": "model"}]}
            if self.server.options.key not in (None, self._key()):
                status, body = 401, {"error": {"message": "bad key"}}
        if self.path == "/seen":
            server = self.server
            status, body = 200, {"requests": server.requests, "closed_early": server.closed_early}
        self._send_json(status, body)

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.server.requests.append({"body": request, "headers": headers})
        self._play(_script(request["messages"][-1]["content"]))

    def _play(self, script: dict[str, Any]) -> None:
        self.send_response(script.get("status", 200))
        for name, value in script.get("headers", {"Content-Type": "text/event-stream"}).items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for item in script["body"]:
                self._do(item)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.server.closed_early += 1
            self.close_connection = True

    def _do(self, item: str | float) -> None:
        if item == "DIE":
            os.kill(os.getpid(), signal.SIGKILL)
        elif isinstance(item, str):
            data = item.encode("utf-8", "surrogateescape")  # "\udcff" is sent as the byte 0xff
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        else:
            time.sleep(item)

    def _send_json(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _key(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def log_message(self, format: str, *args: Any) -> None:
        sys.stderr.write(f"{format % args}\n")


def _script(prompt: str) -> dict[str, Any]:
    try:
        script = json.loads(prompt)
    except ValueError:
        script = None
    return script if isinstance(script, dict) else {"body": list(whole_answer())}


def _exit_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def options_of(*arguments: str) -> argparse.Namespace:
    """What a fake with these arguments is to do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--watch-parent", action="store_true")
    parser.add_argument("--key", help="the only key that is let in")
    parser.add_argument("--load-s", type=float, default=0.0)
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--only-forced", type=Path, help="once it exists, load only with --force")
    parser.add_argument("--health", help="what it says of its health instead of the truth")
    parser.add_argument("--fail-load", help="the error that loading ends in")
    parser.add_argument("--exit-at-start", type=int, help="exit at once with this code")
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--silent", action="store_true", help="never say the port")
    parser.add_argument("--chatter", action="store_true", help="write a lot before the port")
    parser.add_argument("--grandchild", action="store_true", help="a child that keeps the pipes")
    return parser.parse_args(arguments)


def main() -> None:
    """Serve until killed."""
    options = options_of(*sys.argv[1:])
    if options.exit_at_start is not None:
        sys.stderr.write("no such file: model.safetensors\n")
        sys.exit(options.exit_at_start)
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.watch_parent:
        threading.Thread(target=_exit_with_parent, daemon=True).start()
    if options.grandchild:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    if options.chatter:
        sys.stderr.write("x" * 300_000 + "\n")
        sys.stdout.write("not JSON\n" + json.dumps({"event": "listening", "port": "x"}) + "\n")
    server = FakeServer(options)
    if not options.silent:
        port = server.server_address[1]
        sys.stdout.write(json.dumps({"event": "listening", "port": port}) + "\n")
        sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
