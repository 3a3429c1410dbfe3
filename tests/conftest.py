"""How tests are shared out among workers."""

import pytest
from xdist.scheduler import LoadScopeScheduling

_BROWSER = "tests/e2e/"


class _ByFile(LoadScopeScheduling):  # type: ignore[misc]  # which has no types
    """Keeps a file's tests in one worker, with its fixtures; and those of the one browser."""

    def _split_scope(self, nodeid: str) -> str:
        return _BROWSER if nodeid.startswith(_BROWSER) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Not `--dist loadgroup`: with pytest 9.2 pytest-xdist 3.8 overlooks the groups."""
    return _ByFile(config, log)
