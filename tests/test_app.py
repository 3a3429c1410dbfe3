"""The command line: settings, plain words, and what is imported when."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app import cli
from backends.specs import UnknownModel
from backends.supervisor import ModelServer
from benchmarks.app_process import running, until
from db import Database, Language, Rater
from tests.db import rows
from tests.paths import ROOT
from ui.command_line.served import Served
from ui.command_line.settings import Settings


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TWOPANE_")}
    return subprocess.run(
        [sys.executable, "app.py", *arguments],
        cwd=ROOT,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_importing_the_app_imports_no_model_library_no_pages_and_nothing_of_the_web() -> None:
    models = ("torch", "transformers", "sentencepiece", "tokenizers")
    heavy = (*models, "gradio", "fastapi", "uvicorn", "openai", "alembic", "scipy")
    code = f"import app, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_pages_import_no_model_library() -> None:
    code = "import ui.pages, sys; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pair", "nope"], "There is no pair 'nope'"),
        (["--left", "nope"], "no model that Twopane knows"),
        (["--left", "tiny-chatglm"], "Give two different models"),
        (["--database-url", "sqlite:////proc/nowhere/t.db"], "/proc/nowhere"),
        (["--database-url", "mysql://x/y"], "postgresql://"),
        (["--port", "99999"], "port"),
        (["--hubs", "modelscope,nope"], "modelscope,huggingface or one of them"),
        (["--precision", "int8,int3"], "float32,bfloat16,int8,int4"),
        (["--answer-cache", "blind"], "'off', 'open', 'all'"),
    ],
)
def test_a_setting_that_can_t_be_is_refused_in_one_plain_message(
    arguments: list[str], said: str
) -> None:
    done = run("serve", "--port", "0", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def huge(tmp_path: Path) -> Path:
    """A folder whose weights say that they are more than any memory holds."""
    folder = tmp_path / "huge"
    folder.mkdir()
    config = {"model_type": "qwen2", "max_position_embeddings": 99, "torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config))
    header = b'{"a": {"dtype": "BF16", "shape": [1000000, 1000000], "data_offsets": [0, 0]}}'
    weights = len(header).to_bytes(8, "little") + header
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_what_does_not_fit_into_memory_is_refused_with_the_figures(
    huge: Path, tmp_path: Path
) -> None:
    done = run("--left", str(huge), TWOPANE_DATABASE_URL=f"sqlite:///{tmp_path}/t.db")
    assert done.returncode == 2
    figures = r"[\d.]+ TB needed \(huge [\d.]+ TB, tiny-chatglm 7\d\d MB\), [\d.]+ GB free"
    assert re.search(figures, done.stderr), done.stderr
    assert "Traceback" not in done.stderr


def test_what_does_not_fit_is_tried_where_that_is_asked_for(huge: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    with running(tmp_path / "log", "--left", str(huge), "--force", "--database-url", url) as app:
        until(lambda: "can't be loaded" in app.log.read_text())
        assert app.status_of("/healthz") == 200


def test_a_port_that_is_taken_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--port", str(port), TWOPANE_DATABASE_URL=f"sqlite:///{tmp_path}/t.db")
    assert done.returncode == 2
    assert f"Can't listen on 127.0.0.1, port {port}" in done.stderr
    assert "--port 0" in done.stderr


def test_a_bad_variable_is_refused_by_name(tmp_path: Path) -> None:
    done = run(
        "summary", TWOPANE_LOG_LEVEL="LOUD", TWOPANE_DATABASE_URL=f"sqlite:///{tmp_path}/t.db"
    )
    assert done.returncode == 2
    assert "log_level" in done.stderr


def test_an_option_goes_before_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOPANE_PORT", "8001")
    assert Settings().port == 8001
    assert Settings(port=8002).port == 8002


@pytest.mark.parametrize(("precision", "need"), [("int4", "826 GB"), ("float32", "4.4 TB")])
def test_the_memory_that_is_needed_follows_the_precision(
    huge: Path, tmp_path: Path, precision: str, need: str
) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    done = run("--left", str(huge), "--precision", precision, TWOPANE_DATABASE_URL=url)
    assert f"(huge {need}, " in done.stderr


def test_the_memory_for_conversations_counts_for_each_model(huge: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    done = run("--left", str(huge), "--cache-memory", "7000000", TWOPANE_DATABASE_URL=url)
    assert re.search(r"huge 8\.\d TB, tiny-chatglm 7\.0 TB", done.stderr), done.stderr


def test_both_local_models_are_told_what_is_set_for_them() -> None:
    settings = Settings(threads=3, precision="INT8, int4", cache_memory=0)
    served = Served(settings, settings.models())
    for backend in served.make_backends(served.models, force=False):
        assert isinstance(backend, ModelServer)
        assert backend.threads == 3
        options = " ".join(backend.command)
        assert "--threads 3" in options
        assert "--precision int8,int4" in options
        assert "--cache-memory 0" in options


def test_both_sides_of_the_pair_can_be_replaced() -> None:
    first, second = Settings(
        left="http://localhost:1/v1#a", right="http://localhost:2/v1#b"
    ).models()
    assert (first.title, second.title) == ("a", "b")


def test_the_same_model_twice_is_refused() -> None:
    with pytest.raises(UnknownModel, match="two different models"):
        Settings(left="tiny-qwen", right="tiny-qwen").models()


def test_no_answer_is_given_again_unless_that_is_asked_for(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/t.db")
    caches = [Settings(answer_cache=where).answers_from(database) for where in ("open", "all")]
    assert Settings().answers_from(database) is None
    assert [cache and cache.blind for cache in caches] == [False, True]
    database.close()


def test_the_answer_cache_can_be_emptied(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    database = Database.open(url)
    with database.write() as session:
        session.add_all([rows.cached_answer(), rows.cached_answer(key="1" * 64)])
    database.close()
    for count in (2, 0):
        done = CliRunner().invoke(cli, ["empty-cache", "--database-url", url])
        assert (done.exit_code, done.stdout) == (0, f"Forgotten: {count}.\n")
    done = CliRunner().invoke(cli, ["empty-cache", "--database-url", url + "x"])
    assert done.exit_code == 2
    assert "t.dbx" in done.stderr


@pytest.mark.parametrize("command", ["serve", "measure", "summary", "report", "migrate"])
def test_every_command_explains_itself(command: str) -> None:
    done = CliRunner().invoke(cli, [command, "--help"])
    assert done.exit_code == 0
    assert "TWOPANE_DATABASE_URL" in done.output.replace("\n", "")


def test_the_summary_of_an_empty_database_is_an_empty_list(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    Database.open(url).close()
    done = CliRunner().invoke(cli, ["summary", "--format", "json", "--database-url", url])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["pairs"] == []
    done = CliRunner().invoke(cli, ["summary", "--database-url", url])
    assert "No ratings yet." in done.stdout


def test_a_summary_of_a_file_that_is_not_there_says_so_and_makes_none(tmp_path: Path) -> None:
    file = tmp_path / "mistyped.db"
    done = CliRunner().invoke(cli, ["summary", "--database-url", f"sqlite:///{file}"])
    assert done.exit_code == 2
    assert "mistyped.db" in done.stderr
    assert not file.exists()


def test_migrate_makes_a_database_that_can_be_written(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/t.db"
    assert CliRunner().invoke(cli, ["migrate", "--database-url", url]).exit_code == 0
    database = Database.open(url, migrate=False)
    with database.write() as session:
        session.add(Rater(language=Language.ZH))
    database.close()
