import platform

import pytest

from backends.server.kernels import (
    INT4,
    INT4_GROUPED,
    INT8,
    SETTING,
    HeadShape,
    Kernels,
    Level,
    UnknownLevel,
    chosen_level,
    possible_levels,
)
from backends.server.kernels.cpu import LEVELS

needs_kernels = pytest.mark.skipif(not possible_levels(), reason="on this CPU torch computes")


@needs_kernels
def test_the_best_level_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING, raising=False)
    assert chosen_level() == possible_levels()[0]


def test_a_setting_forces_each_level(monkeypatch: pytest.MonkeyPatch) -> None:
    for level in possible_levels():
        monkeypatch.setenv(SETTING, level.name.upper())
        assert chosen_level() == level


def test_a_setting_forces_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "torch")
    assert chosen_level() is None


@needs_kernels
def test_an_unknown_level_is_refused_with_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SETTING, "sse9")
    with pytest.raises(UnknownLevel, match=r"TWOPANE_KERNELS is 'sse9', but .*avx2, torch"):
        chosen_level()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="they are written for x86-64")
@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_every_level_compiles_also_where_it_can_not_run(level: Level) -> None:
    kernels = Kernels(level, HeadShape(64), (INT8, INT4, INT4_GROUPED))
    assert kernels.argument("product_int8", "weights") == 0
