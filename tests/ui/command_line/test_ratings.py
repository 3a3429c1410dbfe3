from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app import cli
from db import Database
from tests.db import rows
from tests.rating.rated import OTHER, TINY, rated, store


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database with one rating of a session, and one of none."""
    address = f"sqlite:///{tmp_path}/twopane.db"
    database = Database.open(address)
    given_out = rated(OTHER, scores=(2, 5))
    session = rows.rating_session(id="5" * 32, name="第一次")
    store(database, rated(TINY), rows.assignment(trial=given_out, session=session))
    database.close()
    return address


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.mark.parametrize("session", ["5" * 32, "第一次"])
def test_a_summary_can_be_limited_to_a_session_and_speak_chinese(url: str, session: str) -> None:
    both = run("summary", "--database-url", url)
    assert both.exit_code == 0
    assert both.output.count("## ") == 2
    one = run(
        *("summary", "--session", session, "--report-language", "zh"),
        *("--database-url", url),
    )
    assert "## alpha@host 与 beta@host，盲评" in one.output
    assert "tiny" not in one.output


@pytest.mark.parametrize("name", ["第二次", ""])
def test_a_session_that_is_none_is_refused(url: str, tmp_path: Path, name: str) -> None:
    out = tmp_path / "report.html"
    for command in (("summary",), ("report", "--out", str(out))):
        done = run(*command, "--session", name, "--database-url", url)
        assert done.exit_code == 2
        assert f"No rating sessions are named {name!r}" in done.output
    assert not out.exists()


def test_the_report_is_written_as_one_file(url: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    done = run("report", "--out", str(file), "--pair", "|".join(OTHER), "--database-url", url)
    assert (done.exit_code, done.output) == (0, f"Written: {file}\n")
    page = file.read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    assert "beta@host" in page
    assert "tiny-qwen" not in page


def test_a_report_that_can_t_be_written_says_what_to_do(url: str, tmp_path: Path) -> None:
    done = run("report", "--out", str(tmp_path / "no" / "r.html"), "--database-url", url)
    assert done.exit_code == 2
    assert "No such file or directory. Name another file." in done.output.replace("\n", " ")


def test_a_date_that_is_none_is_refused(url: str) -> None:
    done = run("summary", "--since", "soon", "--database-url", url)
    assert done.exit_code == 2
    assert "2026-02-28" in done.output
