"""What rounding weights costs: the built-in pair's held-back questions in each precision.

    python -m benchmarks.precisions --every 2

Prints for each precision how many questions are answered rightly, and how far logits are off those
of the unrounded weights, as a share of their spread. The built-in ChatGLM is quantised to eight and
four bits as its makers publish it; of these weights the exact result in float32 stands beside.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from safetensors.torch import load_file, save_file
from torch import Tensor

from backends.server import ChatModel, load_model
from backends.server.checkpoints.weights import read_json
from backends.tiny.conversations import as_messages
from backends.tiny.corpus import read_corpus
from backends.tiny.evaluation import Question, evaluate, held_back_questions
from benchmarks.paths import ROOT
from benchmarks.random_weights import quantise, write_json

_TINY = ROOT / "backends" / "tiny"
_QWEN, _CHATGLM = _TINY / "tiny-qwen", _TINY / "tiny-chatglm"
_COMPARED = 40  # questions whose logits are compared


@dataclass(frozen=True)
class Subject:
    """A checkpoint in one precision."""

    name: str
    folder: Path
    precision: str


def main(
    every: Annotated[int, typer.Option(help="ask each so many-th question", min=1)] = 1,
) -> None:
    """Measure and print the table."""
    typer.echo("| model | computed in | right | logits off by |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for subject in _subjects(Path(scratch)):
            whole = _QWEN if subject.name.startswith("tiny-qwen") else _CHATGLM
            questions = list(islice(held_back_questions(read_corpus(), whole.name), 0, None, every))
            model = load_model(subject.folder, subject.precision)
            right = sum(result.right for result in evaluate(model, questions))
            off = _distance(model, load_model(whole), questions[:_COMPARED])
            kind = type(model.network).__name__.removesuffix("Network").lower()
            typer.echo(
                f"| {subject.name} | {subject.precision} ({kind}) | {right} of {len(questions)} "
                f"| {off:.1%} |"
            )


def _subjects(scratch: Path) -> Iterator[Subject]:
    for precision in ("float32", "int8", "int4"):
        yield Subject("tiny-qwen", _QWEN, precision)
    yield Subject("tiny-chatglm", _CHATGLM, "float32")
    for bits in (8, 4):
        folder = _quantised(_CHATGLM, scratch / f"{bits}-bits", bits)
        for precision in ("float32", f"int{bits}"):
            yield Subject(f"tiny-chatglm in {bits} bits", folder, precision)


def _quantised(source: Path, folder: Path, bits: int) -> Path:
    """The checkpoint with the layers' matrices rounded, as ChatGLM is published."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors", "twopane"))
    write_json(
        folder / "config.json", read_json(source / "config.json") | {"quantization_bit": bits}
    )
    state: dict[str, Tensor] = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        if tensor.ndim == 2 and "word_embeddings" not in name:
            state[name], state[f"{name}_scale"] = _rounded(tensor.float(), bits)
        else:
            state[name] = tensor
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return folder


def _rounded(matrix: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    if bits == 4:
        return quantise(matrix)
    scale = (matrix.abs().amax(dim=1) / 127).half()
    return (matrix / scale.unsqueeze(1)).round().clamp(-128, 127).to(torch.int8), scale


def _distance(model: ChatModel, exact: ChatModel, questions: Sequence[Question]) -> float:
    """Root mean square of the logits' differences, as a share of their standard deviation."""
    shares = []
    for question in questions:
        ids = exact.tokenizer.encode_chat(as_messages(question.history, question.text))
        logits = exact.logits(ids)
        shares.append(np.square(model.logits(ids) - logits).mean() / logits.var())
    return float(np.sqrt(np.mean(shares)))


if __name__ == "__main__":
    typer.run(main)
