"""Which database URLs are taken, and how."""

from pathlib import Path

import pytest

from db import DatabaseError
from db.address import parse


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_means_psycopg_3(scheme: str) -> None:
    url = parse(f"{scheme}://ann:p%40ss@db.example:5433/ratings?sslmode=require")
    assert url.drivername == "postgresql+psycopg"
    assert (url.username, url.password, url.host, url.port) == ("ann", "p@ss", "db.example", 5433)
    assert (url.database, url.query) == ("ratings", {"sslmode": "require"})


def test_the_file_of_a_relative_url_does_not_move_with_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse("sqlite:///data/twopane.db").database == f"{tmp_path}/data/twopane.db"
    assert parse("sqlite:////srv/twopane.db").database == "/srv/twopane.db"


def test_a_tilde_means_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse("sqlite:///~/twopane.db").database == f"{tmp_path}/twopane.db"


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///file:x?mode=memory&uri=true",
        "sqlite:///data/twopane.db?mode=ro",
        "sqlite://data/twopane.db",
    ],
)
def test_sqlite_without_a_plain_file_is_refused(url: str) -> None:
    with pytest.raises(DatabaseError, match=r"names no SQLite file.*sqlite:///data/twopane\.db"):
        parse(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", "can't be read"),
        ("data/geheim.db", "can't be read"),
        ("postgresql://ann:geheim@host:port/ratings", "can't be read"),
        ("mysql://ann:geheim@host/ratings", '"mysql", which Twopane does not know'),
        ("postgresql+psycopg2://ann:geheim@host/x", r'"postgresql\+psycopg2", which'),
        ("postgresql://ann:top@geheim@host/x", "more than one"),
    ],
)
def test_a_url_that_is_wrong_is_explained_without_repeating_it(url: str, expected: str) -> None:
    with pytest.raises(DatabaseError, match=expected) as caught:
        parse(url)
    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
