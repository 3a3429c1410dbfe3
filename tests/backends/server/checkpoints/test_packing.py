"""Packed files: made once, mapped from then on, and never trusted unless whole and up to date."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from backends.checkpoint import read_checkpoint
from backends.server import load_model
from backends.server.checkpoints.packing import Entry, Part, _digest, packed_tensors
from backends.server.errors import CheckpointError
from tests.backends.server.chatglm_checkpoints import copy_golden
from tests.backends.server.packer import NAME, Packer, make_checkpoint
from tests.paths import ROOT

MEGABYTE = 2**20


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TWOPANE_CACHE", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "model")


def _packed(folder: Path) -> Path:
    return folder / "twopane" / f"{NAME}.safetensors"


def test_the_file_is_made_once_and_holds_what_was_planned(folder: Path) -> None:
    packer = Packer(folder)
    for _ in range(3):
        packer.assert_right(times=1)
    stored = load_file(_packed(folder))
    for name, tensor in packer.tensors().items():
        np.testing.assert_array_equal(stored[name], tensor, strict=True)


def test_every_tensor_begins_at_a_cache_line_and_can_not_be_written(folder: Path) -> None:
    for tensor in Packer(folder).tensors().values():
        assert tensor.ctypes.data % 64 == 0
        assert tensor.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            tensor[...] = 0


@pytest.mark.parametrize("made", [np.zeros(2, np.float64), np.zeros(3, np.float32)])
def test_a_tensor_that_is_another_than_planned_is_not_written(
    folder: Path, made: NDArray[Any]
) -> None:
    parts = [Part("a", np.float32, (2,), lambda: made)]
    with pytest.raises((TypeError, ValueError)):
        packed_tensors(folder, NAME, lambda: parts, layout=parts)
    assert not _packed(folder).exists()


def test_progress_is_told_only_while_the_file_is_made(folder: Path) -> None:
    packer = Packer(folder)
    packer.tensors()
    stages, shares = zip(*packer.progress, strict=True)
    assert set(stages) == {"converting"}
    assert list(shares) == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1
    packer.progress.clear()
    packer.tensors()
    assert packer.progress == []


def test_the_sub_folder_does_not_change_the_checkpoints_revision(folder: Path) -> None:
    before = read_checkpoint(folder).revision
    Packer(folder).tensors()
    assert _packed(folder).exists()
    assert read_checkpoint(folder).revision == before


def test_nothing_but_the_file_and_its_lock_is_left(folder: Path) -> None:
    Packer(folder).tensors()
    names = {path.name for path in (folder / "twopane").iterdir()}
    assert names <= {f"{NAME}.safetensors", f"{NAME}.lock"}


def test_changed_weights_are_packed_anew(folder: Path) -> None:
    packer = Packer(folder)
    packer.assert_right(times=1)
    save_file({"weight": np.arange(8, dtype=np.float32) + 1}, folder / "model.safetensors")
    packer.assert_right(times=2)


def _cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _change_the_last_byte(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))


def _rename_a_tensor(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"doubled", b"tripled"))


def _replace_by_another_file(path: Path) -> None:
    save_file({"doubled": np.zeros(8)}, path)


def _replace_by_garbage(path: Path) -> None:
    path.write_bytes(b"\xff" * 1000)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _write_as_another_version(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'_version": "2"', b'_version": "1"'))


@pytest.mark.parametrize(
    "damage",
    [
        _cut_in_half,
        _change_the_last_byte,
        _rename_a_tensor,
        _replace_by_another_file,
        _replace_by_garbage,
        _empty,
        _write_as_another_version,
    ],
)
def test_a_file_that_is_damaged_or_another_is_made_anew(folder: Path, damage: object) -> None:
    packer = Packer(folder)
    packer.tensors()
    assert callable(damage)
    damage(_packed(folder))
    packer.assert_right(times=2)
    packer.assert_right(times=2)


_WEIGHTS = np.arange(128, dtype=np.float32).reshape(8, 16)
_BIAS = np.arange(3, dtype=np.float32)
_LAYOUT = [Entry("weight", np.float32, (8, 16)), Entry("bias", np.float32, (3,))]


def _parts(**arrays: NDArray[Any]) -> list[Part]:
    return [Part(name, one.dtype, one.shape, one.copy) for name, one in arrays.items()]


def _pack(folder: Path, parts: Sequence[Part], **options: Any) -> tuple[dict[str, Any], bool]:
    """What is packed, and whether the file was made for it."""
    stages: list[str] = []
    layout = options.pop("layout", _LAYOUT)
    tensors = packed_tensors(
        folder,
        NAME,
        lambda: parts,
        lambda stage, _done: stages.append(stage),
        layout=layout,
        **options,
    )
    return tensors, "converting" in stages


def _assert_made_anew(folder: Path, **options: Any) -> None:
    """Makes sure that a file isn't trusted, but one that is made in its place."""
    for is_made in (True, False):
        tensors, made = _pack(folder, _parts(weight=_WEIGHTS, bias=_BIAS), **options)
        assert made == is_made
        assert list(tensors) == ["weight", "bias"]
        np.testing.assert_array_equal(tensors["weight"], _WEIGHTS, strict=True)
        np.testing.assert_array_equal(tensors["bias"], _BIAS, strict=True)


