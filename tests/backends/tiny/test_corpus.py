"""The corpus is what the issue asks for, and its reader says what is wrong with a bad one."""

from collections import Counter
from pathlib import Path

import pytest

from backends.tiny.conversations import SUGGESTED_PROMPTS
from backends.tiny.corpus import Corpus, CorpusError, Dialogue, fill, held_back_leaks, read_corpus


def _values(dialogue: Dialogue) -> dict[str, str]:
    return {slot: slot for slot in dialogue.slots()} | {"a": "7", "b": "2"}


def test_there_are_at_least_five_hundred_dialogues_mostly_chinese(corpus: Corpus) -> None:
    languages = Counter(dialogue.lang for dialogue in corpus.dialogues)
    assert languages.total() >= 500
    assert set(languages) == {"zh", "en"}
    assert languages["zh"] > languages["en"]


def test_at_least_a_hundred_dialogues_have_a_turn_that_needs_an_earlier_one(
    corpus: Corpus,
) -> None:
    def needs_memory(dialogue: Dialogue) -> bool:
        # A slot in a later answer that its own questions don't name was said earlier.
        return any(
            "{" in text and not any(text in ask for ask in turn.asks)
            for turn in dialogue.turns[1:]
            for text in turn.must
        )

    multi_turn = [dialogue for dialogue in corpus.dialogues if len(dialogue.turns) > 1]
    assert len(multi_turn) >= 100
    assert sum(map(needs_memory, multi_turn)) >= 100


def test_ids_are_unique(corpus: Corpus) -> None:
    ids = Counter(dialogue.id for dialogue in corpus.dialogues)
    assert [name for name, count in ids.items() if count > 1] == []


def test_no_held_back_wording_is_trained_on_anywhere(corpus: Corpus) -> None:
    assert list(held_back_leaks(corpus)) == []


def test_every_answer_contains_what_it_must(corpus: Corpus) -> None:
    for dialogue in corpus.dialogues:
        values = _values(dialogue)
        for turn in dialogue.turns:
            assert turn.asks
            assert turn.held_back
            assert turn.must
            for must in turn.must:
                assert fill(must, values) in fill(turn.answer, values), dialogue.id


def test_every_slot_has_values_to_train_on_and_values_held_back(corpus: Corpus) -> None:
    for dialogue in corpus.dialogues:
        for slot in set(dialogue.slots()) - {"a", "b", "self"}:
            trained = corpus.trained_values(dialogue.lang, slot)
            held_back = corpus.held_back_values(dialogue.lang, slot)
            assert len(trained) >= 3
            assert held_back
            assert not set(trained) & set(held_back)


def test_the_articles_three_prompts_are_among_the_questions(corpus: Corpus) -> None:
    asks = {ask for dialogue in corpus.dialogues for ask in dialogue.turns[0].asks}
    assert asks >= set(SUGGESTED_PROMPTS)


def test_slots_are_filled_and_sums_computed() -> None:
    values = {"name": "小明", "a": "7", "b": "2"}
    assert fill("{name}：{a}+{b}={a+b}，{a-b}，{a*b}", values) == "小明：7+2=9，5，14"


def test_a_slot_without_a_value_is_named() -> None:
    with pytest.raises(CorpusError, match="city"):
        fill("{city}", {"name": "小明"})


def test_a_dialogue_without_an_answer_is_named(tmp_path: Path) -> None:
    turn = "{ask: [hello], held_back: [hi], must: [hello]}"
    (tmp_path / "bad.yaml").write_text(f"- {{id: greet-x, lang: en, turns: [{turn}]}}")
    with pytest.raises(CorpusError, match="greet-x"):
        read_corpus(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no"):
        read_corpus(tmp_path)


def test_the_digest_follows_every_edit(tmp_path: Path) -> None:
    file = tmp_path / "greet.yaml"
    turn = "{ask: [hello], held_back: [hi], answer: hello, must: [hello]}"
    file.write_text(f"- {{id: greet-x, lang: en, turns: [{turn}]}}")
    before = read_corpus(tmp_path).digest
    assert read_corpus(tmp_path).digest == before
    file.write_text(file.read_text().replace("hi]", "hey]"))
    assert read_corpus(tmp_path).digest != before
