"""The built-in set, what is suggested of it, and how sets are known and kept."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from db import Database, Dimension, Language
from rating import prompt_sets
from rating.prompt_sets import Prompt, PromptSet, built_in, prompt_id, suggested

ARTICLE = ["你好，请介绍一下你自己。", "请写一首关于春天的五言诗。", "解释一下什么是机器学习？"]


@pytest.mark.parametrize("language", Language)
def test_the_articles_three_prompts_are_suggested_first_and_few_others(language: Language) -> None:
    assert list(suggested(language)[:3]) == ARTICLE
    assert len(suggested(language)) == 6


@pytest.mark.parametrize("language", Language)
def test_the_others_are_in_the_readers_language(language: Language) -> None:
    own = [prompt.turns[0] for prompt in built_in().regular if prompt.language is language]
    assert set(suggested(language)[3:]) <= set(own)


def test_of_another_set_its_first_prompts_in_the_readers_language_are_suggested() -> None:
    own = PromptSet("x", tuple(one(f"p{n}", f"Prompt {n}", "more") for n in range(9)))
    expected = [f"Prompt {n}" for n in range(6)]
    assert suggested(Language.EN, own) == expected
    assert suggested(Language.ZH, own) == expected  # better than none
    mixed = replace(own, prompts=(own.prompts[0], built_in().by_id["memory-trip-zh"]))
    assert suggested(Language.ZH, mixed) == [mixed.prompts[1].turns[0]]


def test_the_built_in_set_begins_with_the_articles_prompts_and_has_at_least_sixty_more() -> None:
    prompts = built_in().prompts
    assert [prompt.id for prompt in prompts[:3]] == [
        "article-self",
        "article-poem",
        "article-explain",
    ]
    assert [prompt.turns for prompt in prompts[:3]] == [(text,) for text in ARTICLE]
    assert 60 <= len(built_in().regular) - 3 <= 100


def test_both_languages_have_as_many_prompts_of_each_dimension_beside_the_articles() -> None:
    counts = Counter((p.category, p.language) for p in built_in().regular[3:])
    for dimension in Dimension:
        assert counts[dimension, Language.ZH] == counts[dimension, Language.EN] >= 6


def test_conversations_of_two_to_four_turns_try_memory() -> None:
    scripted = [p for p in built_in().regular if p.category is Dimension.MEMORY]
    assert len(scripted) >= 20
    assert {len(prompt.turns) for prompt in scripted} == {2, 3, 4}
    others = [p for p in built_in().regular if p.category is not Dimension.MEMORY]
    assert {len(prompt.turns) for prompt in others} == {1}


def test_a_prompt_is_written_in_its_language() -> None:
    for prompt in built_in().prompts:
        own = re.sub("“[^”]*”", "", "".join(prompt.turns))  # what it quotes may be another's
        share = sum("\u4e00" <= char <= "\u9fff" for char in own) / len(own)
        assert (share > 0.5) == (prompt.language is Language.ZH), prompt.id
        assert prompt.id.startswith("article-") or ("zh" in prompt.id.split("-")) == (
            prompt.language is Language.ZH
        )


def test_attention_items_of_both_languages_have_two_different_answers_of_like_length() -> None:
    items = built_in().attention
    assert len(items) >= 6
    assert Counter(item.language for item in items) == dict.fromkeys(Language, len(items) // 2)
    for item in items:
        assert item.gold is not None
        assert item.gold.better != item.gold.worse
        better, worse = (len("".join(text)) for text in (item.gold.better, item.gold.worse))
        assert 0.2 < better / worse < 5, item.id


def test_the_id_of_an_attention_item_does_not_tell_what_it_is() -> None:
    categories = {dimension.value for dimension in Dimension}
    for item in built_in().attention:
        category, *_, language = item.id.split("-")
        assert category in categories
        assert language == item.language


def test_no_two_prompts_share_an_id_or_a_beginning() -> None:
    prompts = built_in().prompts
    assert len(built_in().by_id) == len(prompts)
    assert len({prompt.turns[0] for prompt in prompts}) == len(prompts)


def test_a_prompt_is_known_again_by_its_words() -> None:
    assert prompt_id(f"  {ARTICLE[1]}\n") == "article-poem"
    assert prompt_id(ARTICLE[1].removesuffix("。")) is None
    assert prompt_id("") is None


def test_a_later_turn_of_a_prompt_is_not_its_beginning() -> None:
    later = [turn for prompt in built_in().prompts for turn in prompt.turns[1:]]
    assert later
    assert not any(map(prompt_id, later))


def one(prompt: str = "a", *turns: str) -> Prompt:
    return Prompt(
        id=prompt, language=Language.EN, category=Dimension.REASONING, turns=turns or ("Hi",)
    )


def test_a_set_is_known_by_its_prompts_and_their_order_whatever_its_name() -> None:
    first, other = one("a"), one("b")
    known = PromptSet("x", (first, other)).id
    assert len(known) == 64
    assert PromptSet("y", (first, other)).id == known
    assert PromptSet("x", (other, first)).id != known
    assert PromptSet("x", (first, one("b", "Ho"))).id != known


def test_the_hash_of_a_set_is_that_of_its_prompts_as_canonical_json() -> None:
    # sha256sum of [{"category":"reasoning","id":"\u00e9","language":"en","turns":["Hi"]}]
    expected = "08cfc191b77fdada56eebfff4604dd16190cf37032718950f9e487b5ab30e2a3"
    assert PromptSet("x", (one("é", "Hi"),)).id == expected


def test_a_set_is_kept_once_and_comes_back_as_it_was(database: Database) -> None:
    assert prompt_sets.list_sets(database) == []
    stored = prompt_sets.store(database, built_in())
    assert prompt_sets.store(database, replace(built_in(), name="again")) == stored
    assert prompt_sets.load(database, stored) == built_in()
    (listed,) = prompt_sets.list_sets(database)
    assert (listed.id, listed.name) == (stored, "Twopane")
    assert (listed.regular, listed.attention) == (
        len(built_in().regular),
        len(built_in().attention),
    )


def test_the_newest_set_is_listed_first(database: Database) -> None:
    ids = [prompt_sets.store(database, PromptSet(name, (one(name),))) for name in "abc"]
    assert [listed.id for listed in prompt_sets.list_sets(database)] == ids[::-1]


def test_a_set_that_is_not_there_is_said_to_be_missing(database: Database) -> None:
    with pytest.raises(LookupError, match="no prompt set"):
        prompt_sets.load(database, "0" * 64)
