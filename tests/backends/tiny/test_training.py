"""Training runs end to end for both families, and twice the same."""

from dataclasses import replace
from pathlib import Path

import pytest

from backends.server import load_model
from backends.tiny.conversations import ConversationSource, Exchange, as_messages
from backends.tiny.corpus import Corpus, CorpusError
from backends.tiny.evaluation import evaluate, held_back_questions
from backends.tiny.recipe import RECIPES, ModelKey, Recipe
from backends.tiny.train import make_model, make_trainee

KEYS = list(RECIPES)


@pytest.fixture(scope="module")
def slice_of_corpus(corpus: Corpus) -> Corpus:
    with_history = [d for d in corpus.dialogues if len(d.turns) > 1][:10]
    return replace(corpus, dialogues=(*corpus.dialogues[:20], *with_history))


def _small(key: ModelKey) -> Recipe:
    return replace(
        RECIPES[key],
        layers=2,
        hidden_size=32,
        heads=2,
        inner_size=64,
        vocabulary_size=900,
        steps=2,
        tokens_per_step=500,
        warmup_steps=1,
    )


@pytest.mark.parametrize("key", KEYS)
def test_two_runs_give_the_same_bytes(
    key: ModelKey, slice_of_corpus: Corpus, tmp_path: Path
) -> None:
    runs = [make_model(_small(key), 7, tmp_path / name, slice_of_corpus) for name in ("a", "b")]
    assert runs[0].loss == runs[1].loss
    names = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert "model.safetensors" in names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.parametrize("key", KEYS)
def test_another_seed_gives_other_weights(
    key: ModelKey, slice_of_corpus: Corpus, tmp_path: Path
) -> None:
    for seed in (1, 2):
        make_model(_small(key), seed, tmp_path / str(seed), slice_of_corpus)
    weights = [(tmp_path / str(seed) / "model.safetensors").read_bytes() for seed in (1, 2)]
    assert weights[0] != weights[1]


@pytest.mark.parametrize("key", KEYS)
def test_a_trained_folder_loads_and_can_be_asked(
    key: ModelKey, slice_of_corpus: Corpus, tmp_path: Path
) -> None:
    recipe = _small(key)
    make_model(recipe, 1, tmp_path, slice_of_corpus)
    model = load_model(tmp_path)
    assert model.context == recipe.context
    assert model.defaults.temperature == recipe.temperature
    results = list(evaluate(model, list(held_back_questions(slice_of_corpus, key))[:2]))
    assert len(results) == 2


@pytest.mark.parametrize("key", KEYS)
def test_what_is_learnt_is_the_answer_behind_the_prompt_that_serving_makes(
    key: ModelKey, slice_of_corpus: Corpus, tmp_path: Path
) -> None:
    recipe = _small(key)
    make_model(recipe, 1, tmp_path, slice_of_corpus)
    tokenizer = load_model(tmp_path).tokenizer
    source = ConversationSource(slice_of_corpus, key, 1, recipe.variety)
    trainee = make_trainee(recipe, source, tmp_path)
    for conversation in source.epoch():
        learnt = [
            (example.ids[:start], example.ids[start:end])
            for example in trainee.examples(conversation)
            for start, end in example.answers
        ]
        exchanges = conversation.exchanges
        wanted = [_prompt_and_answer(exchanges, turn) for turn in range(len(exchanges))]
        assert len(learnt) == len(exchanges) - conversation.trained_from
        for (prompt, answer), (messages, text) in zip(learnt[::-1], wanted[::-1], strict=False):
            assert list(prompt) == tokenizer.encode_chat(messages)
            assert list(answer[:-1]) == tokenizer.encode_text(text)
            assert answer[-1] in tokenizer.stop_ids


def _prompt_and_answer(
    exchanges: tuple[Exchange, ...], turn: int
) -> tuple[list[dict[str, str]], str]:
    return as_messages(exchanges[:turn], exchanges[turn].question), exchanges[turn].answer


def test_a_corpus_that_trains_on_a_held_back_wording_is_refused(
    slice_of_corpus: Corpus, tmp_path: Path
) -> None:
    first = slice_of_corpus.dialogues[0]
    leaking = replace(first.turns[0], held_back=first.turns[0].asks[:1])
    bad = replace(slice_of_corpus, dialogues=(replace(first, turns=(leaking,)),))
    with pytest.raises(CorpusError, match=first.id):
        make_model(_small("tiny-qwen"), 1, tmp_path, bad)
