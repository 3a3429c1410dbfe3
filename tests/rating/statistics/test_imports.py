import subprocess
import sys

import pytest

from tests.paths import ROOT

MODULES = ["analysis", "ranking", "verdicts", "bias", "agreement", "planning", "decisions"]


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """What a fresh Python has loaded after importing the statistics and the signs of haste."""
    names = ", ".join(["rating.quality", *(f"rating.statistics.{name}" for name in MODULES)])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {names}; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("package", ["scipy", "statsmodels", "krippendorff", "gradio"])
def test_importing_the_statistics_loads_nothing_slow_before_a_figure_is_asked_for(
    package: str, loaded: set[str]
) -> None:
    assert package not in loaded


def test_all_figures_of_a_pair_are_computed_without_scipy_stats() -> None:
    """Half a second and 50 MB of each summary."""
    code = """
import sys
from rating.quality import flags_of
from rating.statistics.analysis import analyse
from tests.rating.statistics.frames import MODELS, drawn
ratings = drawn(110, 2)
figures = analyse(ratings, MODELS, blind=True, excluded={"all": len(flags_of(ratings))})
assert figures.preference.p is not None
print(*(name for name in ("scipy.special", "scipy.stats", "statsmodels") if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["scipy.special"]


def test_the_statistics_were_really_imported(loaded: set[str]) -> None:
    assert {"rating.statistics.analysis", "rating.quality", "numpy"} <= loaded
