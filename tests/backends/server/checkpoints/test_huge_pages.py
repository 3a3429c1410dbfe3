"""Reading into huge pages: the file's own bytes, or None where there isn't plenty of memory."""

import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from backends.server.checkpoints import huge_pages
from backends.server.checkpoints.huge_pages import read_into_huge_pages
from tests.paths import ROOT

MEGABYTE = 2**20
START = 4099
SIZE = 35 * MEGABYTE + 5  # several pieces, the last of them short

needs_huge_pages = pytest.mark.skipif(
    not hasattr(mmap, "MADV_HUGEPAGE"), reason="only Linux has them"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    numbers = np.random.default_rng(0).integers(0, 256, START + SIZE, np.uint8)
    path.write_bytes(numbers.tobytes())
    return path


def _read(path: Path, start: int = START, size: int = SIZE) -> NDArray[np.uint8] | None:
    with path.open("rb") as file:
        return read_into_huge_pages(file, start, size)


@needs_huge_pages
def test_what_is_read_is_the_part_of_the_file_and_can_not_be_written(path: Path) -> None:
    read = _read(path)
    assert read is not None
    assert read.tobytes() == path.read_bytes()[START:]
    assert read.ctypes.data % (2 * MEGABYTE) == 0
    with pytest.raises(ValueError, match="read-only"):
        read[0] = 0


@needs_huge_pages
def test_what_is_read_outlasts_the_file(path: Path) -> None:
    read = _read(path)
    expected = path.read_bytes()[START:]
    path.write_bytes(b"")
    assert read is not None
    assert read.tobytes() == expected


@needs_huge_pages
@pytest.mark.parametrize("missing", [1, SIZE - 1, SIZE])
def test_a_file_that_ends_too_early_is_an_error(path: Path, missing: int) -> None:
    os.truncate(path, START + SIZE - missing)
    with pytest.raises(OSError, match=f"the file ends at {START + SIZE - missing} bytes"):
        _read(path)


@needs_huge_pages
def test_a_file_that_can_not_be_read_is_an_error(path: Path) -> None:
    with path.open("ab") as file, pytest.raises(OSError, match="Bad file descriptor"):
        read_into_huge_pages(file, START, SIZE)


@needs_huge_pages
@pytest.mark.parametrize(("share", "enough"), [(1.4, False), (1.6, True)])
def test_it_is_done_only_where_half_as_much_again_is_free(
    path: Path, monkeypatch: pytest.MonkeyPatch, share: float, enough: bool
) -> None:
    # Stands for a machine with so much: nobody can free or take the real one's memory on demand.
    monkeypatch.setattr(huge_pages, "free_bytes", lambda: int(share * SIZE))
    assert (_read(path) is not None) == enough


def test_where_the_system_has_no_huge_pages_there_are_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    assert _read(path) is None


@needs_huge_pages
@pytest.mark.parametrize("refusal", [OSError(12, "no memory"), MemoryError(), ValueError()])
def test_whatever_way_memory_is_refused_there_is_none(
    path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    # Stands for the system's refusals, which differ by its settings and by Python's version.
    def refuse(*_arguments: object, **_options: object) -> None:
        raise refusal

    monkeypatch.setattr(mmap, "mmap", refuse)
    assert _read(path) is None


# Under a limit of the address space that leaves room for `sys.argv[2]` megabytes more; the stack of
# each thread takes `sys.argv[3]` of them.
_LIMITED = """
import resource, sys, threading
from pathlib import Path
import numpy as np
from backends.server.checkpoints.huge_pages import read_into_huge_pages

megabyte = 2**20
room, stack = (int(number) * megabyte for number in sys.argv[2:4])
threading.stack_size(stack)
size = 35 * megabyte
with Path(sys.argv[1]).open("rb") as file:
    status = Path("/proc/self/status").read_text().split()
    used = int(status[status.index("VmSize:") + 1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
    read = read_into_huge_pages(file, 0, size)
    print("none" if read is None else "read" if read.any() else "zeros")
"""


def _limited(path: Path, room_mb: int, stack_mb: int) -> str:
    command = [sys.executable, "-c", _LIMITED, str(path), str(room_mb), str(stack_mb)]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_huge_pages
def test_where_the_address_space_is_limited_there_is_none(path: Path) -> None:
    assert _limited(path, room_mb=30, stack_mb=1) == "none"
    assert _limited(path, room_mb=300, stack_mb=1) == "read"


@needs_huge_pages
def test_where_there_is_no_room_for_threads_there_is_none(path: Path) -> None:
    assert _limited(path, room_mb=300, stack_mb=1000) == "none"
