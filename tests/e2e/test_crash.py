"""What was acknowledged survives kill -9 of the whole app; `make crash` does it 200 times."""

from pathlib import Path

import pytest

from benchmarks.crash import crash
from tests.e2e.fake_model import FakeModel

ROUNDS = 10


@pytest.mark.slow
def test_no_rating_is_lost_when_the_app_is_killed_straight_after_saved(
    tmp_path: Path, fake_models: tuple[FakeModel, FakeModel]
) -> None:
    specs = [model.says("好的。").spec for model in fake_models]
    survived = list(crash(ROUNDS, tmp_path, specs))
    assert len(set(survived)) == ROUNDS
