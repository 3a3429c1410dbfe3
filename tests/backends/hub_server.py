"""A hub on loopback that speaks as much of ModelScope's and Hugging Face's protocols as is needed.

Why not the real ones: tests need no network, a hub that breaks off, lies and hangs on demand, and
a log of what was asked of it. What it serves it serves as they do: a listing with sizes and hashes;
small files by the hub itself, large ones (LFS) by a redirect to another host, which serves ranges.
The clients that speak to it are the real ones, sent here by their own environment variables.
"""

import hashlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

COMMIT = "4d14e384a4b037942bb3f3016665157c8bcb70ea"
_LFS_BYTES = 1000  # from this size on a file is served by a redirect
_SLICE_BYTES = 4096


@dataclass(frozen=True)
class Trouble:
    """What goes wrong with a file while it is sent.

    Attributes:
        cut_after: bytes after which the connection is closed.
        stall_after: bytes after which nothing more is sent.
        pause_s: before every 4 kB.
        times: how often it happens.
    """

    cut_after: int | None = None
    stall_after: int | None = None
    pause_s: float = 0.0
    times: int = 1_000_000


@dataclass
class Repository:
    """A repository as both hubs show it.

    Attributes:
        revisions: names that it is known by, each for the commit it stands for.
        refused: status of every answer about it, with the error code that Hugging Face gives.
        told: what the listing says of a file instead of the truth: `size`, `sha256`, `blob`.
    """

    files: dict[str, bytes]
    revisions: dict[str, str] = field(default_factory=lambda: {"main": COMMIT, "master": COMMIT})
    refused: tuple[int, str] | None = None
    told: dict[str, dict[str, Any]] = field(default_factory=dict)

    def listing(self) -> list[dict[str, Any]]:
        """Path, size, hashes and kind of every file."""
        return [self.entry(path) for path in sorted(self.files)]

    def entry(self, path: str) -> dict[str, Any]:
        """The same of one file."""
        data = self.files[path]
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        entry = {
            "path": path,
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "blob": blob,
            "lfs": len(data) >= _LFS_BYTES,
        }
        return entry | self.told.get(path, {})


@dataclass(frozen=True)
class Asked:
    """One request for a file's content, or for anything else where `file` is "".

    Attributes:
        first: of the bytes asked for.
    """

    url: str
    file: str = ""
    revision: str = ""
    first: int = 0
    authorization: str = ""


