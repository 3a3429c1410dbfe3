import subprocess
import sys
from pathlib import Path

import pytest

import rating
from tests.paths import ROOT

MODULES = sorted(file.stem for file in Path(str(rating.__file__)).parent.glob("*.py"))


@pytest.mark.parametrize("package", ["gradio", "torch", "transformers", "ui", "app"])
def test_the_rating_domain_needs_no_page_and_no_model(package: str, loaded: set[str]) -> None:
    assert package not in loaded


def test_the_rating_domain_was_really_imported(loaded: set[str]) -> None:
    assert {"rating.session", "backends.client", "db.engine", "pandas"} <= loaded


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """The modules that a fresh Python has loaded after importing every module of `rating`."""
    names = ", ".join(f"rating.{name}" for name in MODULES if name != "__init__")
    code = f"import sys, {names}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())
