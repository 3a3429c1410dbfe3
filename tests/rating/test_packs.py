from pathlib import Path

import pytest
from pydantic import ValidationError

from db import Language
from rating.packs import built_in_prompts, load_prompts, prompt_id, suggested

ARTICLE = ["你好，请介绍一下你自己。", "请写一首关于春天的五言诗。", "解释一下什么是机器学习？"]


@pytest.mark.parametrize("language", Language)
def test_the_articles_three_prompts_are_suggested_first(language: Language) -> None:
    assert list(suggested(language)[:3]) == ARTICLE


@pytest.mark.parametrize("language", Language)
def test_the_others_are_in_the_readers_language(language: Language) -> None:
    own = [prompt for prompt in built_in_prompts() if prompt.language is language]
    others = suggested(language)[3:]
    assert others
    assert set(others) <= {prompt.turns[0] for prompt in own}


def test_no_two_prompts_share_an_id_or_a_beginning() -> None:
    prompts = built_in_prompts()
    assert len({prompt.id for prompt in prompts}) == len(prompts)
    assert len({prompt.turns[0] for prompt in prompts}) == len(prompts)


def test_a_prompt_is_known_again_by_its_words() -> None:
    assert prompt_id(f"  {ARTICLE[1]}\n") == "article-poem"
    assert prompt_id(ARTICLE[1].removesuffix("。")) is None
    assert prompt_id("") is None


def test_a_later_turn_of_a_prompt_is_not_its_beginning() -> None:
    later = [turn for prompt in built_in_prompts() for turn in prompt.turns[1:]]
    assert later
    assert not any(map(prompt_id, later))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "just words",
        "- id: a\n  language: fr\n  turns: [bonjour]",
        "- id: a\n  language: zh\n  turns: []",
        "- id: ''\n  language: zh\n  turns: [你好]",
        "- id: a\n  language: zh\n  turns: [你好]\n  model: tiny-qwen",
        "id: a\nlanguage: zh\nturns: [你好]",
    ],
)
def test_a_file_that_is_no_prompt_set_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValidationError):
        load_prompts(file)


def test_a_prompt_set_of_ones_own_is_read(tmp_path: Path) -> None:
    file = tmp_path / "prompts.yaml"
    file.write_text("- {id: a, language: zh, turns: [一, 二]}", encoding="utf-8")
    (prompt,) = load_prompts(file)
    assert (prompt.id, prompt.language, prompt.turns) == ("a", Language.ZH, ("一", "二"))
