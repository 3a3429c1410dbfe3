from pathlib import Path

import pytest

from backends.cache import cache_folder


def test_the_cache_is_where_the_setting_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOPANE_CACHE", "/somewhere/else")
    assert cache_folder() == Path("/somewhere/else")


def test_a_tilde_in_the_setting_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOPANE_CACHE", "~/weights")
    assert cache_folder() == Path.home() / "weights"


def test_without_a_setting_it_is_where_the_system_keeps_caches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TWOPANE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().name == "twopane"
    # The folder is named, not made.
    assert not (tmp_path / "twopane").exists()