@pytest.mark.parametrize(
    "others",
    [
        {"weight": _WEIGHTS[:1], "bias": _BIAS},
        {"weight": _WEIGHTS, "bias": np.zeros(1_000_000, np.float32)},
        {"weight": _WEIGHTS.T, "bias": _BIAS},
        {"weight": _WEIGHTS.reshape(-1), "bias": _BIAS},
        {"weight": _WEIGHTS.astype(np.int32), "bias": _BIAS},
        {"weight": _WEIGHTS.astype(np.float16), "bias": _BIAS},
        {"weight": _WEIGHTS},
        {"weight": _WEIGHTS, "bias": _BIAS, "more": _BIAS},
        {"weight": _WEIGHTS, "Bias": _BIAS},
        {"bias": _BIAS, "weight": _WEIGHTS},
        {},
    ],
)
@pytest.mark.parametrize("huge_pages", [False, True])
def test_a_file_of_other_tensors_is_made_anew_though_its_digest_is_right(
    folder: Path, others: dict[str, NDArray[Any]], huge_pages: bool
) -> None:
    parts = _parts(**others)
    assert _pack(folder, parts, layout=parts)[1]
    assert not _pack(folder, parts, layout=parts)[1]
    _assert_made_anew(folder, huge_pages=huge_pages)


