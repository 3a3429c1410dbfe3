"""What is written down of a training run, beside its weights: `training.json`.

Data and its file; measures nothing itself.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RECORD_FILE = "training.json"


@dataclass(frozen=True)
class Score:
    """How many of the asked held-back wordings were answered right."""

    right: int
    asked: int


@dataclass(frozen=True)
class TrainingRecord:
    """One finished run.

    Attributes:
        corpus_sha256: `Corpus.digest` of what it was trained on.
        recipe: The fields of `Recipe`.
        versions: Versions of the libraries that the weights depend on.
        loss: Mean loss of the last hundred steps.
        topics: Score by corpus file.
        unseen_values: Score on the questions whose slot values were never trained on.
    """

    model: str
    seed: int
    corpus_sha256: str
    recipe: dict[str, Any]
    threads: int
    versions: dict[str, str]
    parameters: int
    minutes: float
    loss: float
    topics: dict[str, Score]
    unseen_values: Score

    @property
    def total(self) -> Score:
        """The score over all topics."""
        scores = self.topics.values()
        return Score(sum(score.right for score in scores), sum(score.asked for score in scores))


def write_record(record: TrainingRecord, folder: Path) -> None:
    """Write `training.json` into a model's folder."""
    text = json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n"
    (folder / RECORD_FILE).write_text(text, encoding="utf-8")


def read_record(folder: Path) -> TrainingRecord:
    """Read `training.json` of a model's folder."""
    fields = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    topics = {topic: Score(**score) for topic, score in fields.pop("topics").items()}
    unseen = Score(**fields.pop("unseen_values"))
    return TrainingRecord(topics=topics, unseen_values=unseen, **fields)
