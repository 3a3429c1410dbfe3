"""Measuring: real servers of the built-in pair, and scripted ones for what those never do.

A scripted server knows none of the real one's options, so it is given its own alone.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from backends.catalog import Model
from backends.client import Message, Sampling, stream_answer
from backends.cores import usable_cores
from backends.measure import ServerSettings, measure
from backends.measurement import Event, Plan, Resources, Step, TimedAnswer
from backends.memory import free_bytes
from backends.page_cache import cached_bytes
from backends.specs import resolve
from backends.subject import Subject
from backends.supervisor import ModelServer, server_command
from tests.backends.conftest import Fake, script, until
from tests.backends.fake_server import ANSWER, chunk, whole_answer
from tests.backends.test_page_cache import droppable
from tests.paths import TINY

MB = 1_000_000
GOLDEN = Path(__file__).parent / "server" / "golden"
KEYS = ("tiny-qwen", "tiny-chatglm")
Pair = tuple[Model, Model]
SHORT = "你好，请介绍一下你自己，再说说你能做什么、不能做什么，以及你是怎么学会的。"


@dataclass
class Findings:
    """What a measurement has yielded, and when."""

    steps: list[Step] = field(default_factory=list)
    resources: list[Resources] = field(default_factory=list)
    answers: list[TimedAnswer] = field(default_factory=list)
    came_s: list[float] = field(default_factory=list)

    def take(self, event: Event) -> None:
        match event:
            case Step():
                self.steps.append(event)
                self.came_s.append(time.perf_counter())
            case Resources():
                # Each takes the place of what was known before.
                self.resources = [one for one in self.resources if _whose(one) != _whose(event)]
                self.resources.append(event)
            case TimedAnswer():
                self.answers.append(event)

    def of(self, key: str, *, together: bool = False) -> tuple[Resources, list[TimedAnswer]]:
        wanted = (key, together)
        (resources,) = [one for one in self.resources if (one.model_key, one.together) == wanted]
        return resources, [one for one in self.answers if (one.model_key, one.together) == wanted]

    def kinds(self, key: str) -> list[str]:
        return [step.kind for step in self.steps if step.model_key == key]


def _whose(one: Resources) -> tuple[str, bool]:
    return one.model_key, one.together


OnStep = Callable[[Step], None]


async def run(
    plan: Plan, settings: ServerSettings | None = None, on_step: OnStep | None = None
) -> Findings:
    """Carry out a plan to its end."""
    findings = Findings()
    async with aclosing(measure(plan, settings or ServerSettings())) as events:
        async for event in events:
            findings.take(event)
            if on_step is not None and isinstance(event, Step):
                on_step(event)
    return findings


_OTHERS: set[psutil.Process] = set()
"""The servers that tests of other files have running in this process, while a test here runs."""


def servers() -> list[psutil.Process]:
    """The model servers that this test has started, scripted or not, and is not rid of."""
    mine = psutil.Process().children(recursive=True)
    return [one for one in mine if one not in _OTHERS and _is_server(one)]


def _is_server(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
    except psutil.NoSuchProcess:
        return False
    return "backends.server" in words or "--scripted" in words


def server_of(model: Model) -> psutil.Process:
    (found,) = [one for one in servers() if model.spec in one.cmdline()]
    return found


def health(server: psutil.Process) -> dict[str, Any]:
    """What a server says of itself."""
    (port,) = [one.laddr.port for one in server.net_connections() if one.status == "LISTEN"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as response:
        said: dict[str, Any] = json.load(response)
    return said


def model(key: str, **known: Any) -> Model:
    """A model that a scripted server stands for, which never looks at its folder."""
    return replace(
        Model(key=key, title=key.upper(), family="qwen2", folder=GOLDEN / "fp16"), **known
    )


_SCRIPTED = """
import sys, time
from tests.backends import fake_server
del sys.argv[sys.argv.index("--scripted") :]  # before: its own options; behind: the real one's
"""


def scripted(
    options: Mapping[str, Sequence[str]] | None = None, code: str = ""
) -> Callable[[Model, int], list[str]]:
    """What starts a scripted server; `options` by the model's key."""

    def command(model: Model, threads: int) -> list[str]:
        own = ["--watch-parent", *(options or {}).get(model.key, ())]
        program = f"{_SCRIPTED}{code}\nfake_server.main()"
        return [sys.executable, "-c", program, *own, "--scripted", model.spec, str(threads)]

    return command


