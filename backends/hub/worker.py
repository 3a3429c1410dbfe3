"""The program in which a hub's client runs: `python -m backends.hub modelscope`, or huggingface.

Reads lines of JSON from stdin, each a `Task`, and writes lines of JSON to stdout: `{"event":
"started"}` once the client is imported, then for each task `listed` with the files, `fetched`, or
`failed` with kind, reason and file, after which it exits. Ends when stdin does, so that nothing
downloads on after whoever asked. Knows no caches and checks nothing: the size of the files on the
disk tells how far it is, and `fetching` checks what arrives.
"""

import errno
import importlib
import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol

from backends.hub.selection import RemoteFile

logger = logging.getLogger(__name__)

Kind = Literal["not_found", "forbidden", "offline", "damaged", "disk", "unwritable", "other"]
_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
# As many as the clients' own downloads of a repository take at least.
_AT_ONCE = 4


@dataclass(frozen=True)
class Task:
    """What to do.

    Attributes:
        files: to download into `folder`; none to list the repository.
    """

    repo: str
    revision: str
    folder: str = ""
    files: tuple[RemoteFile, ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why it couldn't be done, in words that may follow `ModelScope:`."""

    kind: Kind
    reason: str


class DamagedFile(Exception):  # noqa: N818 -- reads as what it is
    """The hub sends a file of another size than it lists."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(path)


class Client(Protocol):
    """What the modules `modelscope` and `huggingface` of this package have in common."""

    def endpoint(self) -> str:
        """Return the address of the hub."""

    def list_files(self, repo: str, revision: str) -> tuple[str, list[RemoteFile]]:
        """Return the commit that `revision` is now, "" if unknown, and its files."""

    def download(self, repo: str, revision: str, file: RemoteFile, folder: Path) -> None:
        """Download one file, from where an earlier attempt has stopped."""

    def failure(self, error: BaseException) -> Failure:
        """Say what an error of the client's means."""


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` with what the clients read from it set as a worker needs it."""
    preferred = {
        # A slow line is no error, and a download takes as long as it takes.
        "MODELSCOPE_DOWNLOAD_TOTAL_TIMEOUT": str(30 * 24 * 3600),
        "MODELSCOPE_DOWNLOAD_MIN_BYTES_PER_SECOND": "0",
        # Few: there is another hub to go to, and `fetching` tries again while it gets on.
        "MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS": "2",
        "MODELSCOPE_DOWNLOAD_MAX_RETRIES": "2",
        # Asks the metadata address of Alibaba's cloud for the region.
        "MODELSCOPE_DOWNLOAD_INTRA_CLOUD": "false",
        "MODELSCOPE_LOG_LEVEL": "WARNING",
    }
    required = {
        # Parts of one file fetched side by side would be resumed, but not seen by `Record`.
        "MODELSCOPE_DOWNLOAD_PARALLEL_WORKERS": "1",
        "MODELSCOPE_DOWNLOAD_FILE_LOCK": "false",  # `fetching` locks, and in our folder
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",  # starts from the beginning after an interruption
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TQDM_DISABLE": "1",
    }
    return {**preferred, **base, **required}


def main() -> None:
    """Do the tasks on stdin, by the client named on the command line."""
    # The client's log and warnings go to stderr, which is our log at DEBUG.
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_stdin, args=(lines,), daemon=True).start()
    client: Client = importlib.import_module(f"backends.hub.{sys.argv[1]}")
    _say("started", endpoint=client.endpoint())
    try:
        while True:
            _do(client, _read_task(lines.get()))
    except Exception as error:  # told to whoever asked
        logger.warning("%s", error, exc_info=True)
        _say("failed", **_failure(client, error))
    os._exit(0)  # the threads of other files may hang on a network that is gone


def _do(client: Client, task: Task) -> None:
    if task.files:
        _download(client, task)
        _say("fetched")
    else:
        commit, files = client.list_files(task.repo, task.revision)
        _say("listed", commit=commit, files=[asdict(file) for file in files])


def _read_task(line: str) -> Task:
    told = json.loads(line)
    files = tuple(RemoteFile(**file) for file in told.pop("files"))
    return Task(**told, files=files)


def _download(client: Client, task: Task) -> None:
    # Not waited for: where one file fails, `main` ends the process and the others with it.
    executor = ThreadPoolExecutor(_AT_ONCE)
    folder = Path(task.folder)
    downloads = [
        executor.submit(client.download, task.repo, task.revision, file, folder)
        for file in task.files
    ]
    for download in as_completed(downloads):
        download.result()


def _failure(client: Client, error: Exception) -> dict[str, str]:
    """Say what `error` means: the same for both clients, or as the client says."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, DamagedFile):
        return {"kind": "damaged", "reason": "sends another size than it lists", "file": error.path}
    if number in _FULL:
        return {"kind": "disk", "reason": "the disk is full"}
    if number in _UNWRITABLE:
        return {"kind": "unwritable", "reason": f"{error}"}
    return asdict(client.failure(error))


def _say(event: str, **more: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **more}) + "\n")
    sys.stdout.flush()


def _read_stdin(lines: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(1)
