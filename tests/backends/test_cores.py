from pathlib import Path

import pytest

from backends.catalog import Model
from backends.cores import threads_per_server, usable_cores
from backends.specs import resolve

REMOTE = resolve("http://a.example#m")


def test_local_servers_share_the_cores_and_remote_ones_need_none(model: Model) -> None:
    assert threads_per_server([model, model], cores=8) == 4
    assert threads_per_server([model, REMOTE], cores=8) == 8
    assert threads_per_server([REMOTE, REMOTE], cores=8) == 8


def test_every_server_has_a_thread(model: Model) -> None:
    assert threads_per_server([model, model], cores=1) == 1
    assert threads_per_server([model, model]) >= 1


@pytest.mark.parametrize(("limit", "cores"), [("100000 100000", 1), ("50000 100000", 1)])
def test_a_container_limit_counts(tmp_path: Path, limit: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    assert usable_cores(tmp_path / "cpu.max") == cores


@pytest.mark.parametrize("limit", ["max 100000", "99900000 100000", "broken"])
def test_no_container_limit_leaves_all_cores(tmp_path: Path, limit: str) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    assert usable_cores(tmp_path / "cpu.max") == usable_cores(tmp_path / "missing")
