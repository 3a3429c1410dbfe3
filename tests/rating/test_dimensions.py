import pytest

from db import Dimension, Language
from rating.dimensions import HIGHEST, LOWEST, WORDINGS, can_be_scored


def test_every_dimension_is_worded_in_every_language() -> None:
    assert {(key, language) for key, words in WORDINGS.items() for language in words} == {
        (key, language.value) for key in Dimension for language in Language
    }


@pytest.mark.parametrize("language", Language)
def test_the_lowest_middle_and_highest_score_are_spelled_out(language: Language) -> None:
    for wording in (words[language] for words in WORDINGS.values()):
        assert set(wording.anchors) == {LOWEST, 3, HIGHEST}
        assert all([wording.name, wording.question, *wording.anchors.values()])


@pytest.mark.parametrize("language", Language)
def test_no_two_dimensions_read_alike(language: Language) -> None:
    words = [WORDINGS[key][language] for key in Dimension]
    assert len({wording.name for wording in words}) == len(Dimension)
    assert len({wording.question for wording in words}) == len(Dimension)


def test_only_memory_needs_an_earlier_turn() -> None:
    assert [key for key in Dimension if not can_be_scored(key, 1)] == [Dimension.MEMORY]
    assert all(can_be_scored(key, 2) for key in Dimension)
