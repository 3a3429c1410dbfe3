"""Trains a built-in model from the corpus and says how good it has become.

The command only; what it does lies in the modules that it calls.
"""

import logging
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer
from tqdm import tqdm

from backends.server import load_model
from backends.tiny.chatglm import ChatGLMTrainee
from backends.tiny.conversations import ConversationSource
from backends.tiny.corpus import CORPUS_FOLDER, Corpus, CorpusError, held_back_leaks, read_corpus
from backends.tiny.evaluation import Result, evaluate, held_back_questions
from backends.tiny.qwen import QwenTrainee
from backends.tiny.recipe import RECIPES, ModelKey, Recipe
from backends.tiny.record import Score, TrainingRecord, write_record
from backends.tiny.report import make_table, write_table
from backends.tiny.training import THREADS, Trainee, prepare_torch, train
from backends.tiny.vocabulary import train_byte_bpe, train_unigram

_FOLDER = Path(__file__).parent
_LIBRARIES = ("torch", "transformers", "tokenizers", "sentencepiece")
_LAST_LOSSES = 100
_TOKENIZER_EPOCHS = 4

app = typer.Typer(add_completion=False)


@app.command()
def main(
    model: Annotated[ModelKey, typer.Argument(help="Which of the two to train.")],
    seed: Annotated[int, typer.Option(help="Same seed, same weights.")] = 1,
    steps: Annotated[int | None, typer.Option(help="Fewer steps than the recipe's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the model.")] = None,
    corpus: Annotated[Path, typer.Option(help="Folder of the corpus.")] = CORPUS_FOLDER,
    report: Annotated[bool, typer.Option(help="Write the table of both into README.md.")] = False,
) -> None:
    """Train a built-in model from the corpus, try the held-back wordings, and report."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    recipe = RECIPES[model]
    recipe = replace(recipe, steps=steps) if steps else recipe
    folder = out or _FOLDER / model
    text = read_corpus(corpus)
    run = make_model(recipe, seed, folder, text)
    results = _ask_held_back(folder, text, recipe)
    write_record(_make_record(recipe, seed, text, run, results), folder)
    typer.echo(make_table([folder]))
    if report:
        write_table(make_table([_FOLDER / key for key in RECIPES]))


@dataclass(frozen=True)
class Run:
    """What is known of a training run before its model was asked anything."""

    parameters: int
    minutes: float
    loss: float


def make_model(recipe: Recipe, seed: int, folder: Path, corpus: Corpus) -> Run:
    """Train tokenizer and network and write both to `folder`.

    Raises:
        CorpusError: A held-back wording is also among those trained on.
    """
    leaks = list(held_back_leaks(corpus))
    if leaks:
        raise CorpusError(f"held back and trained on at once: {leaks}")
    began = time.monotonic()
    prepare_torch(seed)
    source = ConversationSource(corpus, recipe.key, seed, recipe.variety)
    trainee = make_trainee(recipe, source, folder)
    parameters = sum(parameter.numel() for parameter in trainee.network.parameters())
    loss = _train(trainee, source, recipe)
    trainee.save(folder)
    return Run(parameters, round((time.monotonic() - began) / 60, 1), round(loss, 4))


def make_trainee(recipe: Recipe, source: ConversationSource, folder: Path) -> Trainee:
    """Train the recipe's tokenizer into `folder` and start a network over it."""
    texts = source.texts(epochs=_TOKENIZER_EPOCHS)
    if recipe.key == "tiny-qwen":
        train_byte_bpe(texts, recipe.vocabulary_size, folder)
        return QwenTrainee(recipe, folder)
    frames = [f"[Round {turn}]\n问：\n答：" for turn in range(10)]
    train_unigram([*texts, *frames], recipe.vocabulary_size, folder)
    return ChatGLMTrainee(recipe, folder)


def _train(trainee: Trainee, source: ConversationSource, recipe: Recipe) -> float:
    """Run the loop under a progress bar and return the mean of the last losses."""
    losses: deque[float] = deque(maxlen=_LAST_LOSSES)
    with tqdm(total=recipe.steps, desc=recipe.key, unit="step", mininterval=1) as bar:

        def on_step(loss: float) -> None:
            losses.append(loss)
            bar.set_postfix(loss=f"{fmean(losses):.3f}", refresh=False)
            bar.update()

        train(trainee, source, recipe, on_step)
    return fmean(losses)


def _ask_held_back(folder: Path, corpus: Corpus, recipe: Recipe) -> list[Result]:
    questions = list(held_back_questions(corpus, recipe.key))
    model = load_model(folder)
    return list(tqdm(evaluate(model, questions), total=len(questions), desc="held back"))


def _make_record(
    recipe: Recipe, seed: int, corpus: Corpus, run: Run, results: list[Result]
) -> TrainingRecord:
    topics = sorted({result.question.topic for result in results})
    return TrainingRecord(
        model=recipe.key,
        seed=seed,
        corpus_sha256=corpus.digest,
        recipe=recipe.to_dict(),
        threads=THREADS,
        versions={name: version(name) for name in _LIBRARIES},
        parameters=run.parameters,
        minutes=run.minutes,
        loss=run.loss,
        topics={topic: _score(r for r in results if r.question.topic == topic) for topic in topics},
        unseen_values=_score(r for r in results if r.question.unseen_values),
    )


def _score(results: Iterable[Result]) -> Score:
    right = [result.right for result in results]
    return Score(sum(right), len(right))


if __name__ == "__main__":
    app()
