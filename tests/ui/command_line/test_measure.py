"""`python app.py measure`: what it takes, what it prints, and what it keeps when it is ended."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner, Result

from app import cli
from benchmarks.app_process import until
from db import Database, MeasurementState, TrialState, queries
from tests.backends.conftest import Fake, running_fake
from tests.db import rows
from tests.paths import ROOT

HELLO, FAIL = "你好", json.dumps({"status": 500, "body": ["no"]})


@pytest.fixture(scope="module")
def remote() -> Iterator[Fake]:
    """A scripted endpoint, which answers in milliseconds and fails when it is told to."""
    with running_fake() as fake:
        yield fake


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/t.db"


def measure(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["measure", "--database-url", url, *arguments])


def stored(url: str) -> list[tuple[MeasurementState, int, int]]:
    """State, models and answers of each measurement in the database, the newest first."""
    database = Database.open(url)
    with database.read() as session:
        found = queries.recent_measurements(session, 9)
    database.close()
    return [(one.state, len(one.models), len(one.answers)) for one in found]


def spec(remote: Fake, name: str = "fake") -> str:
    return f"{remote.url}/v1#{name}"


def test_any_models_and_prompts_can_be_measured_and_the_result_is_alone_on_stdout(
    remote: Fake, url: str
) -> None:
    models = [spec(remote), spec(remote, "llama3")]
    arguments = [word for model in models for word in ("--model", model)]
    arguments += ["--prompt", HELLO, "--prompt", "Hi", "--repeats", "2", "--format", "json"]
    done = measure(url, *arguments)
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    keys = [one["model_key"] for one in data["resources"]]
    assert [key.partition("@")[0] for key in keys] == ["fake", "llama3"] * 2
    assert data["plan"] == {
        "models": keys[:2],
        "prompts": [HELLO, "Hi"],
        "repeats": 2,
        "together": True,
    }
    asked = [(a["model_key"], a["together"], a["prompt"], a["repeat"]) for a in data["answers"]]
    runs = [(prompt, repeat) for prompt in (1, 2) for repeat in (1, 2)]
    assert sorted(asked) == sorted(
        (key, together, *run) for key in keys[:2] for together in (False, True) for run in runs
    )
    assert {answer["completion_tokens"] for answer in data["answers"]} == {4}
    assert stored(url) == [(MeasurementState.DONE, 4, 16)]


def test_each_step_is_told_on_stderr(remote: Fake, url: str) -> None:
    done = measure(url, "--model", spec(remote), "--prompt", HELLO, "--repeats", "2")
    host = remote.url.removeprefix("http://")
    steps = [line for line in done.stderr.splitlines() if line.startswith("[")]
    assert steps == [
        f"[1/3] fake@{host}: getting ready",
        f"[2/3] fake@{host}: answering",
        f"[3/3] fake@{host}: answering",
    ]


def test_a_remote_model_is_measured_for_latency_only_and_that_is_said(
    remote: Fake, url: str
) -> None:
    done = measure(url, "--model", spec(remote), "--prompt", HELLO, "--repeats", "1")
    assert "| runs | elsewhere: latency only |" in done.stdout
    assert "only its latency can be known from here" in done.stdout
    assert "peak memory" not in done.stdout


def test_alone_leaves_out_what_models_do_together(remote: Fake, url: str) -> None:
    models = ("--model", spec(remote), "--model", spec(remote, "llama3"))
    done = measure(url, *models, "--prompt", HELLO, "--repeats", "1", "--alone")
    assert "Seconds for an answer, alone" in done.stdout
    assert "with all models running" not in done.stdout
    assert stored(url) == [(MeasurementState.DONE, 2, 2)]


def test_an_answer_that_fails_is_a_row_with_its_reason_and_the_rest_is_measured(
    remote: Fake, url: str
) -> None:
    done = measure(
        url, "--model", spec(remote), "--prompt", FAIL, "--prompt", HELLO, "--repeats", "1"
    )
    assert done.exit_code == 0
    assert "## What is missing, and why" in done.stdout
    assert "1 of 2 answers failed" in done.stdout
    assert stored(url) == [(MeasurementState.DONE, 1, 2)]


def test_a_measurement_without_any_figure_ends_badly(remote: Fake, url: str) -> None:
    done = measure(url, "--model", spec(remote), "--prompt", FAIL, "--repeats", "1")
    assert done.exit_code == 1
    assert "1 of 1 answers failed" in done.stdout


def test_it_waits_for_raters_unless_it_is_forced(remote: Fake, url: str) -> None:
    database = Database.open(url)
    with database.write() as session:
        trial = rows.trial(state=TrialState.RATEABLE)
        session.add(rows.answer(turn=rows.turn(trial=trial)))
    database.close()
    arguments = ("--model", spec(remote), "--prompt", HELLO, "--repeats", "1")
    refused = measure(url, *arguments)
    assert refused.exit_code == 2
    assert "Raters are being served" in refused.stderr
    assert "--force" in refused.stderr
    assert (refused.stdout, stored(url)) == ("", [])
    assert measure(url, *arguments, "--force").exit_code == 0


def test_the_variable_for_models_that_are_too_large_does_not_disturb_raters(
    remote: Fake, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOPANE_FORCE", "true")
    database = Database.open(url)
    with database.write() as session:
        trial = rows.trial(state=TrialState.RATEABLE)
        session.add(rows.answer(turn=rows.turn(trial=trial)))
    database.close()
    assert measure(url, "--model", spec(remote)).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "nope"], "no model that Twopane knows"),
        (["--model", "tiny-qwen", "--model", "tiny-qwen"], "Give each model once"),
        (["--pair", "nope"], "There is no pair 'nope'"),
        (["--left", "tiny-chatglm"], "Give two different models"),
        (["--prompt", " \n"], "A prompt is empty"),
        (["--repeats", "0"], "greater than or equal to 1"),
        (["--threads", "0"], "threads"),
        (["--precision", "int3"], "float32,bfloat16,int8,int4"),
        (["--format", "xml"], "markdown"),
        (["--database-url", "mysql://x/y"], "postgresql://"),
    ],
)
def test_what_can_t_be_measured_is_refused_with_what_to_do(
    url: str, arguments: list[str], said: str
) -> None:
    done = measure(url, *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@contextmanager
def running_command(url: str, log: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, as in a terminal; `log` is its stderr."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TWOPANE_")}
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "app.py", "measure", "--database-url", url, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_ctrl_c_keeps_and_prints_what_was_measured_and_leaves_no_server(
    url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    options = ("--model", "tiny-qwen", "--prompt", HELLO, "--repeats", "100", "--format", "json")
    with running_command(url, log, *options) as command:
        until(lambda: log.read_text().count("answering") > 2, 60)
        servers = psutil.Process(command.pid).children(recursive=True)
        assert servers
        command.send_signal(signal.SIGINT)
        stdout, _ = command.communicate(timeout=60)
    assert command.returncode == 130
    assert "Traceback" not in log.read_text()
    data: dict[str, Any] = json.loads(stdout)
    assert data["state"] == "stopped"
    assert len(data["answers"]) >= 2
    assert stored(url)[0] == (
        MeasurementState.STOPPED,
        len(data["resources"]),
        len(data["answers"]),
    )
    assert not any(server.is_running() for server in servers)


@pytest.mark.slow
def test_the_built_in_pair_is_measured_as_the_article_did(url: str, tmp_path: Path) -> None:
    options = ("--repeats", "1", "--prompt", HELLO, "--format", "json")
    with running_command(url, tmp_path / "log", *options) as command:
        stdout, _ = command.communicate(timeout=240)
    assert command.returncode == 0, (tmp_path / "log").read_text()
    data: dict[str, Any] = json.loads(stdout)
    alone = [one for one in data["resources"] if not one["together"]]
    assert [one["model_key"] for one in alone] == ["tiny-qwen", "tiny-chatglm"]
    for one in alone:
        assert one["error"] == ""
        assert one["size_bytes"] < one["peak_bytes"] < one["disk_free_bytes"]
        assert one["cold_start_s"] > 0
        assert one["warm_start_s"] > 0
        assert 0 < one["cpu_share"] <= 1.05
        assert 0 <= one["others_share"] <= 1.05
        assert one["threads"] >= 1
        assert one["precision"]
    answers = [(one["model_key"], one["together"], one["error"]) for one in data["answers"]]
    assert sorted(answers) == sorted(
        (key, together, "") for key in data["plan"]["models"] for together in (False, True)
    )
    assert all(0 < one["first_token_s"] <= one["total_s"] for one in data["answers"])
    assert data["builtin"] == ["tiny-qwen", "tiny-chatglm"]
