import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from benchmarks import simulate
from benchmarks.simulate import AT_THE_CEILING, NO_DIFFERENCE, Cell, Truth, draw, run
from rating.statistics.paired import DIMENSIONS, pair_up


@pytest.mark.parametrize("truth", [Truth(), AT_THE_CEILING], ids=["usual", "ceiling"])
def test_the_difference_that_is_claimed_is_the_one_that_is_drawn(truth: Truth) -> None:
    study = draw(truth, prompts=60_000, raters=2, random=np.random.default_rng(1))
    means = np.nanmean(pair_up(study.frame, simulate.MODELS).differences, axis=0)
    assert means == pytest.approx(study.difference, abs=0.015)


def test_scores_are_whole_from_1_to_5_and_only_memory_may_not_apply() -> None:
    trials = pair_up(draw(Truth(), 200, 3, np.random.default_rng(2)).frame, simulate.MODELS)
    known = trials.first[~np.isnan(trials.first)]
    assert set(known) == {1, 2, 3, 4, 5}
    missing = [bool(np.isnan(column).any()) for column in trials.first.T]
    assert [key.value for key, any_ in zip(DIMENSIONS, missing, strict=True) if any_] == ["memory"]


def test_the_same_seed_draws_the_same_studies() -> None:
    cell = Cell(Truth(), prompts=20, raters=1, studies=3)
    assert run(cell, seed=1) == run(cell, seed=1)


def test_few_studies_already_show_intervals_and_tests_that_keep_their_word() -> None:
    """Bounds of four standard errors: 40 studies of five dimensions."""
    usual = run(Cell(Truth(), prompts=20, raters=3, studies=40), seed=5)
    assert 0.88 <= usual.coverage <= 1
    assert usual.decided[4] == 40
    none = run(Cell(NO_DIFFERENCE, prompts=20, raters=3, studies=40), seed=6)
    assert none.wrongly_better <= 7


def test_the_command_prints_both_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "PROMPTS", (8,))
    monkeypatch.setattr(simulate, "RATERS", (1,))
    monkeypatch.setattr(simulate, "EFFECTS", ((0.8, 1),))
    app = typer.Typer()
    app.command()(simulate.main)
    done = CliRunner().invoke(app, ["--studies", "4"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "| 8 | 1 |" in done.stdout
    assert "planned / needed" in done.stdout
