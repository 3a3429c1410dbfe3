"""How tests are shared out among workers."""

from pathlib import Path

import pytest

_TESTS = Path(__file__).parent
_BROWSER = _TESTS / "e2e"


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests in one worker, with its fixtures; and those of the one browser."""
    for item in items:
        kept = _BROWSER if item.path.is_relative_to(_BROWSER) else item.path
        item.add_marker(pytest.mark.xdist_group(str(kept.relative_to(_TESTS))))
