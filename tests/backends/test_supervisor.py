import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from backends.catalog import Model, Sampling
from backends.client import Message, ModelUnavailable, Piece, stream_answer
from backends.supervisor import ModelServer, Patience, State, server_command
from tests.backends.conftest import fake_command, script, until
from tests.backends.fake_server import chunk
from tests.paths import ROOT

HASTY = Patience(poll_s=0.05, first_backoff_s=0.1, kill_after_s=0.5)
Start = Callable[..., Awaitable[ModelServer]]


@pytest.fixture
async def start(model: Model) -> AsyncIterator[Start]:
    """Start a server that runs the fake with some options; it is stopped after the test."""
    servers: list[ModelServer] = []

    async def start_one(*options: str, patience: Patience = HASTY) -> ModelServer:
        server = ModelServer(model, command=fake_command(*options), patience=patience)
        servers.append(server)
        await server.start()
        return server

    yield start_one
    for server in servers:
        await server.stop()


def kill(server: ModelServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)


def alive(pid: int | None) -> bool:
    assert pid is not None
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def test_the_loading_is_shown_until_the_model_is_ready(start: Start) -> None:
    server = await start("--load-s", "0.5")
    seen = [server.status]
    while seen[-1].state is not State.READY:
        await asyncio.sleep(0.02)
        seen.append(server.status)
    assert seen[0].state is State.STARTING
    progress = [status.progress for status in seen if status.progress is not None]
    assert progress == sorted(progress)
    assert len(set(progress)) > 2
    assert {status.detail for status in seen if status.progress is not None} == {"weights"}
    assert server.status.progress is None


async def test_starting_returns_at_once(start: Start) -> None:
    began_s = time.monotonic()
    await start("--load-s", "5")
    assert time.monotonic() - began_s < 1


async def test_a_model_that_loads_has_no_endpoint_yet(start: Start) -> None:
    server = await start("--load-s", "60")
    with pytest.raises(ModelUnavailable, match="still loading"):
        _ = server.endpoint
    with pytest.raises(ModelUnavailable, match="still loading"):
        await server.wait_ready(0.3)


async def test_a_server_killed_in_mid_answer_is_noticed_and_started_again(start: Start) -> None:
    server = await start()
    await server.wait_ready(10)
    first_pid = server.pid
    answer = stream_answer(server.endpoint, script(chunk({"content": "a"}), 30), Sampling())
    assert isinstance(await anext(answer), Piece)
    kill(server)
    with pytest.raises(ModelUnavailable):
        await anext(answer)
    assert await until(lambda: server.status.state is State.RESTARTING) < 1
    assert server.status.detail == (
        "was ended by SIGKILL (the system does so when memory runs out)"
    )
    with pytest.raises(ModelUnavailable, match="started again"):
        _ = server.endpoint
    await server.wait_ready(10)
    assert server.status.restarts == 1
    assert server.pid != first_pid
    assert [
        item async for item in stream_answer(server.endpoint, [Message("user", "?")], Sampling())
    ]


async def test_a_death_is_noticed_though_a_child_of_the_dead_keeps_its_pipes(start: Start) -> None:
    server = await start("--grandchild")
    await server.wait_ready(10)
    assert server.pid is not None
    (grandchild,) = psutil.Process(server.pid).children()
    kill(server)
    assert await until(lambda: server.status.state is State.RESTARTING) < 1
    await until(lambda: not alive(grandchild.pid))
    await server.wait_ready(10)


async def test_five_quick_deaths_are_given_up_with_the_reason(start: Start) -> None:
    began_s = time.monotonic()
    server = await start("--exit-at-start", "3", patience=Patience(first_backoff_s=0.05))
    with pytest.raises(ModelUnavailable, match="can't be started"):
        await server.wait_ready(20)
    assert server.status.state is State.FAILED
    assert server.status.restarts == 4
    assert server.status.detail == "exited with code 3: no such file: model.safetensors"
    assert time.monotonic() - began_s > 0.05 + 0.1 + 0.2 + 0.4


async def test_the_pause_between_restarts_has_a_longest(start: Start) -> None:
    patience = Patience(first_backoff_s=0.05, longest_backoff_s=0.1, quick_deaths=8)
    server = await start("--exit-at-start", "3", patience=patience)
    # Doubling on would take 6.35 s; the rest of this time goes to starting Python eight times.
    assert await until(lambda: server.status.state is State.FAILED) < 5


async def test_a_failed_server_can_be_started_again(start: Start) -> None:
    server = await start("--exit-at-start", "0", patience=Patience(quick_deaths=1))
    await until(lambda: server.status.state is State.FAILED)
    await server.start()
    assert (server.status.state, server.status.restarts) == (State.STARTING, 0)
    await until(lambda: server.status.state is State.FAILED)


async def test_deaths_after_a_healthy_time_do_not_add_up(start: Start) -> None:
    patience = Patience(poll_s=0.05, first_backoff_s=0.05, healthy_s=0.1, quick_deaths=2)
    server = await start(patience=patience)
    for deaths in range(3):
        await server.wait_ready(10)
        assert server.status.restarts == deaths
        await asyncio.sleep(0.2)
        kill(server)
        await until(lambda: server.status.state is not State.READY)
    await server.wait_ready(10)


async def test_a_model_that_can_not_be_loaded_is_not_tried_again(start: Start) -> None:
    server = await start("--fail-load", "tensor 'lm_head' has the wrong shape")
    await until(lambda: server.status.state is State.FAILED)
    assert server.status.detail == "tensor 'lm_head' has the wrong shape"
    assert server.status.restarts == 0
    assert server.pid is None