def fakes(
    options: Mapping[str, Sequence[str]] | None = None, code: str = "", **more: Any
) -> ServerSettings:
    return ServerSettings(command=scripted(options, code), **more)


def prompt(*body: str | float, status: int = 200) -> str:
    """A prompt that a scripted server answers with `body`."""
    return script(*body, status=status)[0].content


WELL = prompt(*whole_answer())
ENDLESS = prompt(chunk({"content": "a"}), 60)
GOOD = model("good")
ONCE = Plan((model("one"),), (WELL,), repeats=1, together=False)


@pytest.fixture(autouse=True)
def _leave_nothing() -> Iterator[None]:
    _OTHERS.clear()
    _OTHERS.update(servers())
    yield
    assert servers() == [], "a server was left behind"


# --- the built-in pair, with real servers ---------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The built-in pair in folders of its own: other tests' servers keep the usual files open."""

    def copied(key: str) -> Model:
        copy = tmp_path_factory.mktemp("weights") / key
        shutil.copytree(TINY / key, copy)
        return replace(resolve(key), folder=copy)

    return copied("tiny-qwen"), copied("tiny-chatglm")


@dataclass
class Witness:
    """What others see while the first model is measured.

    Attributes:
        model: The first one.
        cached: By the kind of step: the least share of its weights that was in memory.
    """

    model: Model
    cached: dict[str, float] = field(default_factory=dict)
    prefix_caches: list[dict[str, int]] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    step: str = ""

    async def watch(self) -> None:
        """Look again and again how much of the weights is in memory."""
        assert self.model.folder is not None
        weights = self.model.folder / "model.safetensors"
        while True:
            if self.step in ("tiny-qwen cold_start", "tiny-qwen warm_start"):
                share = cached_bytes(weights) / weights.stat().st_size
                self.cached[self.step] = min(share, self.cached.get(self.step, 1.0))
            await asyncio.sleep(0.02)

    def look(self, step: Step) -> None:
        self.step = f"{step.model_key} {step.kind}"
        if self.step == "tiny-qwen answer":
            server = server_of(self.model)
            self.prefix_caches.append(health(server)["prefix_cache"])
            status = Path(f"/proc/{server.pid}/status").read_text()
            self.peaks.append(int(status.split("VmHWM:")[1].split()[0]) * 1024)


Measured = tuple[Findings, Witness]


@pytest.fixture(scope="module")
def measured(tiny: Pair) -> Measured:
    """The built-in pair, each prompt asked twice: one real measurement for several tests."""

    async def carry_out() -> Measured:
        witness = Witness(tiny[0])
        watching = asyncio.create_task(witness.watch())
        try:
            plan = Plan(tiny, (SHORT, "一加一等于几？"), repeats=2, patience_s=120)
            return await run(plan, on_step=witness.look), witness
        finally:
            watching.cancel()

    return asyncio.run(carry_out())


def test_every_step_is_announced_and_their_count_is_known_from_the_start(
    measured: Measured,
) -> None:
    findings, _ = measured
    count = 2 * (3 + 4) + 1 + 4
    assert [(step.number, step.count) for step in findings.steps] == [
        (number, count) for number in range(1, count + 1)
    ]
    alone = ["prepare", "cold_start", "warm_start", *["answer"] * 4]
    assert findings.kinds("tiny-qwen") == findings.kinds("tiny-chatglm") == alone
    assert findings.kinds("") == ["prepare", *["together"] * 4]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("together", [False, True])
def test_every_prompt_is_answered_as_often_as_wanted(
    measured: Measured, key: str, together: bool
) -> None:
    _, answers = measured[0].of(key, together=together)
    assert [(one.prompt, one.repeat) for one in answers] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    for one in answers:
        assert one.error == ""
        assert one.first_token_s is not None
        assert one.total_s is not None
        assert 0 < one.first_token_s <= one.total_s < 60
        assert (one.prompt_tokens or 0) > 0
        assert (one.completion_tokens or 0) > 0
        assert one.characters > 0


