"""What training draws: variety, but nothing that is held back."""

from dataclasses import replace

from backends.tiny.conversations import ConversationSource, Variety
from backends.tiny.corpus import Corpus, Dialogue, Turn, without_end_marks


def _source(corpus: Corpus, seed: int, variety: Variety | None = None) -> ConversationSource:
    return ConversationSource(corpus, "tiny-qwen", seed, variety or Variety())


def test_the_same_seed_draws_the_same_conversations(corpus: Corpus) -> None:
    first, second = _source(corpus, 3), _source(corpus, 3)
    assert list(first.epoch()) == list(second.epoch())
    assert list(_source(corpus, 4).epoch()) != list(_source(corpus, 3).epoch())


def test_no_held_back_wording_is_ever_drawn(corpus: Corpus) -> None:
    held_back = {
        without_end_marks(text)
        for dialogue in corpus.dialogues
        for turn in dialogue.turns
        for text in turn.held_back
        if "{" not in text
    }
    untidy = Variety(open_end=1.0, lost_character=1.0)
    drawn = [c for seed in range(3) for c in _source(corpus, seed, untidy).epoch()]
    asked = {without_end_marks(e.question) for c in drawn for e in c.exchanges}
    assert not asked & held_back


def test_no_held_back_value_is_ever_drawn(corpus: Corpus) -> None:
    turn = Turn(asks=("{age}",), held_back=("{age}?!",), answer="{age}", must=("{age}",))
    ages = replace(corpus, dialogues=(Dialogue("age", "memory", "zh", (turn,)),))
    half = Variety(unrelated_history=0.0, made_up_values=0.5, echo=0.0)
    source = _source(ages, 0, half)
    drawn = {c.exchanges[0].answer for _ in range(1000) for c in source.epoch()}
    assert len(drawn) > 50
    assert not drawn & set(corpus.held_back_values("zh", "age"))


def test_no_slot_is_left_open(corpus: Corpus) -> None:
    for conversation in _source(corpus, 0).epoch():
        for exchange in conversation.exchanges:
            assert "{" not in exchange.question + exchange.answer


def test_unrelated_history_is_not_learnt_again(corpus: Corpus) -> None:
    drawn = list(_source(corpus, 0, Variety(unrelated_history=1.0, echo=0.0)).epoch())
    assert all(0 < c.trained_from < len(c.exchanges) for c in drawn)
    alone = list(_source(corpus, 0, Variety(unrelated_history=0.0)).epoch())
    assert all(c.trained_from == 0 for c in alone)


def test_echoes_repeat_what_they_were_asked_to(corpus: Corpus) -> None:
    with_echoes = list(_source(corpus, 0, Variety(unrelated_history=0.0, echo=1.0)).epoch())
    echoes = [c.exchanges[0] for c in with_echoes[::2]]
    assert all(echo.question.endswith(echo.answer) for echo in echoes)
    assert len({echo.answer for echo in echoes}) > len(echoes) * 0.9
