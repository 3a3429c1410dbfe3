"""Downloads a model's files as a whole: one hub after the other, resumed, checked, one at a time.

Says what to fetch and whether it has arrived; how, the clients in the workers know. Of several
processes that want the same, one fetches and the others wait. Loads nothing.
"""

import errno
import logging
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import filelock

from backends.amounts import bytes_text, duration_text
from backends.catalog import HUBS, Source
from backends.hub.caches import DEFAULT_BRANCHES, find, is_fetched, own_folder
from backends.hub.checking import is_sound
from backends.hub.errors import (
    Cancelled,
    Damaged,
    DiskFull,
    Forbidden,
    HubError,
    NotFound,
    Offline,
    Unwritable,
    joined,
)
from backends.hub.process import WorkerProcess
from backends.hub.progress import HUB_TITLES, Download, Meter
from backends.hub.record import Record, lock_path, outdated, part_path, read_record, write_record
from backends.hub.selection import RemoteFile, UnsafeName, select
from backends.hub.worker import Task

logger = logging.getLogger(__name__)

_POLL_S = 0.1
_AGAIN_S = 1.0
_START_S = 120.0  # for a client to be imported, on a machine that is busy loading models
_KINDS: dict[str, type[HubError]] = {
    "not_found": NotFound,
    "forbidden": Forbidden,
    "offline": Offline,
    "damaged": Damaged,
    "unwritable": Unwritable,
}


def _ignore(_: Download) -> None:
    """Stand for a caller that doesn't want to know."""


@dataclass(frozen=True)
class _Caller:
    """What whoever asked for the weights wants to know, and when they want it no more."""

    progress: Callable[[Download], None]
    cancel: threading.Event | None
    silence_s: float

    def check(self) -> None:
        """Raise `Cancelled` once the caller wants it."""
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled(f"The download was stopped. {Cancelled.advice}")


def fetch(
    sources: Sequence[Source],
    *,
    hubs: Sequence[str] = HUBS,
    progress: Callable[[Download], None] = _ignore,
    cancel: threading.Event | None = None,
    silence_s: float = 60.0,
) -> Path:
    """Return a folder that holds the model: from a cache, else downloaded from the first hub.

    Args:
        sources: the same model at its hubs.
        hubs: which hubs may be asked, in this order.
        progress: told how far it is, at most five times a second, in the thread that called.
        cancel: ends the download within a moment when it is set.
        silence_s: for how long a hub may send nothing at all.

    Raises:
        HubError: one of its kinds, as the package's docstring draws them.
    """
    if folder := find(sources):
        return folder
    caller = _Caller(progress, cancel, silence_s)
    failures: list[HubError] = []
    for source in [source for hub in hubs for source in sources if source.hub == hub]:
        try:
            return _Fetching(source, caller).run()
        except (Cancelled, DiskFull):
            raise
        except HubError as failure:
            logger.warning("%s", failure)
            failures.append(failure)
    if not failures:
        failures = [NotFound(f"It is at none of the hubs that may be asked: {', '.join(hubs)}")]
    raise joined(sources[0].repo.partition("/")[2] if sources else "nothing", failures)


