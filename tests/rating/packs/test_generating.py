"""Models answer a whole prompt set: as conversations, repeatably, and resumed wherever it ended."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.single import ServerSettings
from backends.specs import resolve
from db import Dimension, Language
from rating.packs import generating
from rating.packs.generating import Missing, finish, generate, seed_of
from rating.packs.pack_file import read_pack
from rating.packs.unfinished import CannotGenerate, Order, opened
from rating.prompt_sets import Prompt, PromptSet
from tests.backends.conftest import Fake, running_fake
from tests.rating.packs.samples import SET

FAIL = json.dumps({"status": 500, "body": ["no"]})
TOO_LONG = json.dumps(
    {"status": 400, "body": ['{"error": {"code": "context_length_exceeded", "message": "x"}}']}
)
ANSWER = "你好！很高兴见到你。"


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generating, "_RETRY_S", 0.01)


@pytest.fixture
def remote() -> Iterator[Fake]:
    """A scripted endpoint, which answers in milliseconds and remembers what it was asked."""
    with running_fake() as fake:
        yield fake


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "pack.jsonl.zst.part"


def order(remote: Fake, prompt_set: PromptSet = SET, *names: str) -> Order:
    names = names or ("fake", "llama3")
    return Order(prompt_set, [resolve(f"{remote.url}/v1#{name}") for name in names])


def prompts(*turns: str, prompt: str = "a") -> PromptSet:
    one = Prompt(id=prompt, language=Language.EN, category=Dimension.MEMORY, turns=turns)
    return PromptSet("One", (one,))


async def run(part: Path, wanted: Order) -> tuple[list[Missing], list[str]]:
    """Generate; return what is missing and the lines that were told."""
    told: list[str] = []
    with opened(part, wanted) as unfinished:
        missing = await generate(wanted, ServerSettings(), unfinished, told.append)
        if not missing:
            finish(wanted, unfinished, part.with_suffix(""))
    return missing, told


def kept(part: Path) -> list[bytes]:
    """The lines of the unfinished pack; none where there is no such file."""
    return part.read_bytes().splitlines(keepends=True) if part.exists() else []


def leave(part: Path, *lines: bytes) -> None:
    """Have only these lines in the file, as a crash may."""
    part.write_bytes(b"".join(lines))


def asked(remote: Fake) -> list[list[str]]:
    """What was said in each conversation that the endpoint was to go on with."""
    bodies = [request["body"] for request in remote.seen()["requests"]]
    return [[message["content"] for message in body["messages"]] for body in bodies]


async def test_every_prompt_is_answered_by_every_model_as_a_conversation(
    remote: Fake, part: Path
) -> None:
    wanted = order(remote)
    missing, told = await run(part, wanted)
    pack = read_pack(part.with_suffix(""))
    assert missing == []
    assert [answer.key for answer in pack.answers] == [
        (prompt, position, model)
        for model in wanted.keys
        for prompt, position in (("color", 1), ("color", 2), ("sum", 1))
    ]
    conversations = [["我爱蓝。"], ["我爱蓝。", ANSWER, "哪种？"], ["2 + 3?"]]
    assert asked(remote) == conversations * 2
    assert {answer.text for answer in pack.answers} == {ANSWER}
    assert pack.prompt_set == SET
    assert kept(part) == []
    assert told[1].startswith("[1/6] ")
    assert told[-1].startswith("[6/6] ")
    assert told[-1].endswith(": sum (0 s left)")


async def test_times_and_tokens_are_those_of_the_answer(remote: Fake, part: Path) -> None:
    await run(part, order(remote))
    for answer in read_pack(part.with_suffix("")).answers:
        assert [length for length, _ in answer.pieces] == [2, 4, 3, 1]
        assert answer.pieces[-1][1] >= 30
        assert answer.first_token_s < 0.03 + answer.first_token_s < answer.total_s < 5
        assert (answer.prompt_tokens, answer.completion_tokens) == (7, 4)


async def test_a_turn_has_the_same_seed_for_every_model_and_each_time(
    remote: Fake, part: Path
) -> None:
    await run(part, order(remote))
    seeds: dict[tuple[str, int], set[int]] = {}
    for answer in read_pack(part.with_suffix("")).answers:
        seeds.setdefault((answer.prompt_id, answer.position), set()).add(answer.seed)
    assert seeds == {key: {seed_of(*key)} for key in seeds}
    assert len({seed_of(*key) for key in seeds}) == 3
    sent = {request["body"]["seed"] for request in remote.seen()["requests"]}
    assert sent == {seed_of(*key) for key in seeds}
    assert seed_of("color", 1) == 959641410  # never to be changed


async def test_what_was_answered_is_not_asked_again(remote: Fake, part: Path) -> None:
    wanted = order(remote)
    with opened(part, wanted) as unfinished:
        await generate(wanted, ServerSettings(), unfinished, lambda _: None)
    lines = kept(part)
    assert len(lines) == 1 + 2 + 6
    leave(part, *lines[:3], lines[3][: len(lines[3]) // 2])  # the second answer is torn
    before = len(asked(remote))
    missing, _ = await run(part, wanted)
    assert missing == []
    assert asked(remote)[before:] == [
        ["我爱蓝。", ANSWER, "哪种？"],
        ["2 + 3?"],
        ["我爱蓝。"],
        ["我爱蓝。", ANSWER, "哪种？"],
        ["2 + 3?"],
    ]


async def test_an_answer_that_fails_is_asked_for_again_and_then_reported_with_what_follows(
    remote: Fake, part: Path
) -> None:
    both = (*prompts("Hi", FAIL, "Ho").prompts, *prompts("2 + 3?", prompt="b").prompts)
    wanted = order(remote, PromptSet("Both", both), "fake")
    missing, _ = await run(part, wanted)
    key = wanted.keys[0]
    assert [one.key for one in missing] == [("a", 2, key), ("a", 3, key)]
    assert missing[0].reason == "The model gave no usable answer; the log says more."
    assert missing[1].reason == "Turn 2 has no answer."
    assert [words[-1] for words in asked(remote)] == ["Hi", FAIL, FAIL, FAIL, "2 + 3?"]
    assert kept(part)
    assert len((await run(part, wanted))[0]) == 2
    assert [words[-1] for words in asked(remote)][5:] == [FAIL] * 3


async def test_a_prompt_that_is_too_long_is_not_asked_again(remote: Fake, part: Path) -> None:
    missing, _ = await run(part, order(remote, prompts(TOO_LONG), "fake"))
    assert [one.reason for one in missing] == ["The prompt doesn't fit the model's context."]
    assert len(asked(remote)) == 1


async def test_an_empty_answer_is_asked_for_with_another_seed(remote: Fake, part: Path) -> None:
    stop = 'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
    empty = json.dumps({"body": [stop, "data: [DONE]\n\n"]})
    missing, _ = await run(part, order(remote, prompts(empty), "fake"))
    assert [one.reason for one in missing] == ["The answer was empty."]
    sent = [request["body"]["seed"] for request in remote.seen()["requests"]]
    assert sent == [seed_of("a", 1) + number for number in range(3)]


async def test_a_model_that_can_not_be_reached_leaves_the_others_answers(
    remote: Fake, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generating, "PATIENCE_S", 0.5)
    wanted = order(remote, SET, "fake")
    gone = resolve("http://127.0.0.1:9/v1#gone")
    both = replace(wanted, models=[gone, *wanted.models])
    missing, _ = await run(part, both)
    assert [one.key[2] for one in missing] == ["gone@127.0.0.1:9"] * 3
    assert "wasn't ready" in missing[0].reason
    with opened(part, both) as unfinished:
        assert len(unfinished.answers) == 3


def changed(wanted: Order, **changes: Any) -> Order:
    return replace(wanted, **changes)


def test_an_unfinished_pack_is_gone_on_with_only_as_it_was_begun(part: Path) -> None:
    tiny = [replace(resolve(key), revision=f"{key}-1") for key in ("tiny-qwen", "tiny-chatglm")]
    wanted = Order(SET, tiny)
    with opened(part, wanted):
        pass
    others = {
        "prompt_set: ": changed(wanted, prompt_set=prompts("Hi")),
        "models: tiny-qwen, tiny-chatglm, now tiny-qwen": changed(wanted, models=tiny[:1]),
        "precision: none, now int8": changed(wanted, precision="int8"),
        "revision of tiny-qwen: tiny-qwen-1, now other": changed(
            wanted, models=[replace(tiny[0], revision="other"), tiny[1]]
        ),
    }
    before = part.read_bytes()
    for words, other in others.items():
        with pytest.raises(CannotGenerate, match=words), opened(part, other):
            pytest.fail("it was opened")
    assert part.read_bytes() == before


def test_a_revision_that_was_not_known_before_the_weights_were_fetched_is_no_difference(
    part: Path,
) -> None:
    known = resolve("tiny-qwen")
    for revision in ("", "1", "1"):
        with opened(part, Order(SET, [replace(known, revision=revision)])):
            pass


async def test_a_model_that_answers_otherwise_than_before_is_refused_with_what_differs(
    remote: Fake, part: Path
) -> None:
    wanted = order(remote, SET, "fake")
    with opened(part, wanted) as unfinished:
        await generate(wanted, ServerSettings(), unfinished, lambda _: None)
    head, model, first, *_ = kept(part)
    entry = json.loads(model)
    entry["model"]["settings"]["temperature"] = 0.1
    leave(part, head, json.dumps(entry).encode() + b"\n", first)
    with pytest.raises(CannotGenerate, match=r"settings of fake.*temperature 0\.1.*now.*0\.7"):
        await run(part, wanted)


@pytest.mark.parametrize("content", ["what\n", "{}\n", '{"format": "x", "version": 1}\n', "5\n"])
def test_another_file_in_its_place_is_left_alone(part: Path, content: str) -> None:
    part.write_text(content)
    with (
        pytest.raises(CannotGenerate, match="no unfinished pack"),
        opened(part, Order(SET, [resolve("tiny-qwen")])),
    ):
        pytest.fail("it was opened")
    assert part.read_text() == content


def test_two_processes_do_not_write_the_same_pack(part: Path) -> None:
    wanted = Order(SET, [resolve("tiny-qwen")])
    with (
        opened(part, wanted),
        pytest.raises(CannotGenerate, match="another process"),
        opened(part, wanted),
    ):
        pytest.fail("it was opened twice")
