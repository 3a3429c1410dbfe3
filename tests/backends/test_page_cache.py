import mmap
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from backends.page_cache import StillCached, cached_bytes, drop, model_files
from backends.specs import resolve
from tests.backends.server.packer import NAME, Packer, make_checkpoint
from tests.paths import ROOT

MB = 2**20
needs_linux = pytest.mark.skipif(not psutil.LINUX, reason="looks into Linux's file cache")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of 8 MB."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(os.urandom(8 * MB))
    return path


def droppable(folder: Path) -> bool:
    """Whether files there can leave the memory at all: on a disk that is memory they can't."""
    try:
        return drop(path for path in folder.rglob("*") if path.is_file())
    except StillCached:
        return False


@needs_linux
def test_a_dropped_file_has_left_the_memory(weights: Path) -> None:
    if not droppable(weights.parent):
        pytest.skip("the temporary folder is memory")
    weights.read_bytes()
    assert cached_bytes(weights) == 8 * MB
    assert drop([weights])
    assert cached_bytes(weights) == 0


@needs_linux
def test_looking_what_is_in_memory_brings_nothing_there(weights: Path) -> None:
    if not droppable(weights.parent):
        pytest.skip("the temporary folder is memory")
    with weights.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(file.fileno(), 1, MB)
    assert [cached_bytes(weights) for _ in range(3)] == [mmap.PAGESIZE] * 3


@needs_linux
def test_a_file_that_another_program_holds_is_not_called_dropped(weights: Path) -> None:
    with weights.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        assert sum(held[:: mmap.PAGESIZE]) > 0
        with pytest.raises(StillCached, match="another program"):
            drop([weights])


@needs_linux
def test_a_file_on_a_disk_that_is_memory_is_not_called_dropped(weights: Path) -> None:
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as folder,
        pytest.raises(StillCached, match="a disk that is memory"),
    ):
        drop([Path(shutil.copy(weights, folder))])


_DROP = """
import os
from pathlib import Path
from backends.page_cache import drop
print(drop([Path(os.__file__)]))
"""


@needs_linux
def test_of_another_users_file_nothing_is_told() -> None:
    other = ("setpriv", "--reuid=65534", "--clear-groups") if os.geteuid() == 0 else ()
    command = [*other, sys.executable, "-c"]
    if other and subprocess.run([*command, ""], capture_output=True, check=False).returncode:
        pytest.skip("root can't become another user here")
    done = subprocess.run([*command, _DROP], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_system_that_can_not_drop_files_says_so(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    with pytest.raises(StillCached, match="this system"):
        drop([weights])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StillCached, match="none"):
        drop([tmp_path / "none"])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TWOPANE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.usefixtures("cache")
def test_a_models_files_are_its_weights_and_what_was_packed_beside_them(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model")
    Packer(folder).tensors()
    names = {path.name for path in model_files(replace(resolve("tiny-qwen"), folder=folder))}
    assert {"config.json", "model.safetensors", f"{NAME}.safetensors"} <= names


def test_a_models_files_are_also_what_had_to_be_packed_elsewhere(
    tmp_path: Path, cache: Path
) -> None:
    folder = make_checkpoint(tmp_path / "model")
    (folder / "twopane").write_text("in the way")
    Packer(folder).tensors()
    (packed,) = cache.rglob(f"{NAME}.safetensors")
    model = replace(resolve("tiny-qwen"), folder=folder)
    assert packed in model_files(model)
    assert packed not in model_files(replace(model, folder=make_checkpoint(tmp_path / "other")))


def test_an_adapter_belongs_to_a_models_files(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").touch()
    model = replace(resolve("tiny-qwen"), adapter=tmp_path)
    assert tmp_path / "adapter_model.safetensors" in model_files(model)


def test_a_model_that_is_not_here_has_no_files() -> None:
    assert model_files(replace(resolve("tiny-qwen"), folder=None)) == []