class _Fetching:
    """One source on its way into its folder."""

    def __init__(self, source: Source, caller: _Caller) -> None:
        self._source = source
        self._caller = caller
        self._folder = own_folder(source)
        self._name = source.repo.partition("/")[2]
        self._endpoint = ""
        self._record = Record(())
        self._worker: WorkerProcess | None = None

    def run(self) -> Path:
        """Return the folder once all of it is there."""
        try:
            lock = self._lock()
            try:
                if not is_fetched(self._folder):
                    self._fetch()
            finally:
                self._end_worker()
                lock.release()
        except OSError as error:
            logger.debug("%s", self._folder, exc_info=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self._disk_full() from error
            raise self._failure(
                Unwritable, f"{self._folder} can't be used ({error.strerror})"
            ) from error
        return self._folder

    def _lock(self) -> filelock.BaseFileLock:
        """Wait until no other process fetches the same, and tell how far that one is."""
        lock_path(self._folder).parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(lock_path(self._folder))
        meter: Meter | None = None
        while True:
            try:
                lock.acquire(timeout=0)
                return lock
            except filelock.Timeout:
                self._caller.check()
            except NotImplementedError as error:
                raise self._failure(Unwritable, f"{self._folder} can't be locked") from error
            record = read_record(self._folder) or Record(())
            if meter is None and record.files:
                logger.info("%s: another process is fetching it, waiting", self._name)
                meter = Meter(self._source, record.size_bytes, self._caller.progress)
            if meter is not None:
                meter.update(record.done_bytes(self._folder))
            time.sleep(_POLL_S)

    def _fetch(self) -> None:
        began_s = time.monotonic()
        self._record = self._list()
        if missing := self._missing():
            self._check_disk()
            begun = {file for file in missing if part_path(self._folder, file).exists()}
            damaged = self._download(missing)
            if damaged and begun.issuperset(damaged):
                logger.info("%s: what was there was damaged, fetching that anew", self._name)
                damaged = self._download(damaged)
            if damaged:
                names = ", ".join(file.path for file in damaged)
                raise self._failure(Damaged, f"sent other content than it lists: {names}")
        write_record(self._folder, replace(self._record, complete=True))
        took = duration_text(time.monotonic() - began_s)
        logger.info("%s: all of it is in %s, after %s", self._name, self._folder, took)

    # --- before ------------------------------------------------------------------------------

    def _list(self) -> Record:
        """Ask the hub for its files, choose ours, and note them in the folder."""
        source = self._source
        listed = self._work(Task(source.repo, source.revision))
        try:
            files = select(RemoteFile(**file) for file in listed["files"])
        except UnsafeName as error:
            raise self._failure(NotFound, f"refused, for it lists the file {error}") from error
        if not files:
            wanted = "no config.json with model.safetensors or pytorch_model.bin (or their shards)"
            raise self._failure(NotFound, f"holds {wanted}")
        if any(file.size < 0 for file in files):
            raise self._failure(HubError, "doesn't say how large its files are")
        record = Record(files, listed["commit"])
        self._forget_outdated(record)
        write_record(self._folder, record)
        return record

    def _forget_outdated(self, record: Record) -> None:
        """Remove what an earlier attempt has left of files that are others by now."""
        before = read_record(self._folder) or Record(())
        for file in outdated(before.files, record.files):
            logger.info("%s: %s has changed at the hub", self._name, file.path)
            (self._folder / file.path).unlink(missing_ok=True)
            part_path(self._folder, file).unlink(missing_ok=True)

    def _missing(self) -> tuple[RemoteFile, ...]:
        """Return the files that aren't there whole and sound; remove what is there instead."""
        missing = tuple(file for file in self._record.files if not self._is_sound(file))
        for file in missing:
            (self._folder / file.path).unlink(missing_ok=True)
            part = part_path(self._folder, file)
            if part.exists() and part.stat().st_size > file.size:
                part.unlink()
        return missing

    def _check_disk(self) -> None:
        there_bytes = self._done_bytes()
        wanted_bytes = self._record.size_bytes - there_bytes
        free_bytes = shutil.disk_usage(self._folder).free
        if wanted_bytes > free_bytes:
            raise DiskFull(self._name, self._folder, wanted_bytes, free_bytes)
        logger.info(
            "%s: fetching %s from %s into %s; %s of it are there",
            self._name,
            bytes_text(self._record.size_bytes),
            HUB_TITLES[self._source.hub],
            self._folder,
            bytes_text(there_bytes),
        )

    # --- the download ------------------------------------------------------------------------

    def _download(self, missing: tuple[RemoteFile, ...]) -> tuple[RemoteFile, ...]:
        """Download, check what has come, remove what is damaged of it, and return that."""
        self._bring(missing)
        damaged = tuple(file for file in missing if not self._is_sound(file, lasting=True))
        for file in damaged:
            (self._folder / file.path).unlink(missing_ok=True)
        return damaged

    def _is_sound(self, file: RemoteFile, *, lasting: bool = False) -> bool:
        return is_sound(self._folder / file.path, file, self._caller.check, lasting=lasting)

    def _bring(self, missing: tuple[RemoteFile, ...]) -> None:
        """Run workers while they bring something; wait for more for as long as for a silent hub."""
        source = self._source
        revision = self._record.commit or source.revision
        task = Task(source.repo, revision, str(self._folder), missing)
        meter = Meter(source, self._record.size_bytes, self._caller.progress)
        most_bytes, patient_until_s = self._done_bytes(), 0.0
        while True:
            try:
                self._work(task, meter)
                return
            except Offline as failure:
                if (done_bytes := self._done_bytes()) > most_bytes:
                    most_bytes = done_bytes
                    patient_until_s = time.monotonic() + self._caller.silence_s
                elif time.monotonic() > patient_until_s:
                    raise
                else:
                    time.sleep(_AGAIN_S)
                logger.info("%s; trying again", failure)

    def _work(self, task: Task, meter: Meter | None = None) -> dict[str, Any]:
        """Let a worker do `task`; end it if it fails, or falls silent, or the caller wants it."""
        silence_s, done_bytes = self._caller.silence_s, self._done_bytes()
        silent_at_s = time.monotonic() + (silence_s if self._worker else _START_S)
        worker = self._worker = self._worker or WorkerProcess(self._source.hub)
        worker.hand_over(task)
        try:
            while True:
                event = worker.next_event(_POLL_S) or {"event": "nothing"}
                self._caller.check()
                before_bytes, done_bytes = done_bytes, self._done_bytes()
                if meter is not None:
                    meter.update(done_bytes)
                if event["event"] == "started":
                    self._endpoint = event["endpoint"]
                if event["event"] == "started" or done_bytes != before_bytes:
                    silent_at_s = time.monotonic() + silence_s
                if event["event"] in ("listed", "fetched"):
                    return event
                if event["event"] in ("failed", "ended"):
                    raise self._told(event)
                if time.monotonic() > silent_at_s:
                    raise self._failure(Offline, f"has sent nothing for {silence_s:g} s")
        except HubError:
            self._end_worker()
            raise

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _done_bytes(self) -> int:
        return self._record.done_bytes(self._folder)

    # --- errors ------------------------------------------------------------------------------

    def _told(self, event: dict[str, Any]) -> HubError:
        """Turn what a worker has said of its failure into an error."""
        if event["event"] == "ended" and self._worker is not None:
            logger.warning("%s: %s", self._source.hub, self._worker.last_words())
        kind, reason = event.get("kind", "other"), event.get("reason", "its client has crashed")
        if kind == "disk":
            return self._disk_full()
        if "file" in event:
            reason = f"{reason}: {event['file']}"
        return self._failure(_KINDS.get(kind, HubError), reason)

    def _disk_full(self) -> DiskFull:
        wanted_bytes = self._record.size_bytes - self._done_bytes()
        return DiskFull(self._name, self._folder, wanted_bytes, 0)

    def _failure(self, kind: type[HubError], reason: str) -> HubError:
        source = self._source
        address = f" ({self._endpoint})" if self._endpoint else ""
        revision = source.revision or DEFAULT_BRANCHES[source.hub]
        return kind(f"{HUB_TITLES[source.hub]}{address}, {source.repo} at {revision}: {reason}")
