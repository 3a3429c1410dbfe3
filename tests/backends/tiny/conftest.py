"""The corpus, read once for all tests."""

import pytest

from backends.tiny.corpus import Corpus, read_corpus


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return read_corpus()
