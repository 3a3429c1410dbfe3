from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from backends import memory
from backends.catalog import Model
from backends.memory import (
    LEAST_CACHE_BYTES,
    DoesNotFit,
    Fit,
    default_cache_bytes,
    fit,
    free_bytes,
    needed_bytes,
    private_bytes,
)
from backends.specs import resolve
from backends.supervisor import ModelServer

GB = 1_000_000_000


def container(folder: Path, limit: str, used: int, files: int) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon {used - files}\nactive_file {files}\n")
    return folder


@pytest.fixture
def cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets what the CPU says that it can do."""

    def says(features: str) -> None:
        (tmp_path / "cpuinfo").write_text(f"flags: {features}")
        monkeypatch.setattr(memory, "_CPU", tmp_path / "cpuinfo")

    says("avx2 avx512_bf16")
    return says


Cpu = Callable[[str], None]


def gigabytes(key: str, *precisions: str) -> float:
    return needed_bytes(resolve(key), precisions) / GB


@pytest.mark.usefixtures("cpu")
def test_a_quantised_model_needs_about_the_size_of_its_files() -> None:
    assert 4.6 < gigabytes("chatglm-6b-int4") < 5


@pytest.mark.usefixtures("cpu")
def test_a_large_qwen_model_is_taken_for_int8_unless_told_otherwise() -> None:
    own = gigabytes("qwen1.5-0.5b-chat")
    assert own == gigabytes("qwen1.5-0.5b-chat", "int8")
    assert own < 1.2
    needs = [gigabytes("qwen1.5-0.5b-chat", one) for one in ("int4", "bfloat16", "float32")]
    assert needs[0] < own < needs[1] < needs[2]


@pytest.mark.usefixtures("cpu")
def test_of_several_precisions_the_first_that_the_weights_allow_counts() -> None:
    own = gigabytes("chatglm-6b-int4")
    assert gigabytes("chatglm-6b-int4", "int8", "int4") == own
    assert gigabytes("chatglm-6b-int4", "float32") > own
    assert gigabytes("tiny-qwen", "int4", "float32") < gigabytes("tiny-qwen")


@pytest.mark.usefixtures("cpu")
def test_what_is_wanted_for_ended_answers_counts() -> None:
    model = resolve("chatglm-6b-int4")
    more = needed_bytes(model, cache_bytes=3 * GB) - needed_bytes(model, cache_bytes=GB)
    assert more == 2 * GB
    assert needed_bytes(model) == needed_bytes(model, cache_bytes=LEAST_CACHE_BYTES)
    assert fit([model], cache_bytes=3 * GB).needed_bytes == needed_bytes(model, (), 3 * GB)


@pytest.mark.parametrize(
    ("free", "kept"), [(0, 256_000_000), (8 * GB, GB), (100 * GB, 2 * GB), (2 * GB, 256_000_000)]
)
def test_what_is_free_says_how_much_ended_answers_may_take(free: int, kept: int) -> None:
    assert default_cache_bytes(free) == kept


def test_where_torch_computes_its_process_needs_more(cpu: Cpu) -> None:
    native = gigabytes("qwen1.5-0.5b-chat")
    cpu("sse2")
    assert gigabytes("qwen1.5-0.5b-chat") > native


def test_a_large_16_bit_model_needs_more_where_the_cpu_has_no_bfloat16(cpu: Cpu) -> None:
    model = replace(resolve("qwen1.5-0.5b-chat"), family="transformers")
    need = needed_bytes(model)
    cpu("avx2")
    more = needed_bytes(model) - need
    assert abs(more - 2 * 1.1 * model.parameters) < 2


def test_where_only_the_files_size_is_known_it_counts() -> None:
    model = replace(resolve("qwen1.5-0.5b-chat"), parameters=0, bits=32, size_bytes=4 * GB)
    assert 4.4 < needed_bytes(model) / GB < 5.2


@pytest.mark.parametrize("spec", ["http://127.0.0.1:1/v1#m", "some/model"])
def test_what_runs_elsewhere_or_is_unknown_needs_nothing_as_far_as_is_known(spec: str) -> None:
    assert needed_bytes(resolve(spec)) == 0


def test_a_container_has_what_its_limit_leaves_and_its_file_cache(tmp_path: Path) -> None:
    assert free_bytes(container(tmp_path, "1000000", 700_000, 300_000)) == 600_000


def test_a_container_over_its_limit_has_nothing(tmp_path: Path) -> None:
    assert free_bytes(container(tmp_path, "1000", 2000, 0)) == 0


def test_without_a_limit_the_system_counts(tmp_path: Path) -> None:
    assert abs(free_bytes(tmp_path) - psutil.virtual_memory().available) < GB
    assert abs(free_bytes(container(tmp_path, "max", 9, 0)) - free_bytes(tmp_path / "none")) < GB


def test_what_does_not_fit_is_refused_with_the_figures() -> None:
    too_much = Fit((("A", 3 * GB), ("B", 1_500_000_000)), 4 * GB)
    with pytest.raises(DoesNotFit, match=r"4\.5 GB needed \(A 3\.0 GB, B 1\.5 GB\), 4\.0 GB free"):
        too_much.check()
    Fit((("A", 3 * GB),), 3 * GB).check()


def test_what_is_given_back_counts_as_free() -> None:
    models = [resolve("tiny-qwen")]
    assert fit(models, given_back=5 * GB).free_bytes - fit(models).free_bytes > 4 * GB


def test_a_process_that_is_gone_gives_nothing_back() -> None:
    assert private_bytes(2**22 + 1) == 0


@pytest.mark.slow
@pytest.mark.parametrize("key", ["tiny-qwen", "tiny-chatglm"])
async def test_a_real_server_takes_no_more_than_was_estimated(key: str) -> None:
    model: Model = resolve(key)
    server = ModelServer(model)
    await server.start()
    try:
        await server.wait_ready(120)
        assert server.pid is not None
        used = private_bytes(server.pid)
        assert 0.2 * needed_bytes(model) < used <= needed_bytes(model)
    finally:
        await server.stop()
