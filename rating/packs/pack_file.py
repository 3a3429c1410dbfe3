"""The file of an answer pack: JSON lines, compressed with zstandard.

The first line is the header: the prompt set, the models, and the hash that says whether the file
is as it was made; each other line is an answer. Reading checks all of it and has limits, since the
file may come from anybody and a short one can mean gigabytes. docs/packs.md describes the format.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from backends.amounts import bytes_text
from rating.errors import BadPack
from rating.packs.pack import FORMAT, VERSION, AnswerEntry, Header, Key, Pack, wanted
from rating.prompt_sets import PromptSet

SUFFIX = ".jsonl.zst"
CONTENT_LIMIT = 200_000_000
"""What the lines may take together, in bytes; of the built-in set's answers, a million or two."""
LINE_LIMIT = 20_000_000
"""Longest line, in bytes: an answer as long as it may be, with its pieces."""

_WINDOW_LIMIT = 2**25  # bytes that a decompressor has to keep in memory; we write 2**22
_LEVEL = 10
_CHUNK = 2**16

Part = TypeVar("Part", bound=BaseModel)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def write_pack(file: Path, pack: Pack) -> None:
    """Write `pack` as `file`; until it is whole, it is another file beside.

    Raises:
        OSError: It can't be written.
    """
    import zstandard  # noqa: PLC0415 -- only few commands need it

    unfinished = file.with_name(f"{file.name}.new")
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    with unfinished.open("wb") as raw, compressor.stream_writer(raw) as stream:
        for line in (_head(pack), *(answer.as_json() for answer in pack.answers)):
            stream.write(as_line(line))
    unfinished.replace(file)


def as_line(content: Any) -> bytes:
    """Return `content` as a line of JSON in UTF-8."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def read_pack(file: Path) -> Pack:
    """Return the pack in `file`.

    Raises:
        BadPack: It is none, not whole, or not as it was made.
        OSError: The file can't be read.
    """
    with file.open("rb") as raw:
        return read_pack_from(raw, file.name)


def read_pack_from(raw: BinaryIO, name: str) -> Pack:
    """Return the pack that `raw` holds; `name` is what errors call it.

    Raises:
        BadPack: It is none, not whole, or not as it was made.
    """
    lines = enumerate(_lines(raw, name), start=1)
    _, first = next(lines, (1, b""))
    head = _read_head(first, name)
    prompt_set, header = _parts_of(head, name)
    answers = [(number, _answer_of(line, name, number)) for number, line in lines]
    _check_whole(prompt_set, header, answers, name)
    pack = Pack(prompt_set, header, tuple(answer for _, answer in answers))
    if pack.id != head.get("hash"):
        raise BadPack("pack_changed", f"{name}: the hash doesn't fit the content.", name=name)
    return pack


def _head(pack: Pack) -> dict[str, Any]:
    prompt_set = pack.prompt_set
    return {
        "format": FORMAT,
        "version": VERSION,
        "hash": pack.id,
        **pack.header.as_json(),
        "prompt_set": {
            "id": prompt_set.id,
            "name": prompt_set.name,
            "prompts": prompt_set.as_json(),
        },
    }


# --- lines ----------------------------------------------------------------------------------------


def _lines(raw: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield the decompressed lines, never more than the limits at a time."""
    import zstandard  # noqa: PLC0415

    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_LIMIT)
    number = 0
    try:
        with decompressor.stream_reader(raw, closefd=False, read_across_frames=True) as stream:
            for line in split_lines(_limited(stream, name)):
                number += 1
                yield line
    except zstandard.ZstdError as error:
        if number == 0:
            raise _not_one(name) from error
        raise _broken(name, number + 1, "its compressed data are damaged") from error
    except ValueError as error:
        raise _too_large(name, LINE_LIMIT) from error


