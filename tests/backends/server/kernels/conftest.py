"""The kernels of each level that this CPU has, compiled once."""

from collections.abc import Callable
from functools import cache

import pytest

from backends.server.kernels import (
    INT4,
    INT4_GROUPED,
    INT8,
    HeadShape,
    Kernels,
    Level,
    possible_levels,
)

Compiled = Callable[[HeadShape], Kernels]


@cache
def _compiled(level: Level, heads: HeadShape) -> Kernels:
    return Kernels(level, heads, (INT8, INT4, INT4_GROUPED))


@pytest.fixture(params=possible_levels(), ids=lambda level: level.name)
def level(request: pytest.FixtureRequest) -> Level:
    found: Level = request.param
    return found


@pytest.fixture
def compiled(level: Level) -> Compiled:
    return lambda heads: _compiled(level, heads)


@pytest.fixture
def kernels(compiled: Compiled) -> Kernels:
    return compiled(HeadShape(32))
