"""The two models that ship: complete, small, made from this corpus, and as good as they say."""

import json
from pathlib import Path

import pytest

from backends.server import ChatModel, load_model
from backends.tiny.conversations import SUGGESTED_PROMPTS
from backends.tiny.corpus import Corpus, Turn, fill
from backends.tiny.evaluation import evaluate, held_back_questions, is_right
from backends.tiny.recipe import RECIPES, ModelKey
from backends.tiny.record import TrainingRecord, read_record
from backends.tiny.report import README, folder_bytes, make_table

FOLDERS: dict[ModelKey, Path] = {key: README.parent / key for key in RECIPES}
KEYS = list(RECIPES)
SAMPLE_EVERY = 23


@pytest.fixture(scope="module")
def models() -> dict[ModelKey, ChatModel]:
    return {key: load_model(folder) for key, folder in FOLDERS.items()}


def _turn_asking(corpus: Corpus, prompt: str) -> Turn:
    return next(d.turns[0] for d in corpus.dialogues if prompt in d.turns[0].asks)


def _must(corpus: Corpus, prompt: str, key: ModelKey) -> list[str]:
    return [fill(text, {"self": key}) for text in _turn_asking(corpus, prompt).must]


@pytest.mark.parametrize("key", KEYS)
def test_a_folder_is_complete_and_at_most_ten_megabytes(key: ModelKey) -> None:
    tokenizer = {"tiny-qwen": "tokenizer.json", "tiny-chatglm": "ice_text.model"}[key]
    files = {file.name for file in FOLDERS[key].iterdir()}
    assert files >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer_config.json",
        "training.json",
        tokenizer,
    }
    assert folder_bytes(FOLDERS[key]) <= 10_000_000


@pytest.mark.parametrize("key", KEYS)
def test_a_model_was_trained_on_the_corpus_and_recipe_in_the_tree(
    key: ModelKey, corpus: Corpus
) -> None:
    record = read_record(FOLDERS[key])
    assert record.model == key
    assert record.corpus_sha256 == corpus.digest
    assert record.recipe == json.loads(json.dumps(RECIPES[key].to_dict()))


def test_readme_shows_the_recorded_table() -> None:
    assert make_table(list(FOLDERS.values())) in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("prompt", SUGGESTED_PROMPTS)
@pytest.mark.parametrize("key", KEYS)
def test_the_articles_prompts_are_answered_greedily(
    key: ModelKey, prompt: str, corpus: Corpus, models: dict[ModelKey, ChatModel]
) -> None:
    model = models[key]
    ids = model.tokenizer.encode_chat([{"role": "user", "content": prompt}])
    answer = model.tokenizer.answer(model.generate(ids, 120))
    assert is_right(answer, _must(corpus, prompt, key)), answer


@pytest.mark.parametrize("prompt", SUGGESTED_PROMPTS)
@pytest.mark.parametrize("key", KEYS)
def test_the_articles_prompts_are_answered_with_default_sampling(
    key: ModelKey, prompt: str, corpus: Corpus, models: dict[ModelKey, ChatModel]
) -> None:
    model, defaults = models[key], models[key].defaults
    ids = model.tokenizer.encode_chat([{"role": "user", "content": prompt}])
    for seed in range(3):
        new = model.generate(
            ids, 120, defaults.temperature, top_k=defaults.top_k, top_p=defaults.top_p, seed=seed
        )
        answer = model.tokenizer.answer(new)
        assert is_right(answer, _must(corpus, prompt, key)), answer


def test_tiny_chatglm_answers_clearly_more_held_back_wordings(
    corpus: Corpus, models: dict[ModelKey, ChatModel]
) -> None:
    right = {}
    for key, model in models.items():
        sample = list(held_back_questions(corpus, key))[::SAMPLE_EVERY]
        right[key] = sum(result.right for result in evaluate(model, sample)) / len(sample)
    assert right["tiny-chatglm"] >= right["tiny-qwen"] + 0.05


def test_the_records_say_that_tiny_chatglm_is_clearly_better() -> None:
    def share(record: TrainingRecord) -> float:
        return record.total.right / record.total.asked

    assert share(read_record(FOLDERS["tiny-chatglm"])) >= 0.8
    assert share(read_record(FOLDERS["tiny-qwen"])) >= 0.5
    better = share(read_record(FOLDERS["tiny-chatglm"])) - share(read_record(FOLDERS["tiny-qwen"]))
    assert better >= 0.1
