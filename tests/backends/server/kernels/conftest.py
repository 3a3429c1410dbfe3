"""The kernels of each level that this CPU has, compiled once."""

from collections.abc import Callable

import pytest

from backends.server.kernels import (
    HeadShape,
    Kernels,
    Level,
    possible_levels,
)
from tests.backends.server.kernels.steps import compiled_for

Compiled = Callable[[HeadShape], Kernels]


@pytest.fixture(params=possible_levels(), ids=lambda level: level.name)
def level(request: pytest.FixtureRequest) -> Level:
    found: Level = request.param
    return found


@pytest.fixture
def compiled(level: Level) -> Compiled:
    return lambda heads: compiled_for(level, heads)


@pytest.fixture
def kernels(compiled: Compiled) -> Kernels:
    return compiled(HeadShape(32))
