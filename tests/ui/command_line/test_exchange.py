"""`python app.py export` and `import`: what they write, say and refuse."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app import cli
from db import Database, Language
from tests.paths import ROOT
from tests.rating.exchange.samples import rated, store, store_varied


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/t.db"


def call(command: str, url: str, *arguments: object) -> Result:
    words = [command, "--database-url", url, *map(str, arguments)]
    return CliRunner().invoke(cli, words)


def fill(url: str) -> None:
    database = Database.open(url)
    store_varied(database)
    database.close()


def test_ratings_go_from_one_database_to_another(url: str, tmp_path: Path) -> None:
    fill(url)
    file, other = tmp_path / "ratings.csv", f"sqlite:///{tmp_path}/other.db"
    done = call("export", url, "--format", "csv", "--out", file)
    assert (done.exit_code, done.stderr) == (0, "Trials written: 7.\n")
    done = call("import", other, file)
    assert (done.exit_code, done.stdout) == (0, "New trials: 7. Already there: 0.\n")
    assert call("import", other, file).stdout == "New trials: 0. Already there: 7.\n"
    again = tmp_path / "again.csv"
    call("export", other, "--format", "csv", "--out", again)
    assert again.read_bytes() == file.read_bytes()


def test_text_can_go_to_a_pipe_and_what_is_said_stays_out_of_it(url: str) -> None:
    fill(url)
    options = ["--format", "jsonl", "--out", "-", "--database-url", url]
    done = subprocess.run(
        [sys.executable, "app.py", "export", *options], cwd=ROOT, capture_output=True, check=True
    )
    lines = done.stdout.decode().rstrip("\n").split("\n")
    assert len([json.loads(line) for line in lines]) == 7
    assert done.stderr.decode().endswith("Trials written: 7.\n")


def test_it_says_what_a_format_left_out_and_why(url: str, tmp_path: Path) -> None:
    fill(url)
    done = call("export", url, "--format", "trl", "--blind", "--out", tmp_path / "rows.jsonl")
    assert done.stderr == "Trials written: 3. Left out: attention trials 1, flagged 1, repeats 1.\n"
    arguments = ["--format", "trl", "--blind", "--include-flagged", "--force"]
    done = call("export", url, *arguments, "--out", tmp_path / "rows.jsonl")
    assert done.stderr == "Trials written: 4. Left out: attention trials 1, repeats 1.\n"


def test_filters_choose_the_trials(url: str, tmp_path: Path) -> None:
    fill(url)
    database = Database.open(url)
    store(database, rated("later", minute=60 * 24, language=Language.EN, models=("a", "b")))
    database.close()

    def trials(*arguments: str) -> set[str]:
        file = tmp_path / "t.jsonl"
        done = call("export", url, "--format", "jsonl", "--force", "--out", file, *arguments)
        assert done.exit_code == 0, done.output
        return {json.loads(line)["trial"] for line in file.read_text().rstrip().split("\n") if line}

    assert trials("--pair", "a|b") == {"later"}
    assert trials("--language", "en") == {"later", "unrated-not"}
    assert trials("--open") == {"b" * 32}
    assert trials("--since", "2026-03-01") == {"later"}
    assert "later" not in trials("--until", "2026-02-28")
    assert trials("--session", "第一次") == {"c" * 32, "regular", "repeat", "attention"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "parquet", "--out", "-"], "parquet is no text"),
        (["--format", "jsonl", "--out", "x", "--spreadsheet"], "for --format csv only"),
        (["--format", "arena", "--out", "x"], "Choose one kind: --blind or --open"),
        (["--format", "csv", "--out", "x", "--since", "today"], "'today' is no date"),
        (["--format", "csv", "--out", "x", "--session", "no"], "No rating sessions are named 'no'"),
        (["--format", "csv", "--out", "no/x"], "can't be written: No such file"),
        (["--format", "csv", "--out", "there"], "there is there already"),
    ],
)
def test_what_can_t_be_written_is_refused_in_plain_words(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    fill(url)
    monkeypatch.chdir(tmp_path)
    Path("there").touch()
    done = call("export", url, *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not Path("x").exists()


def test_an_export_makes_no_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/mistyped.db"
    done = call("export", url, "--format", "csv", "--out", tmp_path / "x")
    assert done.exit_code == 2
    assert "mistyped.db" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_spreadsheet_is_told_by_a_mark_that_the_file_is_utf_8(url: str, tmp_path: Path) -> None:
    fill(url)
    file = tmp_path / "x.csv"
    call("export", url, "--format", "csv", "--spreadsheet", "--out", file)
    assert file.read_bytes().startswith(b"\xef\xbb\xbf")


def test_a_bad_file_is_refused_with_file_line_column_and_reason(url: str, tmp_path: Path) -> None:
    file = tmp_path / "paper.csv"
    file.write_text(
        "trial,rater,prompt,model,side,dimension,score,preference\n"
        "1,Ann,Why?,a,left,memory,7,left\n1,Ann,Why?,b,right,memory,x,left\n"
    )
    done = call("import", url, file)
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        "Nothing was imported.",
        "paper.csv, line 2, score: '7' is not 1 to 5, nor empty for not applicable",
        "paper.csv, line 3, score: 'x' is no whole number",
    ]
    done = call("import", url, tmp_path / "nowhere.csv")
    assert done.exit_code == 2
    assert "nowhere.csv can't be read: No such file" in done.stderr


@pytest.mark.parametrize("command", ["export", "import"])
def test_both_commands_explain_themselves(command: str) -> None:
    done = CliRunner().invoke(cli, [command, "--help"])
    assert done.exit_code == 0
    assert "--database-url" in done.output
