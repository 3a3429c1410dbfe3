"""`python app.py generate` and `serve --pack`: answers made ahead, and served without a model."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from gradio_client import Client
from typer.testing import CliRunner, Result

from app import cli
from backends.specs import UnknownModel
from benchmarks.app_process import running, until
from db import Database
from rating.blinding import MASK
from rating.packs import store
from rating.packs.pack_file import read_pack, write_pack
from rating.prompt_sets import built_in
from tests.backends.conftest import Fake, running_fake
from tests.paths import ROOT
from tests.rating.packs.samples import model_entry, pack
from ui.command_line.served import served_by
from ui.command_line.settings import Settings

PROMPTS = """
- {id: color, language: zh, category: memory, turns: [我叫小明，我喜欢蓝色。, 我喜欢什么颜色？]}
- {id: sum, language: en, category: reasoning, turns: [What is 5 plus 3?]}
"""
FAIL = json.dumps({"status": 500, "body": ["no"]})


@pytest.fixture(scope="module")
def remote() -> Iterator[Fake]:
    """A scripted endpoint, which answers in milliseconds and fails when it is told to."""
    with running_fake() as fake:
        yield fake


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.yaml"
    file.write_text(PROMPTS, encoding="utf-8")
    return file


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "pack.jsonl.zst"


def generate(out: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["generate", "--out", str(out), *map(str, arguments)])


def spec(remote: Fake, name: str = "fake") -> str:
    return f"{remote.url}/v1#{name}"


def test_the_pack_is_named_on_stdout_and_its_steps_are_told_on_stderr(
    remote: Fake, prompts: Path, out: Path
) -> None:
    done = generate(out, "--prompts", prompts, "--model", spec(remote))
    assert done.exit_code == 0, done.output
    made = read_pack(out)
    assert done.stdout == f"{out}: 3 answers to prompts, {made.id}\n"
    assert "[1/3] fake@" in done.stderr
    again = generate(out, "--prompts", prompts, "--model", spec(remote))
    assert (again.exit_code, again.stdout) == (0, "")
    assert "is finished already" in again.stderr
    assert read_pack(out) == made


def test_without_a_prompt_set_the_built_in_one_is_asked(out: Path) -> None:
    with running_fake("--key", "secret") as closed:
        done = generate(out, "--model", spec(closed))
    assert done.exit_code == 1
    turns = sum(len(prompt.turns) for prompt in built_in().regular)
    assert "article-self, turn 1: It can't be started: the endpoint refuses the key." in done.stderr
    assert f"missing: {turns}" in done.stderr


def test_what_has_no_answer_is_told_at_the_end_and_the_rest_is_kept(
    remote: Fake, prompts: Path, out: Path
) -> None:
    bad = f"- {{id: bad, language: en, category: memory, turns: [{json.dumps(FAIL)}]}}\n"
    prompts.write_text(PROMPTS + bad, encoding="utf-8")
    done = generate(out, "--prompts", prompts, "--model", spec(remote))
    assert done.exit_code == 1
    assert "bad, turn 1: The model gave no usable answer" in done.stderr
    assert "missing: 1" in done.stderr
    assert not out.exists()
    assert len(Path(f"{out}.part").read_text(encoding="utf-8").splitlines()) == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "nope"], "no model that Twopane knows"),
        (["--prompts", "nowhere.yaml"], "nowhere.yaml"),
        (["--prompts", "README.md"], "neither in .yaml, .yml nor .csv"),
        (["--precision", "int3"], "float32,bfloat16,int8,int4"),
    ],
)
def test_what_can_t_be_generated_is_refused_with_what_to_do(
    out: Path, arguments: list[str], said: str
) -> None:
    done = generate(out, *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_another_pack_or_file_is_never_written_over(remote: Fake, prompts: Path, out: Path) -> None:
    write_pack(out, pack())
    before = out.read_bytes()
    done = generate(out, "--prompts", prompts, "--model", spec(remote))
    assert done.exit_code == 2
    assert "another pack: tiny-qwen, tiny-chatglm answering Small" in done.stderr
    out.write_text("what")
    assert "is no answer pack" in generate(out, "--model", spec(remote)).stderr
    assert len(before) != len(out.read_bytes()) == 4


@contextmanager
def running_command(log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process of its own, as in a terminal; `log` is its stderr."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TWOPANE_")}
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "app.py", "generate", *arguments],
            cwd=ROOT,
            env=environment,
            stderr=stderr,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_the_built_in_pair_answers_a_set_that_was_stopped_and_killed_in_the_middle(
    prompts: Path, out: Path, tmp_path: Path
) -> None:
    more = [
        f"- {{id: more{n}, language: zh, category: naturalness, turns: [晚上睡不着怎么办？]}}\n"
        for n in range(30)
    ]
    prompts.write_text(PROMPTS + "".join(more), encoding="utf-8")
    part, log = Path(f"{out}.part"), tmp_path / "log"
    options = ("--prompts", str(prompts), "--out", str(out), "--model", "tiny-qwen")
    with running_command(log, *options) as command:
        until(lambda: "[3/33]" in log.read_text(), 60)
        servers = psutil.Process(command.pid).children(recursive=True)
        command.send_signal(signal.SIGINT)
        command.wait(30)
    assert command.returncode == 130
    assert "the same command goes on" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert servers
    assert not any(server.is_running() for server in servers)
    kept = part.read_bytes()
    assert 2 <= kept.count(b'"answer"') < 33
    part.write_bytes(kept[:-20])  # as kill -9 or a full disk leaves it
    done = generate(out, *options[:2], *options[4:])
    assert done.exit_code == 0, done.output
    assert not part.exists()
    made = read_pack(out)
    assert len(made.answers) == 33
    assert made.models[0].builtin
    assert made.models[0].precision == "float32"
    assert made.answers[1].text == "你喜欢蓝色。"
    before = [json.loads(line)["answer"] for line in kept.splitlines()[2:]]
    for old, new in zip(before, made.answers, strict=False):
        assert (old["text"], old["seed"]) == (new.text, new.seed)
    assert before[:-1] == [one.as_json() for one in made.answers[: len(before) - 1]]


# --- serving it -----------------------------------------------------------------------------------


def test_the_models_of_a_pack_are_served_or_those_chosen_among_them(out: Path) -> None:
    write_pack(out, pack())
    assert [model.key for model in served_by(Settings(pack=out)).models] == [
        "tiny-qwen",
        "tiny-chatglm",
    ]
    chosen = served_by(Settings(pack=out, left="tiny-chatglm"))
    assert [model.key for model in chosen.models] == ["tiny-chatglm", "tiny-qwen"]
    with pytest.raises(UnknownModel, match="It has those of tiny-qwen, tiny-chatglm"):
        served_by(Settings(pack=out, left="other"))


def test_a_pack_of_one_model_can_not_be_served(out: Path) -> None:
    whole = pack()
    header = whole.header.model_copy(update={"models": (model_entry("tiny-qwen"),)})
    write_pack(out, pack(header=header, answers=whole.answers[:3]))
    with pytest.raises(UnknownModel, match="Two different models"):
        served_by(Settings(pack=out))


@pytest.mark.parametrize("content", [b"", b"what"])
def test_a_file_that_is_no_pack_is_not_served(out: Path, content: bytes) -> None:
    out.write_bytes(content)
    done = CliRunner().invoke(cli, ["serve", "--pack", str(out), "--port", "0"])
    assert done.exit_code == 2
    assert "is no answer pack" in done.stderr


@pytest.mark.slow
def test_a_pack_is_served_without_a_model(out: Path, tmp_path: Path) -> None:
    write_pack(out, pack())
    url = f"sqlite:///{tmp_path}/t.db"
    with running(tmp_path / "log", "--pack", str(out), "--database-url", url) as app:
        app.wait_ready()
        assert psutil.Process(app.process.pid).children(recursive=True) == []
        client = Client(app.url, verbose=False)
        trial = client.predict(api_name="/new_trial")["trial"]
        first = client.predict(trial, "我爱蓝。", api_name="/ask")
        second = client.predict(trial, "哪种？", api_name="/ask")
        assert first["state"] == second["state"] == "rateable"
        said = {second["turns"][1][side]["text"] for side in ("left", "right")}
        other = client.predict(
            client.predict(api_name="/new_trial")["trial"], "Something else?", api_name="/ask"
        )
    assert said == {f"color 2，{MASK}"}  # as any blind answer is
    assert other["turns"][0]["left"]["error"] == "not_recorded"
    database = Database.open(url)
    assert [one.name for one in store.list_packs(database)] == ["pack"]
    database.close()
