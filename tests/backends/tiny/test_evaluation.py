"""What counts as a right answer, and what is asked."""

import pytest

from backends.tiny.corpus import Corpus
from backends.tiny.evaluation import held_back_questions, is_right


@pytest.mark.parametrize(
    ("answer", "must", "right"),
    [
        ("你叫小明。", ["小明"], True),
        ("你叫小红。", ["小明"], False),
        ("3加4等于7。", ["等于 7"], True),
        ("3加4等于17。", ["7"], False),
        ("一共 12 个", ["2"], False),
        ("Hello, TOM!", ["hello", "Tom"], True),
        ("Hello!", ["hello", "Tom"], False),
        ("是，对", ["是,对"], True),
    ],
)
def test_an_answer_is_right_when_it_contains_all_it_must(
    answer: str, must: list[str], right: bool
) -> None:
    assert is_right(answer, must) is right


def test_every_held_back_wording_is_asked_once(corpus: Corpus) -> None:
    questions = list(held_back_questions(corpus, "tiny-qwen"))
    wordings = sum(len(turn.held_back) for d in corpus.dialogues for turn in d.turns)
    assert len(questions) == wordings
    assert questions == list(held_back_questions(corpus, "tiny-qwen"))


def test_half_of_the_dialogues_with_slots_get_values_never_trained_on(corpus: Corpus) -> None:
    unseen = {q.dialogue_id for q in held_back_questions(corpus, "x") if q.unseen_values}
    with_slots = {d.id for d in corpus.dialogues if set(d.slots()) - {"a", "b", "self"}}
    assert unseen <= with_slots
    assert abs(2 * len(unseen) - len(with_slots)) <= 1


def test_later_turns_are_asked_with_the_reference_history(corpus: Corpus) -> None:
    for question in held_back_questions(corpus, "tiny-qwen"):
        dialogue = next(d for d in corpus.dialogues if d.id == question.dialogue_id)
        turn = dialogue.turns[len(question.history)]
        assert len(turn.must) == len(question.must)
        if "{" not in "".join(turn.held_back):
            assert question.text in turn.held_back
