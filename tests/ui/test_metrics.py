"""`GET /metrics`: what it says, and to whom. Read with the parser of prometheus_client itself."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import gradio as gr
import httpx2
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from backends.backend import Backend, State
from backends.catalog import Model
from backends.lineup import Lineup, Models
from backends.resources import Limits, Monitor
from backends.specs import resolve
from backends.supervisor import ModelServer, Patience, RemoteModel
from benchmarks.app_process import running
from db import Database, Side, TrialState, new_id
from rating.errors import WrongState
from rating.session import Panel
from tests.backends.conftest import fake_command, until
from tests.db import rows
from ui.metrics import Metrics
from ui.operator import Operator
from ui.visitor import COOKIE
from ui.web import build_app

KEY = "correct horse 电池"
BEARER = f"Bearer {KEY}"
HERE = "127.0.0.1:7860"
NAMES = ("hidden-qwen", "far-chatglm")

Labels = tuple[tuple[str, str], ...]


def figures(text: str) -> dict[tuple[str, Labels], float]:
    """Return each figure by its name and labels."""
    return {
        (sample.name.removeprefix("twopane_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@dataclass(frozen=True)
class Stage:
    """The app with a local model that is ready and a remote one that isn't there."""

    app: FastAPI
    lineup: Lineup
    panel: Panel
    monitor: Monitor

    async def ask(
        self,
        *,
        client: str = "127.0.0.1",
        host: str = HERE,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        """Ask for the metrics as someone at that address would."""
        transport = httpx2.ASGITransport(app=self.app, client=(client, 5))
        async with httpx2.AsyncClient(transport=transport, base_url=f"http://{host}") as asking:
            sent = {name.encode(): value.encode() for name, value in (headers or {}).items()}
            return await asking.request(method, "/metrics", headers=sent)

    async def figures(self) -> dict[tuple[str, Labels], float]:
        """What the operator on this machine reads, after a fresh look."""
        await self.monitor.read()
        return figures((await self.ask()).text)


Start = Callable[..., Awaitable[Stage]]


def make_backends(models: Models, _: bool) -> tuple[Backend, Backend]:
    patience = Patience(poll_s=0.05, first_backoff_s=0.1, kill_after_s=0.5)
    return (
        ModelServer(models[0], command=fake_command(), patience=patience),
        RemoteModel(models[1]),
    )


@pytest.fixture(scope="module")
def shared_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened = Database.open(f"sqlite:///{tmp_path_factory.mktemp('metrics')}/twopane.db")
    yield opened
    opened.close()


@pytest.fixture
async def start(shared_database: Database) -> AsyncIterator[Start]:
    """Start an app; it is stopped after the test."""
    async with AsyncExitStack() as stack:

        async def start_one(key: str | None = None, limits: Limits | None = None) -> Stage:
            near = Model(key=NAMES[0], title="Hidden", family="qwen2", folder=Path("/nowhere"))
            far = replace(resolve("http://127.0.0.1:9/v1#far"), key=NAMES[1])
            lineup = Lineup((near, far), make_backends)
            await lineup.start()
            stack.push_async_callback(lineup.stop)
            await lineup.backends[0].wait_ready(20)
            panel = Panel(shared_database, lineup.backends, blind=True)
            monitor = Monitor(lineup, limits, every_s=0.1, sustained_s=0.1)
            await monitor.read()
            metrics = Metrics(panel, lineup, monitor, Operator(key))
            return Stage(_app(metrics), lineup, panel, monitor)

        yield start_one


def _app(metrics: Metrics) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        yield

    async def ready() -> dict[str, bool]:
        return {}

    return build_app(gr.Blocks(), (), lifespan=lifespan, ready=ready, metrics=metrics.answer)


async def test_the_operator_reads_what_each_process_takes(start: Start) -> None:
    stage = await start()
    response = await stage.ask()
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    found = figures(response.text)
    for reading in stage.monitor.snapshot().processes:
        labels = (("process", reading.model_key or "app"),)
        assert found["process_memory_bytes", labels] == reading.rss_bytes
        assert found["process_memory_peak_bytes", labels] == reading.peak_bytes
        assert found["process_cpu_seconds_total", labels] == reading.cpu_s
    processes = {labels[0][1] for name, labels in found if name == "process_memory_bytes"}
    assert processes == {"app", NAMES[0]}, "nothing is known of the remote one"
    assert found["machine_memory_bytes", ()] == stage.monitor.memory_bytes
    assert found["machine_cores", ()] == stage.monitor.cores
    assert not any("python" in name for name, _ in found)


async def test_each_model_is_in_one_state(start: Start) -> None:
    found = await (await start()).figures()
    states = [labels for (name, labels), value in found.items() if name == "model_state" and value]
    assert (("model", NAMES[0]), ("state", "ready")) in states
    assert [dict(labels)["model"] for labels in states] == list(NAMES)
    assert sum(name == "model_state" for name, _ in found) == 2 * len(State)


async def test_restarts_are_counted(start: Start) -> None:
    stage = await start()
    restarts = ("model_restarts_total", (("model", NAMES[0]),))
    server = stage.lineup.backends[0]
    assert isinstance(server, ModelServer)
    assert (await stage.figures())[restarts] == 0
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: server.status.restarts == 1)
    assert (await stage.figures())[restarts] == 1