@pytest.mark.parametrize("place", [0, 1])
def test_what_a_model_takes_alone_is_found_out(measured: Measured, tiny: Pair, place: int) -> None:
    model = tiny[place]
    found, _ = measured[0].of(model.key)
    assert model.folder is not None
    if droppable(model.folder):
        assert found.error == ""
        assert found.cold_start_s is not None
    assert (found.remote, found.revision, found.precision) == (False, model.revision, "float32")
    assert found.threads == max(1, usable_cores() // 2)
    assert found.size_bytes == (model.folder / "model.safetensors").stat().st_size
    free = shutil.disk_usage(model.folder).free
    assert found.disk_free_bytes == pytest.approx(free, rel=0.1)
    assert 100 * MB < (found.peak_bytes or 0) < 2000 * MB
    assert 0 < (found.cpu_share or 0) <= 1.05
    assert found.warm_start_s is not None


def test_what_they_take_together_is_found_out_for_each(measured: Measured) -> None:
    for key in KEYS:
        found, _ = measured[0].of(key, together=True)
        assert found.error == ""
        assert (found.peak_bytes or 0) > 100 * MB
        assert 0 < (found.cpu_share or 0) <= 1.05
        assert found.cold_start_s is found.warm_start_s is None


def test_a_start_takes_as_long_as_an_onlooker_sees(measured: Measured) -> None:
    findings, _ = measured
    for key in KEYS:
        found, _ = findings.of(key)
        places = [place for place, step in enumerate(findings.steps) if step.model_key == key]
        came = findings.came_s[places[2]], findings.came_s[places[3]]
        # Beside the start there is the rest of the short answer.
        assert came[1] - came[0] - 1 < (found.warm_start_s or 0) < came[1] - came[0]


@pytest.mark.skipif(not psutil.LINUX, reason="looks into Linux's file cache")
def test_the_weights_are_out_of_memory_at_the_cold_start_and_not_at_the_warm_one(
    measured: Measured, tiny: Pair
) -> None:
    if tiny[0].folder is None or not droppable(tiny[0].folder):
        pytest.skip("the temporary folder is memory")
    assert measured[1].cached["tiny-qwen cold_start"] < 0.1
    assert measured[1].cached["tiny-qwen warm_start"] > 0.9


def test_no_answer_is_served_from_what_an_earlier_one_left(measured: Measured) -> None:
    last = measured[1].prefix_caches[-1]  # the first prompt was asked twice by then
    assert (last["hits"], last["kept_bytes"], last["limit_bytes"]) == (0, 0, 0)


@pytest.mark.skipif(not psutil.LINUX, reason="reads /proc")
def test_the_peak_is_the_servers_high_water_mark(measured: Measured) -> None:
    found, _ = measured[0].of("tiny-qwen")
    assert found.peak_bytes == pytest.approx(measured[1].peaks[-1], rel=0.05)


async def test_a_server_that_keeps_answers_would_have_served_a_repeat_from_them(tiny: Pair) -> None:
    server = ModelServer(tiny[0])
    await server.start()
    try:
        await server.wait_ready(60)
        for _ in range(2):
            answer = stream_answer(
                server.endpoint, [Message("user", SHORT)], Sampling(max_tokens=4)
            )
            assert [item async for item in answer]
        assert health(server_of(tiny[0]))["prefix_cache"]["hits"] == 1
    finally:
        await server.stop()


@pytest.mark.slow
async def test_a_server_that_is_killed_is_reported_and_the_next_one_is_measured(tiny: Pair) -> None:
    killed: list[int] = []

    def kill_at_second_answer(step: Step) -> None:
        if step.model_key == "tiny-qwen" and step.kind == "answer" and step.number == 5:
            killed.append(server_of(tiny[0]).pid)
            os.kill(killed[0], signal.SIGKILL)

    def command(one: Model, threads: int) -> list[str]:
        return (server_command if one is tiny[0] else scripted())(one, threads)

    plan = Plan((tiny[0], GOOD), (SHORT,), repeats=3, patience_s=60)
    findings = await run(plan, ServerSettings(command=command), kill_at_second_answer)
    assert killed
    dead, answers = findings.of("tiny-qwen")
    assert [bool(one.error) for one in answers] == [False, True]
    assert "SIGKILL" in dead.error
    assert dead.error == answers[-1].error
    assert dead.warm_start_s is not None
    next_one, its_answers = findings.of("good")
    assert next_one.error == ""
    assert len(its_answers) == 3
    together, none = findings.of("good", together=True)
    assert together.error == "Not run together: tiny-qwen can't be measured alone."
    assert none == []


# --- trouble, with scripted servers ---------------------------------------------------------------


async def test_a_start_that_fails_is_reported_and_the_next_model_is_measured() -> None:
    plan = Plan((model("bad"), GOOD), (WELL,), repeats=1, together=False)
    findings = await run(plan, fakes({"bad": ["--exit-at-start", "3"]}))
    bad, answers = findings.of("bad")
    assert bad.error == (
        "It can't be started: exited with code 3: no such file: model.safetensors."
    )
    assert (bad.peak_bytes, bad.cold_start_s, answers) == (None, None, [])
    assert findings.kinds("bad") == ["prepare"]
    assert [one.error for one in findings.of("good")[1]] == [""]
    assert findings.steps[-1].number == findings.steps[-1].count == 8


async def test_a_start_that_hangs_is_given_up() -> None:
    plan = replace(ONCE, patience_s=2.5)
    findings = await run(plan, fakes({"one": ["--load-s", "600"]}))
    assert findings.of("one")[0].error == "It wasn't ready after 2.5 s (weights)."


_FETCHING = """
def health(self):
    done = time.monotonic() - self.start_s
    if done > 3:
        return 200, {"status": "ready"}
    source = {"hub": "modelscope", "repo": "a/b", "revision": ""}
    amounts = {"done_bytes": int(done * 1e6), "total_bytes": 3000000, "bytes_per_s": 1e6}
    download = amounts | {"source": source, "left_s": 1.0}
    return 503, {"status": "loading", "stage": "download", "download": download}

fake_server.FakeServer.health = health
"""


async def test_a_download_may_take_longer_than_a_start_as_long_as_more_arrives() -> None:
    subject = Subject(GOOD, replace(ONCE, patience_s=2), fakes(code=_FETCHING))
    try:
        assert await subject.start() > 3
    finally:
        await subject.stop()


async def test_an_answer_that_hangs_is_given_up_and_the_next_model_is_measured() -> None:
    plan = Plan((model("a"), model("b")), (ENDLESS, WELL), repeats=1, patience_s=2.5)
    findings = await run(plan, fakes())
    for key in ("a", "b"):
        found, answers = findings.of(key)
        assert found.error == "It gave no whole answer within 2.5 s."
        assert [(one.prompt, one.error) for one in answers] == [(1, found.error)]
        assert answers[0].total_s is None
        assert found.warm_start_s is not None
        assert (found.peak_bytes or 0) > 5 * MB
        assert found.cpu_share is None
        assert findings.of(key, together=True)[0].error == (
            "Not run together: A, B can't be measured alone."
        )


async def test_a_model_that_dies_in_its_answer_is_not_started_again_unseen() -> None:
    dying = prompt(chunk({"content": "a"}), "DIE")
    findings = await run(replace(ONCE, prompts=(WELL, dying, WELL)), fakes())
    found, answers = findings.of("one")
    assert [bool(one.error) for one in answers] == [False, True]
    assert found.error == answers[1].error
    assert "SIGKILL (the system does so when memory runs out)" in found.error
    assert (found.peak_bytes or 0) > 5 * MB


async def test_a_prompt_that_is_refused_leaves_the_others_their_turn() -> None:
    refused = prompt('{"error": {"message": "no", "type": "x", "code": "x"}}', status=400)
    plan = replace(ONCE, prompts=(WELL, refused, WELL))
    found, answers = (await run(plan, fakes())).of("one")
    assert [bool(one.error) for one in answers] == [False, True, False]
    reason = "The model gave no usable answer; the log says more."
    assert answers[1].error == reason
    assert found.error == f"1 of 3 answers failed. {reason}"


async def test_an_empty_answer_is_none() -> None:
    empty = prompt(chunk(reason="stop"), "data: [DONE]\n\n")
    _, answers = (await run(replace(ONCE, prompts=(empty,)), fakes())).of("one")
    assert [(one.error, one.total_s) for one in answers] == [("The answer was empty.", None)]


async def test_a_model_that_does_not_fit_is_not_even_started_unless_it_is_forced() -> None:
    huge = model("huge", bits=32, parameters=10**15)
    plan = Plan((huge, GOOD), (WELL,), repeats=1)
    findings = await run(plan, fakes())
    found, answers = findings.of("huge")
    assert found.error.startswith("Not enough memory: 44")
    assert (found.warm_start_s, answers) == (None, [])
    assert [one.error for one in findings.of("good")[1]] == [""]
    forced = await run(plan, fakes(force=True))
    assert {one.error for one in forced.resources} == {""}


async def test_two_that_fit_alone_but_not_together_are_measured_alone() -> None:
    parameters = int(0.6 * free_bytes() / 4.4)
    pair = tuple(model(key, bits=32, parameters=parameters) for key in ("a", "b"))
    findings = await run(Plan(pair, (WELL,), repeats=1), fakes())
    for key in ("a", "b"):
        assert findings.of(key)[0].error == ""
        found, answers = findings.of(key, together=True)
        assert found.error.startswith("Not enough memory")
        assert answers == []
    assert findings.kinds("") == ["prepare"]


async def test_one_that_dies_while_both_run_ends_what_is_measured_of_both_together() -> None:
    def kill_one(step: Step) -> None:
        if step.kind == "together" and step.number == step.count - 1:
            (found,) = [one for one in servers() if first.spec in one.cmdline()]
            found.kill()

    first = model("a", folder=GOLDEN / "int8")
    plan = Plan((first, model("b")), (WELL,), repeats=3)
    findings = await run(plan, fakes(), kill_one)
    dead, its_answers = findings.of("a", together=True)
    alive, answers = findings.of("b", together=True)
    assert [bool(one.error) for one in its_answers] == [False, True]
    assert [one.error for one in answers] == ["", ""]
    assert "SIGKILL" in dead.error
    assert alive.error == f"A failed: {dead.error}"
    assert (alive.peak_bytes or 0) > 5 * MB
    assert findings.of("a")[0].error == findings.of("b")[0].error == ""


async def test_where_files_can_not_be_dropped_the_cold_start_is_missing_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    found, _ = (await run(ONCE, fakes())).of("one")
    assert found.cold_start_s is None
    assert found.warm_start_s is not None
    assert found.error == (
        "The cold start is missing: this system can't take files out of its cache."
    )


# --- models that run elsewhere --------------------------------------------------------------------


async def test_of_a_remote_model_only_the_latency_is_measured(fake: Fake) -> None:
    remote = resolve(f"{fake.url}#fake")
    plan = Plan((remote, GOOD), (WELL, "一加一等于几？"), repeats=2)
    findings = await run(plan, fakes(api_key="a-key"))
    for together in (False, True):
        found, answers = findings.of(remote.key, together=together)
        assert found.error == "It runs elsewhere: only its latency can be known from here."
        assert found.remote
        measured = (found.peak_bytes, found.cold_start_s, found.warm_start_s, found.cpu_share)
        local = (found.threads, found.size_bytes, found.disk_free_bytes)
        assert {*measured, *local} == {None}
        assert [one.error for one in answers] == [""] * 4
        assert all(one.completion_tokens == len(ANSWER) for one in answers)
    assert findings.kinds(remote.key) == ["prepare", *["answer"] * 4]


async def test_each_repeat_is_a_conversation_of_its_own_with_a_seed_of_its_own(fake: Fake) -> None:
    remote = resolve(f"{fake.url}#fake")
    plan = Plan((remote,), ("a", "b"), repeats=2)
    await run(plan, ServerSettings(api_key="a-key"))
    requests = fake.seen()["requests"]
    assert [one["body"]["seed"] for one in requests] == [1, 2, 1, 2]
    assert [one["body"]["messages"] for one in requests] == [
        [{"role": "user", "content": text}] for text in "aabb"
    ]
    assert {one["headers"]["authorization"] for one in requests} == {"Bearer a-key"}
    assert {one["body"]["max_tokens"] for one in requests} == {remote.defaults.max_tokens}


async def test_a_remote_model_that_can_not_be_reached_is_reported() -> None:
    remote = resolve("http://127.0.0.1:9/v1#nobody")
    findings = await run(Plan((remote,), ("a",), repeats=1, patience_s=1))
    found, answers = findings.of(remote.key)
    assert "It wasn't ready after 1 s (can't be reached: ConnectError" in found.error
    assert answers == []


# --- stopping, and plans that ask for nothing -----------------------------------------------------


async def test_who_stops_keeps_the_starts_and_what_was_used_so_far() -> None:
    events = measure(Plan((model("a"),), (WELL,), repeats=3), fakes())
    known: list[Resources] = []
    async for event in events:
        if isinstance(event, Resources):
            known.append(event)
        if isinstance(event, Step) and event.number == event.count:
            break
    await events.aclose()
    assert len(known) == 3  # after its start, and two answers
    assert known[0].warm_start_s is not None
    assert known[0].cpu_share is None
    assert known[-1].warm_start_s == known[0].warm_start_s
    assert known[-1].cpu_share is not None


@pytest.mark.parametrize("kind", ["prepare", "cold_start", "warm_start", "answer", "together"])
async def test_closing_at_any_step_leaves_no_server(kind: str) -> None:
    events = measure(Plan((model("a"), model("b")), (WELL,), repeats=1), fakes())
    async for event in events:
        if isinstance(event, Step) and event.kind == kind:
            break
    await events.aclose()
    assert servers() == []


@pytest.mark.slow
async def test_a_stop_in_mid_answer_ends_real_servers_too(tiny: Pair) -> None:
    plan = Plan(tiny, ("请写一首关于春天的五言诗。",), repeats=50, patience_s=60)
    answers: list[TimedAnswer] = []

    async def read() -> None:
        async with aclosing(measure(plan, ServerSettings())) as events:
            async for event in events:
                if isinstance(event, TimedAnswer):
                    answers.append(event)

    reading = asyncio.create_task(read())
    await until(lambda: len(answers) > 1, timeout_s=60)
    assert len(servers()) == 1
    reading.cancel()
    await asyncio.wait([reading])
    assert reading.cancelled()
    assert servers() == []


async def test_a_stop_while_servers_start_ends_them(tmp_path: Path) -> None:
    plan = Plan((model("a", folder=tmp_path),), (WELL,), repeats=1)
    reading = asyncio.create_task(run(plan, fakes({"a": ["--load-s", "600"]})))
    await until(lambda: len(servers()) == 1)
    reading.cancel()
    await asyncio.wait([reading])
    assert servers() == []


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (Plan((), (WELL,)), "Nothing is to be measured"),
        (Plan((GOOD,), ()), "Nothing is to be measured"),
        (Plan((GOOD,), (WELL,), repeats=0), "Nothing is to be measured"),
        (Plan((GOOD, GOOD), (WELL,)), "A model is measured once, but good, good are given"),
    ],
)
async def test_a_plan_that_asks_for_nothing_is_refused(plan: Plan, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        await run(plan, fakes())


def test_servers_are_told_what_the_app_would_tell_them() -> None:
    settings = ServerSettings(precision="int8,int4", hubs="huggingface", force=True)
    assert settings.options == [
        *("--hubs", "huggingface", "--cache-memory", "0", "--force", "--precision", "int8,int4")
    ]
    assert ServerSettings(api_key="secret").precisions == ()
    assert "secret" not in repr(ServerSettings(api_key="secret"))


@pytest.mark.parametrize(("threads", "given"), [(None, max(1, usable_cores() // 2)), (3, 3)])
async def test_a_model_gets_the_threads_that_the_app_would_give_it_unless_told_otherwise(
    threads: int | None, given: int
) -> None:
    plan = Plan((model("a"), model("b")), (WELL,), repeats=1, together=False)
    findings = await run(plan, fakes(threads=threads))
    assert [one.threads for one in findings.resources] == [given, given]


async def test_whoever_meters_the_machine_finds_each_server_while_it_runs() -> None:
    settings = fakes()
    seen: dict[str, set[str]] = {}

    def look(step: Step) -> None:
        seen.setdefault(step.kind, set()).update(one.model.key for one in settings.running)

    await run(Plan((GOOD,), (WELL,), repeats=1), settings, look)
    assert seen["answer"] == {"good"}
    assert not settings.running