def _limited(stream: _Readable, name: str) -> Iterator[bytes]:
    read = 0
    while chunk := stream.read(_CHUNK):
        read += len(chunk)
        if read > CONTENT_LIMIT:
            raise _too_large(name, CONTENT_LIMIT)
        yield chunk


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines in `chunks` without their ends; the last one also where its end is missing.

    Raises:
        ValueError: A line is longer than the limit.
    """
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
        if len(rest) > LINE_LIMIT:
            raise ValueError("the line is too long")
    if rest:
        yield rest


# --- checking -------------------------------------------------------------------------------------


def _read_head(line: bytes, name: str) -> dict[str, Any]:
    try:
        head = _parsed(line)
    except ValueError as error:
        raise _not_one(name) from error
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise _not_one(name)
    if head.get("version") != VERSION:
        version = str(head.get("version"))[:20]
        words = f"{name} has version {version} of the format; this Twopane reads {VERSION}."
        raise BadPack("pack_newer", words, name=name, version=version)
    return head


def _parts_of(head: dict[str, Any], name: str) -> tuple[PromptSet, Header]:
    """Return the prompt set in the header, and what else it says."""
    try:
        said = head["prompt_set"]
        prompt_set = PromptSet.from_json(str(said["name"])[:200], said["prompts"])
        right = prompt_set.id == said["id"]
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(name, 1, _reason(error)) from error
    if not right:
        raise BadPack("pack_changed", f"{name}: its prompts were changed.", name=name)
    header = {key: head.get(key) for key in Header.model_fields}
    return prompt_set, _checked(Header, header, name, 1)


def _answer_of(line: bytes, name: str, number: int) -> AnswerEntry:
    try:
        content = _parsed(line)
    except ValueError as error:
        raise _broken(name, number, _reason(error)) from error
    return _checked(AnswerEntry, content, name, number)


def _parsed(line: bytes) -> Any:
    """Return what a line says. Raises ValueError if it is no JSON."""
    try:
        return json.loads(line)
    except RecursionError as error:
        raise ValueError("lists in lists in lists") from error


def _checked(part: type[Part], content: Any, name: str, number: int) -> Part:
    try:
        return part.model_validate(content)
    except ValueError as error:
        raise _broken(name, number, _reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where[:60]}: {first['msg']}" if where else first["msg"]
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)[:200]


def _check_whole(
    prompt_set: PromptSet, header: Header, answers: list[tuple[int, AnswerEntry]], name: str
) -> None:
    """See to it that each model has answered each turn once, and nothing else."""
    missing: dict[Key, None] = dict.fromkeys(
        wanted(prompt_set, [model.key for model in header.models])
    )
    for number, answer in answers:
        if answer.key not in missing:
            raise _wrong_answer("pack_surplus", name, answer.key, line=number)
        del missing[answer.key]
    if missing:
        raise _wrong_answer("pack_incomplete", name, next(iter(missing)), missing=len(missing))


def _wrong_answer(code: str, name: str, key: Key, **more: int) -> BadPack:
    prompt_id, position, model = key
    words = "is missing" if code == "pack_incomplete" else "is too much"
    details = {"name": name, "prompt": prompt_id, "position": position, "model": model, **more}
    message = f"{name}: the answer of {model} to turn {position} of {prompt_id} {words}."
    return BadPack(code, message, **details)


def _not_one(name: str) -> BadPack:
    words = f"{name} is no answer pack. Give a file that `python app.py generate` has made."
    return BadPack("pack_not_one", words, name=name)


def _broken(name: str, line: int, reason: str) -> BadPack:
    words = f"{name} can't be read at line {line}: {reason}. Copy it again, or generate it anew."
    return BadPack("pack_broken", words, name=name, line=line, reason=reason)


def _too_large(name: str, limit: int) -> BadPack:
    words = f"{name} holds more than an answer pack may ({bytes_text(limit)})."
    return BadPack("pack_too_large", words, name=name, limit=bytes_text(limit))