class HubServer:
    """Both hubs and the host of their large files, on three ports of loopback."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.troubles: dict[str, Trouble] = {}
        self.silent = False
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self._servers = [_Server(self, handler) for handler in (_ModelScope, _HuggingFace, _Large)]
        self.modelscope, self.huggingface, self.large = (server.url for server in self._servers)

    def environment(self) -> dict[str, str]:
        """What sends the real clients here."""
        return {"MODELSCOPE_ENDPOINT": self.modelscope, "HF_ENDPOINT": self.huggingface}

    def add(self, repo: str, files: Mapping[str, bytes], **more: Any) -> Repository:
        """Publish a repository at both hubs."""
        self.repositories[repo] = Repository(dict(files), **more)
        return self.repositories[repo]

    def fetched(self) -> list[tuple[str, int]]:
        """Name and first byte of every request for a file's content, in order."""
        return [(asked.file, asked.first) for asked in self.asked if asked.file]

    def hubs_asked(self) -> list[str]:
        """The hubs that were asked for anything, in order of their first request."""
        urls = {self.modelscope: "modelscope", self.huggingface: "huggingface"}
        return list(dict.fromkeys(urls[a.url] for a in self.asked if a.url in urls))

    def close(self) -> None:
        """Stop serving; what stalls ends."""
        self.closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hub: HubServer, handler: "type[_Handler]") -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.hub = hub
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that are killed leave their connections open."""


class _Handler(BaseHTTPRequestHandler):
    """What the three have in common."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.hub.silent:
            self.hub.closing.wait(60)
            self.close_connection = True
            return
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.answer(unquote(url.path), query)

    def answer(self, path: str, query: dict[str, str]) -> None:
        raise NotImplementedError

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    def note(
        self, file: str = "", revision: str = "", repository: Repository | None = None
    ) -> None:
        """Write the request into the log; as one for a file where its content is sent."""
        first = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        elsewhere = repository is not None and len(repository.files.get(file, b"")) >= _LFS_BYTES
        asked = Asked(
            self.server.url,
            "" if self.command == "HEAD" or elsewhere else file,
            revision,
            int(first[1]) if first else 0,
            self.headers.get("Authorization", ""),
        )
        self.hub.asked.append(asked)

    def send_object(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_head(status, {"Content-Type": "application/json"} | (headers or {}), len(data))
        if self.command == "GET":
            self.wfile.write(data)

    def send_head(self, status: int, headers: dict[str, str], length: int = 0) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def send_content(self, file: str, data: bytes, headers: dict[str, str]) -> None:
        """Send a file, or the rest of it that is asked for, with the trouble it is in."""
        first = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(first[1]) if first else 0
        if first:
            headers = headers | {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        self.send_head(206 if first else 200, headers, len(data) - start)
        if self.command == "GET":
            with suppress(OSError):
                self._send_slowly(data, start, self._trouble(file))

    def _trouble(self, file: str) -> Trouble:
        trouble = self.hub.troubles.get(file, Trouble())
        if trouble.times == 1:
            self.hub.troubles.pop(file, None)
        elif file in self.hub.troubles:
            self.hub.troubles[file] = Trouble(**(vars(trouble) | {"times": trouble.times - 1}))
        return trouble

    def _send_slowly(self, data: bytes, start: int, trouble: Trouble) -> None:
        stop = trouble.stall_after if trouble.cut_after is None else trouble.cut_after
        end = len(data) if stop is None else max(start, stop)
        for position in range(start, end, _SLICE_BYTES):
            time.sleep(trouble.pause_s)
            self.wfile.write(data[position : min(position + _SLICE_BYTES, end)])
        if trouble.stall_after is not None:
            self.hub.closing.wait(60)
        if stop is not None:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _ModelScope(_Handler):
    """`/api/v1/models/<owner>/<name>/repo[/files]`."""

    def answer(self, path: str, query: dict[str, str]) -> None:
        match = re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo(/files)?", path)
        revision = query.get("Revision", "")
        repository = self.hub.repositories.get(match[1]) if match else None
        self.note(query.get("FilePath", ""), revision, repository)
        if repository is None or revision not in repository.revisions:
            return self._refuse(404, 10010205001, "模型不存在")
        if repository.refused:
            return self._refuse(repository.refused[0], 10010205002, "无权限访问")
        if match and match[2]:
            files = [_modelscope_entry(entry) for entry in repository.listing()]
            return self.send_object(200, {"Code": 200, "Success": True, "Data": {"Files": files}})
        return self._send_file(repository, query["FilePath"])

    def _send_file(self, repository: Repository, file: str) -> None:
        data = repository.files.get(file)
        if data is None:
            return self._refuse(404, 10010205003, "文件不存在")
        if len(data) >= _LFS_BYTES:
            return self.send_head(302, {"Location": f"{self.hub.large}/{quote(file)}?auth_key=1"})
        del self.headers["Range"]  # what ModelScope serves itself it serves whole
        return self.send_content(file, data, {"Content-Type": "application/octet-stream"})

    def _refuse(self, status: int, code: int, message: str) -> None:
        self.send_object(status, {"Code": code, "Message": message, "Success": False})


def _modelscope_entry(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "Path": entry["path"],
        "Name": entry["path"].rpartition("/")[2],
        "Type": "blob",
        "Size": entry["size"],
        "Sha256": entry["sha256"],
        "IsLFS": entry["lfs"],
        "Revision": COMMIT,
        "CommittedDate": 1_706_000_000,
    }


class _HuggingFace(_Handler):
    """`/api/models/<repo>[/revision/<r>|/tree/<r>]` and `/<repo>/resolve/<r>/<file>`."""

    def answer(self, path: str, query: dict[str, str]) -> None:
        api = r"/api/models/(?P<repo>[^/]+/[^/]+)(/(?P<kind>revision|tree)/(?P<revision>[^/]+))?"
        resolve = r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)"
        match = re.fullmatch(api, path) or re.fullmatch(resolve, path)
        told = match.groupdict() if match else {}
        revision, file = told.get("revision") or "main", told.get("file") or ""
        repository = self.hub.repositories.get(told.get("repo", ""))
        self.note(file, revision, repository)
        if repository is None:
            return self._refuse(401, "RepoNotFound")
        commit = repository.revisions.get(revision, revision)
        if commit not in repository.revisions.values():
            return self._refuse(404, "RevisionNotFound")
        if repository.refused:
            return self._refuse(*repository.refused)
        if file:
            return self._send_file(repository, file, commit)
        entries = repository.listing()
        if told["kind"] == "tree":
            return self.send_object(200, [_tree_entry(entry) for entry in entries])
        siblings = [_sibling(entry) for entry in entries]
        told_of_it = {"id": told["repo"], "sha": commit, "siblings": siblings, "private": False}
        return self.send_object(200, told_of_it | {"modelId": told["repo"], "tags": []})

    def _send_file(self, repository: Repository, file: str, commit: str) -> None:
        data = repository.files.get(file)
        if data is None:
            return self._refuse(404, "EntryNotFound")
        entry = repository.entry(file)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{entry["blob"]}"'}
        if len(data) < _LFS_BYTES:
            return self.send_content(file, data, headers)
        headers |= {
            "X-Linked-ETag": f'"{entry["sha256"]}"',
            "X-Linked-Size": str(len(data)),
            "Location": f"{self.hub.large}/{quote(file)}?Signature=1",
        }
        return self.send_head(302, headers)

    def _refuse(self, status: int, code: str) -> None:
        self.send_object(status, {"error": code}, {"X-Error-Code": code, "X-Error-Message": code})


def _sibling(entry: dict[str, Any]) -> dict[str, Any]:
    sibling = {"rfilename": entry["path"], "size": entry["size"], "blobId": entry["blob"]}
    if entry["lfs"]:
        sibling["lfs"] = {"sha256": entry["sha256"], "size": entry["size"], "pointerSize": 134}
    return sibling


def _tree_entry(entry: dict[str, Any]) -> dict[str, Any]:
    told = {"type": "file", "path": entry["path"], "size": entry["size"], "oid": entry["blob"]}
    if entry["lfs"]:
        told["lfs"] = {"oid": entry["sha256"], "size": entry["size"], "pointerSize": 134}
    return told


class _Large(_Handler):
    """The host that both hubs send to for large files; its addresses are signed."""

    def answer(self, path: str, query: dict[str, str]) -> None:
        file = path.removeprefix("/")
        self.note(file)
        data = next(r.files[file] for r in self.hub.repositories.values() if file in r.files)
        self.send_content(file, data, {"Content-Type": "application/octet-stream"})


@contextmanager
def running_hub() -> Iterator[HubServer]:
    """Run a hub."""
    hub = HubServer()
    try:
        yield hub
    finally:
        hub.close()


def forget_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what leads the clients, or us, elsewhere than a test does."""
    for name in os.environ:
        if name.startswith(("HF_", "HUGGINGFACE_", "MODELSCOPE_", "XDG_", "TWOPANE_")):
            monkeypatch.delenv(name)


# --- what it serves ------------------------------------------------------------------------------


def safetensors(count: int, name: str = "w") -> bytes:
    """A safetensors file of `count` bytes of weights that look random."""
    header = json.dumps(
        {name: {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}}
    ).encode()
    blocks = range(count // 32 + 1)
    data = b"".join(hashlib.sha256(f"{name}{block}".encode()).digest() for block in blocks)[:count]
    return len(header).to_bytes(8, "little") + header + data


def checkpoint(weights: bytes | None = None) -> dict[str, bytes]:
    """The files of a small model, and what else a real repository has beside them."""
    return {
        "config.json": b'{"model_type": "qwen2", "max_position_embeddings": 64}',
        "generation_config.json": b'{"top_p": 0.8}',
        "tokenizer.json": json.dumps({"model": {"vocab": {"a": 0}}, "x": "y" * 2000}).encode(),
        "tokenizer_config.json": b'{"chat_template": "..."}',
        "merges.txt": b"a b\n",
        "model.safetensors": weights if weights is not None else safetensors(300_000),
        "pytorch_model.bin": b"the same weights again" * 100,
        "training_args.bin": b"a pickle",
        "modeling_qwen.py": b"raise SystemExit('run me')",
        "configuration.json": b'{"framework": "pytorch"}',
        "README.md": b"# A model",
        ".gitattributes": b"*.bin filter=lfs",
        "onnx/model.onnx": b"other weights" * 100,
        "original/consolidated.00.pth": b"other weights" * 100,
    }


WANTED = (
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)
