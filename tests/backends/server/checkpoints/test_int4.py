"""The layouts of four-bit weights, against torch's own packing and product."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from backends.server.checkpoints.int4 import (
    LAYOUTS,
    Int4Layout,
    kernel_layout,
    published_bytes,
    published_values,
)

ROWS = st.integers(1, 20).map(lambda blocks: 16 * blocks)
COLUMNS = st.integers(1, 4).map(lambda groups: 32 * groups)


def _published(rows: int, columns: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    shape = (rows, columns // 2)
    return torch.randint(-128, 128, shape, dtype=torch.int8, generator=random)


def test_published_bytes_hold_the_even_column_in_the_upper_bits() -> None:
    published = torch.tensor([[0x1F, 0x80], [0x7E, 0x09]], dtype=torch.uint8).view(torch.int8)
    assert published_values(published).tolist() == [[1, -1, -8, 0], [7, -2, 0, -7]]


def test_bytes_made_of_numbers_hold_them_as_published() -> None:
    every = torch.arange(-128, 128, dtype=torch.int8).view(2, 128)
    assert torch.equal(published_bytes(published_values(every)), every)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@settings(deadline=None, max_examples=60)
@given(rows=ROWS, columns=COLUMNS)
def test_what_is_packed_can_be_read_again(layout: Int4Layout, rows: int, columns: int) -> None:
    published = _published(rows, columns)
    values, packed = published_values(published), layout.pack(published)
    assert packed.shape == published.shape
    chunks = [layout.values(packed, *chunk) for chunk in layout.chunks(rows, columns)]
    assert torch.equal(torch.cat(chunks), values)
    numbers = torch.arange(rows).flip(0)
    assert torch.equal(layout.rows(packed, numbers), values.flip(0))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_large_matrices_are_packed_in_chunks_to_the_same_bytes(layout: Int4Layout) -> None:
    published = _published(2064, 4096)
    assert len(list(layout.chunks(2064, 4096))) > 2
    packed = layout.pack(published)
    chunks = [layout.values(packed, *chunk) for chunk in layout.chunks(2064, 4096)]
    assert torch.equal(torch.cat(chunks), published_values(published))


def test_the_layout_of_this_cpu_is_known() -> None:
    assert kernel_layout() in LAYOUTS


def test_the_layout_is_found_whatever_the_device_of_new_tensors_is() -> None:
    kernel_layout.cache_clear()
    with torch.device("meta"):
        found = kernel_layout()
    assert found in LAYOUTS


def test_finding_the_layout_leaves_the_random_numbers_alone() -> None:
    kernel_layout.cache_clear()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    kernel_layout()
    assert torch.equal(torch.rand(2), expected)


@settings(deadline=None, max_examples=40)
@given(rows=ROWS, columns=COLUMNS)
def test_packed_bytes_are_those_of_torch(rows: int, columns: int) -> None:
    layout = kernel_layout()
    assert layout is not None
    published = _published(rows, columns)
    numbers = published_values(published).int() + 8
    expected = torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers, 1)
    assert torch.equal(layout.pack(published), expected)


@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_the_layouts_of_other_instructions_are_those_of_torch(capability: str) -> None:
    """The tests above once more, where torch is told to use them."""
    path = Path(__file__)
    arguments = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)]
    chosen = ["-k", "those_of_torch and packed or is_known"]
    done = subprocess.run(
        [*arguments, *chosen],
        cwd=path.parents[3],
        env=os.environ | {"ATEN_CPU_CAPABILITY": capability},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
