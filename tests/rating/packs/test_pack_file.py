"""A pack's file comes back as it was written, or not at all."""

import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from rating.errors import BadPack
from rating.packs import pack_file
from rating.packs.pack import Pack
from rating.packs.pack_file import read_pack, read_pack_from, write_pack
from rating.prompt_sets import built_in
from tests.rating.packs.samples import SET, answer, pack

Lines = list[dict[str, Any]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pack.jsonl.zst"


def lines_of(file: Path) -> Lines:
    data = zstandard.ZstdDecompressor().decompressobj().decompress(file.read_bytes())
    return [json.loads(line) for line in data.splitlines()]


def compressed(content: bytes) -> bytes:
    return zstandard.compress(content)


def refused(data: bytes) -> BadPack:
    with pytest.raises(BadPack) as caught:
        read_pack_from(io.BytesIO(data), "x.jsonl.zst")
    return caught.value


def test_a_pack_comes_back_as_it_was_written(file: Path) -> None:
    written = pack()
    write_pack(file, written)
    found = read_pack(file)
    assert found == written
    assert found.id == written.id
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_the_file_is_what_its_description_says(file: Path) -> None:
    write_pack(file, pack())
    head, *answers = lines_of(file)
    assert head["format"] == "twopane-answer-pack"
    assert head["version"] == 1
    assert head["prompt_set"] == {"id": SET.id, "name": "Small", "prompts": SET.as_json()}
    assert [model["key"] for model in head["models"]] == ["tiny-qwen", "tiny-chatglm"]
    assert head["models"][0]["settings"]["max_tokens"] == 256
    assert "tiny-qwen" not in head["models"][1]["names"]
    assert len(answers) == 6
    assert answers[0]["pieces"] == [[1, 10], [16, 20]]
    assert answers[0]["text"] == "color 1，tiny-qwen"


def test_the_hash_can_be_computed_as_it_is_described(file: Path) -> None:
    write_pack(file, pack())
    head, *answers = lines_of(file)
    said = head.pop("hash")
    head["prompt_set"] = head["prompt_set"]["id"]
    lines = [json.dumps(one, sort_keys=True, separators=(",", ":")) for one in (head, *answers)]
    assert hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest() == said


def test_the_hash_is_over_all_that_the_pack_says() -> None:
    known = pack()
    first, *others = known.answers
    changed = [
        replace(known, prompt_set=built_in()),
        replace(known, header=known.header.model_copy(update={"models": known.models[:1]})),
        replace(known, answers=(first.model_copy(update={"total_s": 9.0}), *others)),
        replace(known, answers=(*others, first)),
    ]
    assert len({one.id for one in (known, *changed)}) == 5
    assert pack().id == known.id


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda lines: lines[1].update(text="COLOR" + lines[1]["text"][5:]), "pack_changed"),
        (lambda lines: lines[1].update(total_s=9.5), "pack_changed"),
        (lambda lines: lines[0]["models"][0].update(precision="int4"), "pack_changed"),
        (lambda lines: lines[0]["prompt_set"]["prompts"].pop(), "pack_changed"),
        (lambda lines: lines[0].pop("hash"), "pack_changed"),
        (lambda lines: lines.pop(), "pack_incomplete"),
        (lambda lines: lines.append(lines[-1]), "pack_surplus"),
        (lambda lines: lines[1].update(position=3), "pack_surplus"),
        (lambda lines: lines[1].update(prompt_id="gold"), "pack_surplus"),
        (lambda lines: lines[1].update(model="other"), "pack_surplus"),
        (lambda lines: lines[1].update(text="short"), "pack_broken"),
        (lambda lines: lines[1].update(more=1), "pack_broken"),
        (lambda lines: lines[1].update(first_token_s=float("inf")), "pack_broken"),
        (lambda lines: lines[1].update(finish_reason="failed"), "pack_broken"),
        (lambda lines: lines[1].update(pieces=[]), "pack_broken"),
        (lambda lines: lines[0]["models"][0].update(key="a|b"), "pack_broken"),
        (lambda lines: lines[0].update(models=[]), "pack_broken"),
        (lambda lines: lines[0].pop("prompt_set"), "pack_broken"),
        (lambda lines: lines[0].update(version=2), "pack_newer"),
        (lambda lines: lines[0].update(format="other"), "pack_not_one"),
    ],
)
def test_what_is_not_as_it_was_made_is_refused(
    file: Path, change: Callable[[Lines], Any], code: str
) -> None:
    write_pack(file, pack())
    lines = lines_of(file)
    change(lines)
    error = refused(compressed(b"".join(json.dumps(line).encode() + b"\n" for line in lines)))
    assert error.code == code
    assert "x.jsonl.zst" in str(error)


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04 no zstd", compressed(b""), compressed(b"[]"), compressed(b"[" * 100_000)],
)
def test_what_is_no_pack_at_all_is_said_to_be_none(data: bytes) -> None:
    error = refused(data)
    assert error.code == "pack_not_one"
    assert "generate" in str(error)


def test_a_file_that_was_cut_off_is_refused_unless_only_its_end_mark_is_gone(file: Path) -> None:
    write_pack(file, pack())
    data = file.read_bytes()
    codes = {"pack_not_one", "pack_broken", "pack_incomplete"}
    assert {refused(data[:size]).code for size in range(len(data) - 8)} <= codes


def test_a_damaged_byte_is_noticed_unless_it_means_the_same(file: Path) -> None:
    write_pack(file, pack())
    data, refusals = bytearray(file.read_bytes()), 0
    places = range(0, len(data), 7)
    for place in places:
        data[place] ^= 0x10
        try:
            assert read_pack_from(io.BytesIO(bytes(data)), "x") == pack()
        except BadPack:
            refusals += 1
        data[place] ^= 0x10
    assert refusals > 0.9 * len(places)


def test_a_small_file_that_means_gigabytes_is_refused_without_unpacking_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_file, "LINE_LIMIT", 1_000_000)
    assert refused(compressed(b" " * 50_000_000)).code == "pack_too_large"
    monkeypatch.setattr(pack_file, "CONTENT_LIMIT", 200_000)
    write_pack(file, whole_with(text="长" * 100_000))
    error = refused(file.read_bytes())
    assert error.code == "pack_too_large"
    assert "200 kB" in str(error)


def whole_with(text: str) -> Pack:
    whole = pack()
    long = [answer(one.key, text=text, pieces=[[len(text), 1]]) for one in whole.answers]
    return replace(whole, answers=tuple(long))


def test_an_error_of_a_line_names_it_and_why(file: Path) -> None:
    write_pack(file, pack())
    lines = lines_of(file)
    lines[3]["seed"] = "x"
    error = refused(compressed(b"".join(json.dumps(line).encode() + b"\n" for line in lines)))
    assert error.details["line"] == 4
    assert re.search(r"seed: .*integer", str(error))