def _forge(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Changes a file's bytes and makes its digest right again, as anybody could."""
    before = _stated_digest(path)
    path.write_bytes(change(path.read_bytes()))
    with path.open("rb") as file:
        digest = _digest(file)
    path.write_bytes(path.read_bytes().replace(before, digest.encode()))


def _stated_digest(path: Path) -> bytes:
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    metadata = json.loads(whole[8 : 8 + length])["__metadata__"]
    return str(metadata["twopane_digest"]).encode()


def _with_a_longer_header(whole: bytes) -> bytes:
    """Whose data isn't aligned."""
    length = int.from_bytes(whole[:8], "little")
    return (length + 1).to_bytes(8, "little") + whole[8 : 8 + length] + b" " + whole[8 + length :]


def _with_data_elsewhere(whole: bytes) -> bytes:
    return whole.replace(b"[0, 512]", b"[1, 513]")


def _with_data_in_each_other(whole: bytes) -> bytes:
    return whole.replace(b"[512, 524]", b"[500, 512]")


def _with_an_endless_header(whole: bytes) -> bytes:
    return b"\xff" * 8 + whole[8:]


def _without_the_last_tensor(whole: bytes) -> bytes:
    return whole[:-64]


def _without_the_last_number(whole: bytes) -> bytes:
    return whole[:-55]


@pytest.mark.parametrize(
    "change",
    [
        _with_a_longer_header,
        _with_data_elsewhere,
        _with_data_in_each_other,
        _with_an_endless_header,
        _without_the_last_tensor,
        _without_the_last_number,
    ],
)
@pytest.mark.parametrize("huge_pages", [False, True])
def test_a_file_whose_data_lie_elsewhere_is_made_anew_though_its_digest_is_right(
    folder: Path, change: Callable[[bytes], bytes], huge_pages: bool
) -> None:
    parts = _parts(weight=_WEIGHTS, bias=_BIAS)
    _pack(folder, parts)
    whole = _packed(folder).read_bytes()
    _forge(_packed(folder), lambda whole: whole)
    assert _packed(folder).read_bytes() == whole
    _forge(_packed(folder), change)
    assert _packed(folder).read_bytes() != whole
    _assert_made_anew(folder, huge_pages=huge_pages)


@pytest.mark.parametrize("huge_pages", [False, True])
def test_a_file_that_was_cut_short_is_made_anew(folder: Path, huge_pages: bool) -> None:
    _pack(folder, _parts(weight=_WEIGHTS, bias=_BIAS))
    _cut_in_half(_packed(folder))
    _assert_made_anew(folder, huge_pages=huge_pages)


def test_a_plan_that_is_another_than_its_layout_is_not_written(folder: Path) -> None:
    with pytest.raises(ValueError, match="layout"):
        _pack(folder, _parts(weight=_WEIGHTS))
    assert not _packed(folder).exists()


def test_a_left_over_of_a_killed_conversion_is_removed(folder: Path) -> None:
    left = _packed(folder).with_name(f"{NAME}.safetensors.12345.partial")
    left.parent.mkdir()
    left.write_bytes(b"half")
    Packer(folder).assert_right(times=1)
    assert not left.exists()


def test_a_conversion_that_fails_leaves_nothing(folder: Path) -> None:
    def fail() -> NDArray[Any]:
        raise CheckpointError("damaged")

    parts = [Part("a", np.float32, (1,), fail)]
    with pytest.raises(CheckpointError, match="damaged"):
        packed_tensors(folder, NAME, lambda: parts, layout=parts)
    assert not [path for path in (folder / "twopane").iterdir() if path.suffix != ".lock"]


def test_where_a_file_stands_in_the_way_the_cache_folder_is_used(folder: Path, cache: Path) -> None:
    (folder / "twopane").write_text("in the way")
    packer = Packer(folder)
    packer.assert_right(times=1)
    packer.assert_right(times=1)
    assert len(list(cache.rglob(f"{NAME}.safetensors"))) == 1


def test_folders_of_one_name_do_not_share_a_cached_file(tmp_path: Path, cache: Path) -> None:
    for place in ("a", "b"):
        folder = make_checkpoint(tmp_path / place / "model")
        (folder / "twopane").write_text("in the way")
        Packer(folder).assert_right(times=1)
    assert len(list(cache.rglob(f"{NAME}.safetensors"))) == 2


def test_where_it_can_be_written_nowhere_the_error_says_what_to_do(
    folder: Path, cache: Path
) -> None:
    (folder / "twopane").write_text("in the way")
    cache.write_text("in the way")
    with pytest.raises(CheckpointError, match=r"(?s)twopane.*cache.*TWOPANE_CACHE"):
        Packer(folder).tensors()


def _run(
    code: str, *arguments: object, wrap: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    command = [*wrap, sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)


_PACK = """
import sys, resource
from pathlib import Path
from tests.backends.server.packer import Packer
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
Packer(Path(sys.argv[1])).assert_right(times=1)
"""


def test_a_folder_without_the_right_to_write_is_left_alone(folder: Path, cache: Path) -> None:
    # Root may write anywhere, but for a process that has given this up.
    powerless = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")
    wrap = powerless if os.geteuid() == 0 else ()
    if wrap and _run("", wrap=wrap).returncode:
        pytest.skip("root can't give up its right to write anywhere here")
    folder.chmod(0o555)
    try:
        done = _run(_PACK, folder, wrap=wrap)
    finally:
        folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert not (folder / "twopane").exists()
    assert len(list(cache.rglob(f"{NAME}.safetensors"))) == 1


def test_a_write_that_breaks_off_is_an_error_that_says_where(folder: Path, cache: Path) -> None:
    done = _run(_PACK, folder, 300)
    assert "CheckpointError" in done.stderr
    assert f"{folder / 'twopane'} (File too large)" in done.stderr
    assert str(cache) in done.stderr
    assert not list(folder.parent.rglob("*.partial"))


@pytest.fixture
def small_disk() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp())
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        place.rmdir()
        pytest.skip("no right to mount a small disk here")
    yield place
    subprocess.run(["umount", str(place)], check=True)
    place.rmdir()


def _pack_much(folder: Path, size_bytes: int) -> dict[str, NDArray[Any]]:
    shape = (size_bytes,)
    parts = [Part("large", np.uint8, shape, lambda: np.zeros(shape, np.uint8))]
    return packed_tensors(folder, NAME, lambda: parts, layout=parts)


def test_a_full_disk_beside_the_checkpoint_leaves_the_cache_folder(
    small_disk: Path, cache: Path
) -> None:
    folder = make_checkpoint(small_disk / "model")
    tensors = _pack_much(folder, 2 * MEGABYTE)
    assert len(tensors["large"]) == 2 * MEGABYTE
    assert len(list(cache.rglob(f"{NAME}.safetensors"))) == 1


def test_full_disks_everywhere_are_an_error_with_the_figures(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_checkpoint(small_disk / "model")
    monkeypatch.setenv("TWOPANE_CACHE", str(small_disk / "cache"))
    with pytest.raises(CheckpointError, match=r"0\.002 GB are needed, 0\.001 GB are free"):
        _pack_much(folder, 2 * MEGABYTE)
    assert not list(small_disk.rglob("*.partial"))


_CONVERT_SLOWLY = """
import sys, time
from backends.checkpoint import read_checkpoint
from backends.server import load_model

def wait(stage, done):
    if stage == "converting" and done > 0.5:
        print("half", flush=True)
        time.sleep(60)

load_model(sys.argv[1], "int4", wait)
"""


def _start_conversion(folder: Path) -> subprocess.Popen[str]:
    """A process in the middle of a conversion."""
    command = [sys.executable, "-c", _CONVERT_SLOWLY, str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    return process


def test_a_conversion_killed_in_the_middle_leaves_nothing_that_is_trusted(tmp_path: Path) -> None:
    folder = copy_golden(tmp_path / "model", "int4")
    whole = copy_golden(tmp_path / "whole", "int4")
    expected = load_model(whole, "int4").logits([5, 6, 268, 271])
    with _start_conversion(folder) as process:
        process.send_signal(signal.SIGKILL)
    left = list((folder / "twopane").iterdir())
    assert any(path.suffix == ".partial" for path in left)
    assert not any(path.suffix == ".safetensors" for path in left)
    np.testing.assert_array_equal(load_model(folder, "int4").logits([5, 6, 268, 271]), expected)
    names = {path.suffix for path in (folder / "twopane").iterdir()}
    assert names <= {".safetensors", ".lock"}


def test_a_second_process_waits_for_the_first_ones_file(tmp_path: Path) -> None:
    folder = copy_golden(tmp_path / "model", "int4")
    stages: list[str] = []
    code = _CONVERT_SLOWLY.replace("sleep(60)", "sleep(0.05)")
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        load_model(folder, "int4", lambda stage, _done: stages.append(stage))
        process.stdout.read()
    assert process.returncode == 0
    assert "converting" not in stages


_MEMORY = """
import sys
import numpy as np
from pathlib import Path
from backends.server.checkpoints.packing import Entry, Part, _digest, packed_tensors

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    found = (line.split() for line in lines if line.startswith("Rss"))
    return {line[0]: int(line[1]) // 1024 for line in found}

size = 200 * 2**20
part = Part("large", np.uint8, (size,), lambda: np.ones(size, np.uint8))
before = resident()
tensor = packed_tensors(Path(sys.argv[1]), "large", lambda: [part], layout=[part])["large"]
mapped = resident()
assert tensor.sum(dtype=int) == size
touched = resident()
print(mapped["RssAnon:"] - before["RssAnon:"], touched["RssAnon:"] - mapped["RssAnon:"],
      touched["RssFile:"] - mapped["RssFile:"])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells")
def test_a_packed_file_is_mapped_and_not_read_into_memory(folder: Path) -> None:
    assert _run(_MEMORY, folder).returncode == 0
    done = _run(_MEMORY, folder)
    assert done.returncode == 0, done.stderr
    at_load, anonymous, of_the_file = map(int, done.stdout.split())
    assert at_load < 20
    assert anonymous < 20
    assert of_the_file > 150


def test_the_file_may_be_read_like_the_checkpoint(folder: Path) -> None:
    before = os.umask(0o022)
    try:
        Packer(folder).tensors()
    finally:
        os.umask(before)
    assert _packed(folder).stat().st_mode & 0o777 == 0o644


def test_a_moved_checkpoint_keeps_its_packed_file(folder: Path, tmp_path: Path) -> None:
    Packer(folder).tensors()
    moved = Path(shutil.move(folder, tmp_path / "moved"))
    Packer(moved).assert_right(times=0)
