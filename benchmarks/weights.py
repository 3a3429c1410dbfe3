"""Loads the published pair at full size, with random weights, and has both answer one prompt.

    python -m benchmarks.weights --folder build/weights

Makes a ChatGLM-6B int4 checkpoint and a Qwen1.5-0.5B one in published form (5 GB, once), then
starts the app with both: for the first time, when weights are converted; again with the files out
of the system's file cache; and again with them in it. Then each model's server alone, as a process
that gets one question at once. Prints the seconds from the start to each model's readiness, or to
the first token, and the peak memory of each model's process, beside the article's figures.
Speed and memory don't depend on the values of weights; what such models say means nothing. Linux
only.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx2
import openai
import psutil
import typer
from gradio_client import Client

from benchmarks.app_process import AppProcess, running
from benchmarks.paths import ROOT
from benchmarks.random_weights import make_chatglm_6b_int4, make_qwen_0_5b

_PROMPT = "你好，请介绍一下你自己。"
_READY_S = 1800.0
_KINDS = ("first load, converting", "files not in the file cache", "files in the file cache")
_ALONE = "alone, to the first token"
_LARGEST_PEAK_BYTES = {"qwen": 1_200_000_000, "chatglm": 4_600_000_000}
_LARGEST_CONVERTING_BYTES = 5_500_000_000
# The article's table 3.3: 4 cores, 8 GB; cold start and peak memory.
_ARTICLE = {"qwen": ("12 s", "under 2.1 GB"), "chatglm": ("310 s", "over 6.5 GB")}


@dataclass(frozen=True)
class Load:
    """How one model was loaded.

    Attributes:
        ready_s: From the start of the app until the model is ready; alone until its first token.
        peak_bytes: Most memory that its process held, mapped files included.
        own_bytes: What of that it holds alone, once it is ready: not mapped files.
    """

    kind: str
    model: str
    ready_s: float
    peak_bytes: int
    own_bytes: int


def main(
    folder: Annotated[Path, typer.Option(help="where the weights are, or are made")] = Path(
        "build/weights"
    ),
    answer: Annotated[bool, typer.Option(help="have both answer a prompt at the end")] = True,
) -> None:
    """Measure and print the tables."""
    makers = {"qwen": make_qwen_0_5b, "chatglm": make_chatglm_6b_int4}
    folders = {name: folder.resolve() / name for name in makers}
    for name, make in makers.items():
        if not (folders[name] / "config.json").exists():
            typer.echo(f"Making {folders[name]} ...", err=True)
            make(folders[name])
    loads: list[Load] = []
    for kind in _KINDS:
        _prepare(kind, folders)
        loads += _load(kind, folders, loads, answer=answer and kind == _KINDS[-1])
    loads += [_alone(name, folder) for name, folder in folders.items()]
    _print(loads)
    typer.echo("\n" + json.dumps([asdict(load) for load in loads]))
    too_large = [load for load in loads if load.peak_bytes > _limit(load)]
    for load in too_large:
        figures = f"{_gb(load.peak_bytes)}, over {_gb(_limit(load))}"
        typer.echo(f"{load.model} ({load.kind}) took {figures}.", err=True)
    raise typer.Exit(1 if too_large else 0)


def _limit(load: Load) -> int:
    return _LARGEST_CONVERTING_BYTES if load.kind == _KINDS[0] else _LARGEST_PEAK_BYTES[load.model]


def _prepare(kind: str, folders: dict[str, Path]) -> None:
    if kind == _KINDS[0]:
        for folder in folders.values():
            shutil.rmtree(folder / "twopane", ignore_errors=True)
    if kind == _KINDS[1]:
        for folder in folders.values():
            for path in folder.rglob("*"):
                _drop_from_cache(path)


def _drop_from_cache(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _load(kind: str, folders: dict[str, Path], before: list[Load], *, answer: bool) -> list[Load]:
    sides = ("--left", str(folders["qwen"]), "--right", str(folders["chatglm"]))
    with tempfile.TemporaryDirectory() as scratch:
        log, url = Path(scratch) / "app.log", f"sqlite:///{scratch}/bench.db"
        started = time.time()
        with running(log, "--open", "--database-url", url, *sides) as app:
            app.wait_ready(_READY_S)
            loads = [_loaded(kind, name, app, folders[name], started) for name in folders]
            if answer:
                _answer(app)
                peaks = {name: _status(_server(app, folders[name]))["VmHWM"] for name in folders}
                typer.echo(f"Peak with an answer: {peaks}\n")
    return loads


def _loaded(kind: str, name: str, app: AppProcess, folder: Path, started: float) -> Load:
    status = _status(_server(app, folder))
    return Load(
        kind, name, _ready_at(app.log, folder) - started, status["VmHWM"], status["RssAnon"]
    )


def _alone(name: str, folder: Path) -> Load:
    command = [sys.executable, "-m", "backends.server", "--model", str(folder), "--port", "0"]
    started = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{json.loads(server.stdout.readline())['port']}"
            while httpx2.get(f"{url}/health").status_code == 503:
                time.sleep(0.01)
            with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
                asked: Any = {"role": "user", "content": _PROMPT}
                chunks = client.chat.completions.create(
                    model=name, messages=[asked], stream=True, max_tokens=32
                )
                _ = next(chunk for chunk in chunks if chunk.choices[0].delta.content)
                first_s = time.monotonic() - started
                chunks.close()
            status = _status(server.pid)
        finally:
            server.terminate()
    return Load(_ALONE, name, first_s, status["VmHWM"], status["RssAnon"])


def _server(app: AppProcess, folder: Path) -> int:
    """Return the process id of the model server for `folder`."""
    for process in psutil.Process(app.process.pid).children(recursive=True):
        if str(folder) in process.cmdline():
            return process.pid
    raise RuntimeError(f"no server of {folder}: {app.log.read_text('utf-8')[-2000:]}")


def _status(pid: int) -> dict[str, int]:
    """Return the sizes in /proc/PID/status in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return {name: int(size) * 1024 for name, size in re.findall(r"(\w+):\s+(\d+) kB", text)}


def _ready_at(log: Path, folder: Path) -> float:
    """Return when the app has noted that the model is ready, in seconds since the epoch."""
    line = next(
        line
        for line in log.read_text("utf-8").splitlines()
        if f"{folder.name}@" in line and line.endswith(": ready")
    )
    stamp, _, milliseconds = line[:23].partition(",")
    return time.mktime(time.strptime(stamp, "%Y-%m-%d %H:%M:%S")) + int(milliseconds) / 1000


def _answer(app: AppProcess) -> None:
    client = Client(app.url, verbose=False)
    trial = client.predict(api_name="/new_trial")["trial"]
    views: list[Any] = list(client.submit(trial, _PROMPT, api_name="/ask"))
    turn = views[-1]["turns"][-1]
    for side in ("left", "right"):
        typer.echo(f"{turn[side].get('model', side)}: {turn[side]['timing']}")


def _print(loads: list[Load]) -> None:
    typer.echo(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n"
    )
    typer.echo(
        "| model | load | ready after | peak memory | of it its own |\n|---|---|---|---|---|"
    )
    for load in loads:
        figures = f"{load.ready_s:.1f} s | {_gb(load.peak_bytes)} | {_gb(load.own_bytes)}"
        typer.echo(f"| {load.model} | {load.kind} | {figures} |")
    for model, (cold_start, memory) in _ARTICLE.items():
        typer.echo(f"| {model} | the article, cold start | {cold_start} | {memory} | |")


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB"


if __name__ == "__main__":
    typer.run(main)