async def test_a_server_that_never_says_its_port_is_ended(start: Start) -> None:
    server = await start("--silent", patience=Patience(announce_s=0.5, quick_deaths=1))
    await until(lambda: server.pid is not None)
    pid = server.pid
    await until(lambda: server.status.state is State.FAILED)
    assert server.status.detail == "said no port within 0.5 s"
    assert not alive(pid)


async def test_other_output_before_the_port_does_no_harm(start: Start) -> None:
    server = await start("--chatter")
    await server.wait_ready(10)


async def test_a_program_that_is_not_there_is_a_failure_with_a_reason(model: Model) -> None:
    command = ["/nowhere/python"]
    server = ModelServer(model, command=lambda *_: command, patience=Patience(quick_deaths=1))
    await server.start()
    await until(lambda: server.status.state is State.FAILED)
    assert "/nowhere/python" in server.status.detail


async def test_stopping_leaves_nothing_behind(start: Start) -> None:
    server = await start("--grandchild")
    await server.wait_ready(10)
    assert server.pid is not None
    pids = [server.pid, *(child.pid for child in psutil.Process(server.pid).children())]
    await server.stop()
    await until(lambda: not any(alive(pid) for pid in pids), 1)
    assert server.status.state is State.STOPPED
    with pytest.raises(ModelUnavailable, match="stopped"):
        await server.wait_ready(10)


async def test_a_server_that_will_not_end_is_killed(start: Start) -> None:
    server = await start("--ignore-sigterm")
    await server.wait_ready(10)
    pid = server.pid
    began_s = time.monotonic()
    await server.stop()
    assert 0.5 <= time.monotonic() - began_s < 2
    assert not alive(pid)


async def test_a_server_can_be_stopped_at_any_time(start: Start) -> None:
    server = await start("--silent")
    await server.stop()  # before its process is there
    await server.stop()
    await server.start()
    await until(lambda: server.pid is not None)
    pid = server.pid
    await server.stop()  # before it has said its port
    assert not alive(pid)
    assert server.status.state is State.STOPPED


async def test_a_server_can_be_stopped_between_two_restarts(start: Start) -> None:
    server = await start("--exit-at-start", "1", patience=Patience(first_backoff_s=60))
    await until(lambda: server.status.state is State.RESTARTING and server.pid is None)
    await server.stop()
    assert server.status.state is State.STOPPED


async def test_starting_twice_starts_one_server(start: Start) -> None:
    others = psutil.Process().children(recursive=True)  # servers that other tests share
    server = await start()
    await server.start()
    await server.wait_ready(10)
    pid = server.pid
    await server.start()
    await asyncio.sleep(0.2)
    assert (server.pid, server.status.state) == (pid, State.READY)
    ours = [child for child in psutil.Process().children(recursive=True) if child not in others]
    assert [child.pid for child in ours if alive(child.pid) and _is_of(child, "--threads")] == [pid]


def _is_of(process: psutil.Process, argument: str) -> bool:
    return argument in process.cmdline()


async def test_ctrl_c_in_the_terminal_is_for_the_app_alone(start: Start) -> None:
    server = await start()
    await server.wait_ready(10)
    assert server.pid is not None
    assert os.getpgid(server.pid) != os.getpgid(0)


async def test_what_a_ready_server_writes_may_quote_prompts_and_is_only_logged_for_debugging(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "backends.process")
    server = await start("--load-s", "0.2")
    await server.wait_ready(10)
    await asyncio.sleep(0.1)
    caplog.clear()
    async for _ in stream_answer(server.endpoint, [Message("user", "?")], Sampling()):
        pass
    await until(lambda: bool(caplog.records))
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}
    assert "some-model: " in caplog.text


@pytest.mark.parametrize("second", ["--watch-parent", "--ignore-sigterm"])
def test_no_server_outlives_an_app_that_is_killed(second: str) -> None:
    app = subprocess.Popen(
        [sys.executable, "-m", "tests.backends.app_to_kill", second],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    with app:
        assert app.stdout is not None
        pids = json.loads(app.stdout.readline())
        app.kill()
    watching = pids if second == "--watch-parent" else pids[:1]
    try:
        deadline_s = time.monotonic() + 2
        while any(alive(pid) for pid in watching):
            assert time.monotonic() < deadline_s, "a server has outlived its app"
            time.sleep(0.02)
    finally:
        for pid in filter(alive, pids):
            os.kill(pid, signal.SIGKILL)


def test_the_real_server_is_started_by_its_module(model: Model) -> None:
    command = server_command(model, 2)
    assert command[:3] == [sys.executable, "-m", "backends.server"]
    assert command[3:] == [
        *("--model", str(model.folder), "--port", "0", "--threads", "2", "--watch-parent")
    ]


async def test_a_health_that_can_not_be_understood_is_a_failure_and_no_endless_wait(
    start: Start,
) -> None:
    server = await start("--health", '{"status": "ready", "defaults": {"temperature": "hot"}}')
    await until(lambda: server.status.state is State.FAILED)
    assert "can't be understood" in server.status.detail


async def test_a_model_that_has_run_is_not_given_up_because_memory_is_short_now(
    start: Start, tmp_path: Path
) -> None:
    memory_is_short = tmp_path / "short"
    server = await start("--only-forced", str(memory_is_short))
    await server.wait_ready(20)
    memory_is_short.touch()
    kill(server)
    await until(lambda: server.status.state is not State.READY)
    await server.wait_ready(20)


async def test_a_model_that_never_ran_is_refused_where_memory_is_short(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "short").touch()
    server = await start("--only-forced", str(tmp_path / "short"))
    await until(lambda: server.status.state is State.FAILED)
    assert server.status.detail == "too large"
