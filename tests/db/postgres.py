"""A PostgreSQL server for the tests: a folder and a port of its own, gone afterwards."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import URL

PASSWORD = "open/sesame@42"  # its characters must be percent-encoded in a URL
HOW_TO_INSTALL = (
    "No PostgreSQL server found, and these tests need a real one: "
    "apt-get install postgresql (Debian, Ubuntu) or put `postgres` and `initdb` on the PATH."
)


@dataclass(frozen=True)
class Server:
    """A running server. Logging in takes the password, as in real life."""

    port: int
    database: str = "postgres"
    password: str = PASSWORD

    @property
    def url(self) -> str:
        """The database URL, as a user would write it."""
        url = URL.create(
            "postgresql", "twopane", self.password, "127.0.0.1", self.port, self.database
        )
        return url.render_as_string(hide_password=False)

    def new_database(self) -> "Server":
        """Make an empty database and point to it."""
        name = f"test_{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name}")
        return replace(self, database=name)

    def execute(self, statement: str) -> None:
        """Run one statement outside of any transaction."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())


def _binaries() -> Path:
    """Find the folder of `initdb`; Debian keeps it off the PATH."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.fail(HOW_TO_INSTALL, pytrace=False)
    return found[-1].parent


def _owner() -> int | None:
    """PostgreSQL refuses to run as root: choose another user then."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()}
    return names.get("postgres", names["nobody"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _init(binaries: Path, folder: Path, owner: int | None) -> None:
    """Make the server's files."""
    secret = folder / "password"
    secret.write_text(PASSWORD)
    if owner is not None:
        os.chown(folder, owner, -1)
        os.chown(secret, owner, -1)
    subprocess.run(
        [
            *(binaries / "initdb", "--pgdata", folder / "data", "--username", "twopane"),
            *("--auth", "scram-sha-256", "--pwfile", secret, "--no-sync"),
            *("--encoding", "UTF8", "--locale", "C"),
        ],
        user=owner,
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _wait_ready(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            return server.execute("SELECT 1")
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start:\n{log.read_text()}", pytrace=False)
            time.sleep(0.05)


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """Start a server on loopback; stop it and remove its files at the end."""
    binaries, owner = _binaries(), _owner()
    with tempfile.TemporaryDirectory(prefix="twopane-pg-") as temporary:
        folder, server = Path(temporary), Server(_free_port())
        _init(binaries, folder, owner)
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": temporary,
            "fsync": "off",  # its files live as long as the tests
            "timezone": "Asia/Shanghai",  # not UTC, so that forgetting about zones shows
        }
        log = folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    *(binaries / "postgres", "-D", folder / "data", "-p", str(server.port)),
                    *(f"--{name}={value}" for name, value in options.items()),
                ],
                user=owner,
                cwd=folder,
                stdout=output,
                stderr=output,
            )
        try:
            _wait_ready(server, process, log)
            yield server
        finally:
            process.send_signal(signal.SIGQUIT)  # at once, keeping nothing
            process.wait(timeout=20)
