"""Mistakes in files, in the words of the page."""

import pytest

from db import Language
from rating.errors import BadPromptSet
from rating.prompt_files import TEXTS, read_prompt_set
from ui.errors import problems_text
from ui.language import texts_in


def caught(text: str) -> BadPromptSet:
    with pytest.raises(BadPromptSet) as caught:
        read_prompt_set(text.encode(), "x.yaml")
    return caught.value


def test_the_texts_of_mistakes_are_those_of_the_pages() -> None:
    texts = texts_in(Language.EN).all()
    assert {code: texts[code] for code in TEXTS} == dict(TEXTS)


def test_mistakes_are_told_in_the_language_of_the_page_with_their_lines() -> None:
    error = caught("- {id: a, language: fr, category: memory, turns: [一]}\n- 5\n")
    assert problems_text(texts_in(Language.EN), error) == (
        "Line 1: language can't be fr. Possible: zh, en.\n"
        "Line 2: This is no prompt. Give it id, language, category and turns."
    )
    assert problems_text(texts_in(Language.ZH), error).startswith("第 1 行：language 不能是 fr。")


def test_a_mistake_of_the_whole_file_has_no_line() -> None:
    assert problems_text(texts_in(Language.EN), caught("")) == "There is no prompt in it."


def test_of_many_mistakes_the_first_are_told_and_how_many_follow() -> None:
    words = problems_text(texts_in(Language.EN), caught("- 5\n" * 25)).splitlines()
    assert len(words) == 11
    assert words[-1] == "And 15 more."
