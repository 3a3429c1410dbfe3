"""What a cache takes is what it says, counted by the system; and what a network keeps beside."""

import gc
import mmap
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from backends.server import load_model
from backends.server.batch import FlatBatch, Span
from backends.server.native import NativeNetwork
from backends.server.native.cache import NativeCache
from backends.server.native.workspace import Workspace
from tests.backends.server.native.networks import make_qwen, native_of, step

CONTEXT = 1000
PAGES = Path("/proc/self/pagemap")
EXCLUSIVE = np.uint64(56)  # the bit of a page that no other mapping shares


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> NativeNetwork:
    """One with as many keys and values a token as a large one has: 64 kB."""
    folder = make_qwen(
        tmp_path_factory.mktemp("wide"),
        hidden_size=64,
        num_attention_heads=32,
        num_key_value_heads=32,
        head_dim=128,
        num_hidden_layers=4,
        max_position_embeddings=CONTEXT,
    )
    return native_of(load_model(folder, "int8"))


def _filled(network: NativeNetwork, tokens: int) -> NativeCache:
    cache = network.new_cache()
    step(network, ([7] * tokens, cache))
    return cache


def _allocated_bytes(network: NativeNetwork, cache: NativeCache) -> int:
    shape = network.decoder.shape
    rows = len(network.decoder.layers) * shape.cache_heads * 2
    return rows * cache.room * shape.head.size * 2


def _resident_bytes(network: NativeNetwork, *caches: NativeCache) -> int:
    """What the system says of their pages. (Of mappings it says it too, but neighbours may be one.)

    A page that was read but never written is a page of zeros that all share, and takes nothing.
    """
    if not PAGES.exists():
        pytest.skip("This system doesn't tell what is taken.")
    with PAGES.open("rb") as file:
        return sum(_own(file, one.address, _allocated_bytes(network, one)) for one in caches)


def _own(file: BinaryIO, address: int, size: int) -> int:
    file.seek(address // mmap.PAGESIZE * 8)
    pages = np.frombuffer(file.read(-(-size // mmap.PAGESIZE) * 8), np.uint64)
    return mmap.PAGESIZE * int((pages >> EXCLUSIVE & np.uint64(1)).sum())


@pytest.mark.parametrize("tokens", [1, 20, 256, 300, 600])
def test_what_is_counted_is_what_is_taken(network: NativeNetwork, tokens: int) -> None:
    cache = _filled(network, tokens)
    assert cache.nbytes == _resident_bytes(network, cache)
    assert cache.nbytes <= 65536 * (tokens + 32)


def test_room_that_was_never_used_takes_nothing(network: NativeNetwork) -> None:
    cache = _filled(network, 20)
    assert _allocated_bytes(network, cache) > 4 * 2**20  # where numpy asks for huge pages
    assert cache.nbytes < _allocated_bytes(network, cache) / 4


def test_a_cache_that_has_grown_takes_no_more_than_one_made_at_once(
    network: NativeNetwork,
) -> None:
    grown, at_once = _filled(network, 250), _filled(network, 300)
    step(network, ([7] * 50, grown))
    assert grown.nbytes == at_once.nbytes
    assert grown.nbytes + at_once.nbytes == _resident_bytes(network, grown, at_once)


def test_a_copy_takes_what_its_part_needs(network: NativeNetwork) -> None:
    cache = _filled(network, 600)
    copied = cache.prefix(64)
    assert copied.nbytes == 64 * 65536
    assert cache.nbytes + copied.nbytes == _resident_bytes(network, cache, copied)


def test_what_was_written_is_taken_until_the_cache_goes(network: NativeNetwork) -> None:
    cache = _filled(network, 300)
    cache.truncate(10)
    assert cache.nbytes == _resident_bytes(network, cache) > 200 * 65536


def test_an_empty_cache_takes_nothing(network: NativeNetwork) -> None:
    assert network.new_cache().nbytes == 0


@pytest.mark.parametrize("tokens", [500, 990, CONTEXT])
def test_there_is_no_room_beyond_the_context(network: NativeNetwork, tokens: int) -> None:
    cache = network.new_cache()
    cache.reserve(tokens)
    assert cache.room == 1024  # 1000, rounded up to whole tiles


def test_memory_that_is_refused_is_no_memory(network: NativeNetwork) -> None:
    with pytest.raises(MemoryError):
        network.new_cache().reserve(2**45)


def test_a_cache_that_moves_keeps_what_it_holds(network: NativeNetwork) -> None:
    cache, whole = network.new_cache(), _filled(network, 700)
    for start in range(0, 700, 100):
        step(network, ([7] * 100, cache))
        assert cache.length == start + 100
    np.testing.assert_array_equal(step(network, ([9], cache)), step(network, ([9], whole)))


def _workspaces() -> int:
    gc.collect()
    return sum(1 for one in gc.get_objects() if type(one) is Workspace)


def test_no_more_than_two_workspaces_are_kept(network: NativeNetwork) -> None:
    _filled(network, 1)
    others = _workspaces() - 1
    batches = [FlatBatch.step([Span((7,) * 300, network.new_cache())]) for _ in range(4)]
    on_their_way = [network.slices(batch) for batch in batches]
    for slices in on_their_way:
        next(slices)
    assert _workspaces() == others + 4
    for slices in on_their_way:
        slices.close()
    assert _workspaces() == others + 2
