"""What holds for all tests: how they are shared out among workers, and that none is timed."""

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# Machines are noisy, and a test that is too slow once proves nothing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_BROWSER = "tests/e2e/"


class _ByFile(LoadScopeScheduling):  # type: ignore[misc]  # which has no types
    """Keeps a file's tests in one worker, with its fixtures; and those of the one browser."""

    def _split_scope(self, nodeid: str) -> str:
        return _BROWSER if nodeid.startswith(_BROWSER) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Not `--dist loadgroup`: with pytest 9.2 pytest-xdist 3.8 overlooks the groups."""
    return _ByFile(config, log)