async def test_an_alarm_is_1_as_long_as_it_lasts(start: Start) -> None:
    stage = await start(limits=Limits(memory=0.9, cpu=1e-9))
    began_s = time.process_time()
    while time.process_time() < began_s + 0.1:
        pass
    found = await stage.figures()
    assert found["alarm", (("kind", "memory"),)] == 0
    assert found["alarm", (("kind", "cpu"),)] == 1
    assert found["alarm_limit_ratio", (("kind", "memory"),)] == 0.9


async def test_without_a_limit_there_is_no_alarm_to_read(start: Start) -> None:
    found = await (await start()).figures()
    assert not any(name.startswith("alarm") for name, _ in found)


async def test_it_says_that_trials_wait(start: Start) -> None:
    stage = await start()
    assert (await stage.figures())["trials_paused", ()] == 0
    await stage.panel.pause(lambda: WrongState("measuring", "Wait."))
    assert (await stage.figures())["trials_paused", ()] == 1


def assert_refused(response: httpx2.Response, reason: str) -> None:
    assert response.status_code == 403
    assert reason in response.text
    assert response.text.endswith(".\n")
    told = f"{response.text}{response.headers}".lower()
    assert not any(word in told for word in ("qwen", "chatglm", "far", "twopane_process"))


@pytest.mark.parametrize(
    "asked",
    [
        {"client": "192.168.1.7"},
        {"client": "192.168.1.7", "host": "localhost:7860"},
        {"host": "panel.example:7860"},
        {"headers": {"X-Forwarded-For": "127.0.0.1"}},
        {"headers": {"Forwarded": "for=127.0.0.1"}},
        {"headers": {"Via": "1.1 proxy"}},
        {"headers": {"Origin": "https://evil.example"}},
        {"headers": {"Authorization": BEARER}, "client": "192.168.1.7"},
        {"method": "HEAD", "client": "192.168.1.7"},
    ],
)
async def test_without_a_key_only_this_machine_is_told(start: Start, asked: Any) -> None:
    stage = await start()
    response = await stage.ask(**asked)
    if asked.get("method") == "HEAD":
        assert (response.status_code, response.text) == (403, "")
    else:
        assert_refused(response, "127.0.0.1, or set TWOPANE_OPERATOR_KEY")
    assert (await stage.ask(method="HEAD")).status_code == 200


async def test_with_a_key_whoever_sends_it_is_told_wherever_from(start: Start) -> None:
    stage = await start(KEY)
    for scheme in ("Bearer ", "bearer  "):
        response = await stage.ask(
            client="192.168.1.7",
            host="panel.example",
            headers={"Authorization": scheme + KEY, "X-Forwarded-For": "203.0.113.9"},
        )
        assert response.status_code == 200
        assert NAMES[0] in response.text


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        ("", "Send the operator's key"),
        (f"Basic {KEY}", "Send the operator's key"),
        (KEY, "Send the operator's key"),
        ("Bearer", "not the operator's key"),
        ("Bearer correct", "not the operator's key"),
        (f"Bearer {KEY}!", "not the operator's key"),
    ],
)
async def test_with_a_key_nobody_else_is_told_not_even_on_this_machine(
    start: Start, authorization: str, reason: str
) -> None:
    stage = await start(KEY)
    assert_refused(await stage.ask(headers={"Authorization": authorization}), reason)


async def test_keys_can_be_tried_only_so_often(start: Start) -> None:
    stage = await start(KEY)
    for _ in range(5):
        assert_refused(await stage.ask(headers={"Authorization": "Bearer x"}), "not the operator")
    assert_refused(await stage.ask(headers={"Authorization": BEARER}), "Too many keys")


async def test_a_rater_at_a_blind_trial_is_not_told_even_if_it_is_the_operator(
    start: Start, shared_database: Database
) -> None:
    stage, rater, other = await start(), new_id(), new_id()
    with shared_database.write() as session:
        trial = rows.trial(rater=rows.rater(id=rater), state=TrialState.RATEABLE)
        turn = rows.turn(trial=trial)
        session.add_all(rows.answer(turn=turn, side=side) for side in Side)
    cookie = {"Cookie": f"{COOKIE}={rater}"}
    assert_refused(await stage.ask(headers=cookie), "a blind trial of your own open")
    assert (await stage.ask(headers={"Cookie": f"{COOKIE}={other}"})).status_code == 200
    with shared_database.write() as session:
        session.add(rows.rating(trial=session.merge(trial)))
        session.merge(trial).state = TrialState.REVEALED
    assert (await stage.ask(headers=cookie)).status_code == 200


@pytest.mark.slow
def test_the_app_as_users_start_it_tells_of_itself_and_of_both_models(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    options = ("--database-url", url, "--alarm-memory", "70", "--alarm-cpu", "95")
    with running(tmp_path / "log", *options) as app:
        app.wait_ready()
        with urlopen(f"{app.url}/metrics") as response:
            found = figures(response.read().decode())
    for model in ("tiny-qwen", "tiny-chatglm"):
        assert found["model_state", (("model", model), ("state", "ready"))] == 1
    for process in ("app", "tiny-qwen", "tiny-chatglm"):
        assert found["process_memory_bytes", (("process", process),)] > 50_000_000
        assert found["process_cpu_seconds_total", (("process", process),)] > 0.1
    assert found["alarm_limit_ratio", (("kind", "memory"),)] == 0.7
    assert found["alarm_limit_ratio", (("kind", "cpu"),)] == 0.95
