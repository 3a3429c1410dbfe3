"""Contenders as processes: what they are asked and say, in turn, and what becomes of failures."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from benchmarks.peers.children.commands import answer, peak_bytes, prompt
from benchmarks.peers.contender import Contender, ContenderError, RunningContender
from benchmarks.peers.measures import Measure, Sample
from benchmarks.peers.rounds import Race, Run

# A contender that notes what it is asked, and how many cores it has.
SCRIPT = """
import os, sys, time
from pathlib import Path
from benchmarks.peers.children.commands import serve

name, notes, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

def decode(tokens):
    print("a library says hello")
    with notes.open("a") as file:
        file.write(f"{name} {tokens} ")
    return tokens * threads

def load():
    if name == "broken":
        raise OSError("no such weights")
    def fail():
        raise ValueError("what?")
    def end():
        print("a last word", file=sys.stderr, flush=True)
        os._exit(3)
    cores = lambda: len(os.sched_getaffinity(0))
    variable = lambda: int(os.environ["HOW_MANY"])
    return {"decode": decode, "fail": fail, "end": end, "cores": cores, "variable": variable}

serve(load, time.perf_counter)
"""


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def contender(name: str, notes: Path) -> Contender:
    command = (sys.executable, "-c", SCRIPT, name, str(notes))
    return Contender(name, command, {}, "HOW_MANY")


@pytest.fixture
def running(notes: Path, tmp_path: Path) -> Iterator[RunningContender]:
    with RunningContender(contender("a", notes), 1, tmp_path / "a.log") as child:
        yield child


def race(notes: Path, tmp_path: Path, run: Run, *measures: Measure, rounds: int = 2) -> list[str]:
    names = {sample.contender for one in measures for sample in (one.first, one.second)}
    contenders = {name: contender(name, notes) for name in names}
    return list(Race(contenders, run, tmp_path).go(measures, rounds, 1))


def test_a_contender_answers_whatever_its_libraries_print(running: RunningContender) -> None:
    assert running.ask("decode 7") == 7
    assert running.ask("decode 8") == 8
    assert running.load_s >= 0


def test_a_contender_has_as_many_cores_as_threads_and_the_others_keep_theirs(
    notes: Path, tmp_path: Path
) -> None:
    before = os.sched_getaffinity(0)
    with RunningContender(contender("a", notes), 1, tmp_path / "a.log") as running:
        assert running.ask("cores") == 1
        assert running.ask("variable") == 1
    assert os.sched_getaffinity(0) == before


def test_a_contender_that_is_not_asked_is_stopped(running: RunningContender) -> None:
    running.ask("decode 1")
    for _ in range(100):
        state = _state(running.pid)
        if state == "T":
            return
        time.sleep(0.01)
    pytest.fail(f"state: {state}")


def test_a_contender_that_fails_goes_on(running: RunningContender) -> None:
    with pytest.raises(ContenderError, match=r"a: fail: ValueError: what\?"):
        running.ask("fail")
    assert running.ask("decode 2") == 2


def test_a_contender_that_ends_leaves_its_last_words(running: RunningContender) -> None:
    with pytest.raises(ContenderError, match=r"a has ended: .*a last word"):
        running.ask("end")


def test_a_contender_that_cannot_load_says_why(notes: Path, tmp_path: Path) -> None:
    with pytest.raises(ContenderError, match="broken: OSError: no such weights"):
        RunningContender(contender("broken", notes), 1, tmp_path / "log")


def test_contenders_take_turns(notes: Path, tmp_path: Path) -> None:
    run = Run("qwen", 1)
    race(notes, tmp_path, run, _measure("a", "b", 3), _measure("a", "b", 4))
    assert notes.read_text() == "a 3 b 3 a 4 b 4 a 3 b 3 a 4 b 4 "
    assert [list(one.values()) for one in run.rounds] == [[3, 3, 4, 4]] * 2
    assert run.peak_bytes.keys() == {"a", "b"}


def test_slow_samples_take_part_in_fewer_rounds(notes: Path, tmp_path: Path) -> None:
    race(notes, tmp_path, Run("qwen", 1), _measure("a", "b", 3), _measure("a", "b", 9, slow=True))
    assert notes.read_text() == "a 3 b 3 a 9 b 9 a 3 b 3 "


def test_a_race_goes_on_without_a_contender_that_cannot_load(notes: Path, tmp_path: Path) -> None:
    run = Run("qwen", 1)
    race(notes, tmp_path, run, _measure("a", "broken", 3))
    assert notes.read_text() == "a 3 a 3 "
    assert run.failures == {"broken": "broken: OSError: no such weights"}


def test_a_contender_that_fails_once_is_left_out_from_then_on(notes: Path, tmp_path: Path) -> None:
    run = Run("qwen", 1)
    failing = Measure("qwen-x", "", Sample("b", "fail"), Sample("b", "decode 5"), least=1.0)
    race(notes, tmp_path, run, _measure("a", "b", 3), failing)
    assert notes.read_text() == "a 3 b 3 a 3 "
    assert run.failures.keys() == {"b"}


def test_a_command_that_fails_is_an_answer() -> None:
    def fail() -> None:
        raise ValueError("what?")

    assert answer({"fail": fail}, "fail\n") == {"error": "fail: ValueError: what?"}
    assert "error" in answer({}, "decode 3\n")


def test_a_commands_arguments_are_whole_numbers() -> None:
    commands: Mapping[str, object] = {"crowd": lambda number, tokens: number * tokens}
    assert answer(commands, "crowd 8 64\n") == {"value": 512}  # type: ignore[arg-type]


@pytest.mark.parametrize("tokens", [2, 32, 2048])
def test_a_prompt_has_its_length_with_its_end_and_ordinary_ids_before(tokens: int) -> None:
    ids = prompt(tokens, 130000, (130001, 130004))
    assert len(ids) == tokens
    assert ids[-2:] == [130001, 130004]
    assert all(1300 <= token < 130000 for token in ids[:-2])


def test_prompts_that_start_elsewhere_share_no_beginning() -> None:
    assert prompt(8, 1000)[0] != prompt(8, 1000, start=10_007)[0]


def test_the_peak_is_at_least_what_is_held() -> None:
    held = bytearray(50_000_000)
    assert peak_bytes() > len(held)


def _measure(first: str, second: str, tokens: int, *, slow: bool = False) -> Measure:
    command = f"decode {tokens}"
    one, other = Sample(first, command, slow=slow), Sample(second, command, slow=slow)
    return Measure(f"qwen-{tokens}", "", one, other, least=1.0)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
