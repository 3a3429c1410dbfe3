"""What an answer pack is: a prompt set, models as they ran, and every answer as it came.

Knows no file and no database. What a pack's `id` is a hash of is said in docs/packs.md.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from backends.catalog import MODELS, Model, Sampling
from db import FinishReason
from rating.canonical import canonical
from rating.prompt_sets import PromptSet
from rating.recordings import Recording, written_pieces

FORMAT = "twopane-answer-pack"
VERSION = 1

MODELS_LIMIT = 20
ANSWER_LIMIT = 1_000_000
"""Longest answer, in characters: `backends.client` takes no longer one."""

Key = tuple[str, int, str]
"""Which answer: the prompt's id, the turn counted from 1, the model's key."""

_Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
_Words = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f]*$")]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Tokens = Annotated[int, Field(ge=0, lt=2**31)]
_Piece = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=0, lt=2**53)]]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def as_json(self) -> dict[str, Any]:
        """Return what `model_validate` makes this of again."""
        return self.model_dump(mode="json")


class Settings(_Part):
    """How tokens were drawn; see `backends.catalog.Sampling`. The seed is each answer's own."""

    temperature: float = Field(allow_inf_nan=False)
    top_p: float = Field(allow_inf_nan=False)
    top_k: int | None
    max_tokens: int
    repetition_penalty: Annotated[float, Field(allow_inf_nan=False)] | None


class ModelEntry(_Part):
    """One model as it ran when it answered.

    Attributes:
        threads: With how many it computed; None: elsewhere.
        names: Masked in a blind trial.
        builtin: One of the tiny built-in models, whose ratings never mix with others.
    """

    key: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^|\x00-\x1f]+$")]
    title: _Name
    revision: _Words
    precision: Annotated[_Words, Field(max_length=32)]
    threads: int | None
    settings: Settings
    names: Annotated[tuple[_Name, ...], Field(max_length=1_000)]
    builtin: bool = False

    @classmethod
    def of(cls, model: Model, precision: str, threads: int | None = None) -> "ModelEntry":
        """Return the entry of a model that is ready to answer."""
        settings = {name: getattr(model.defaults, name) for name in Settings.model_fields}
        return cls(
            key=model.key,
            title=model.title,
            revision=model.revision,
            precision=precision,
            threads=threads,
            settings=Settings.model_validate(settings),
            names=model.names,
            builtin=model.builtin,
        )

    def model(self) -> Model:
        """Return the model for the app, which runs it nowhere."""
        known = MODELS.get(self.key)
        return Model(
            key=self.key,
            title=self.title,
            family=known.family if known else None,
            sources=known.sources if known else (),
            folder=known.folder if known else None,
            revision=self.revision,
            licence=known.licence if known else "",
            names=self.names,
            builtin=self.builtin,
            note=known.note if known else "",
            defaults=Sampling(**self.settings.model_dump()),
            properties=known.properties if known else (),
        )


class AnswerEntry(_Part):
    """One model's answer to one turn, `pieces` as [characters, milliseconds from the request]."""

    prompt_id: _Name
    position: Annotated[int, Field(ge=1)]
    model: _Name
    text: Annotated[str, Field(min_length=1, max_length=ANSWER_LIMIT)]
    pieces: Annotated[tuple[_Piece, ...], Field(min_length=1)]
    finish_reason: Literal[FinishReason.STOP, FinishReason.LENGTH]
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    prompt_tokens: _Tokens | None
    completion_tokens: _Tokens | None
    first_token_s: _Seconds
    total_s: _Seconds

    @property
    def key(self) -> Key:
        """Which answer it is."""
        return self.prompt_id, self.position, self.model

    @model_validator(mode="after")
    def _check_pieces(self) -> "AnswerEntry":
        if sum(length for length, _ in self.pieces) != len(self.text):
            raise ValueError("the pieces don't make up the text")
        return self


class MachineEntry(_Part):
    """What the models ran on, as `backends.measurement.Machine`."""

    cpu: _Words
    cores: int
    memory_bytes: int
    system: _Words
    versions: dict[_Words, _Words]


class Header(_Part):
    """What a pack says of itself beside its answers.

    Attributes:
        made_at: When the last answer was there.
    """

    models: Annotated[tuple[ModelEntry, ...], Field(min_length=1, max_length=MODELS_LIMIT)]
    machine: MachineEntry
    made_at: AwareDatetime


@dataclass(frozen=True)
class Pack:
    """A whole answer pack."""

    prompt_set: PromptSet
    header: Header
    answers: tuple[AnswerEntry, ...]

    @cached_property
    def id(self) -> str:
        """The hash over all that the pack says."""
        return pack_hash(self.prompt_set, self.header, self.answers)

    @property
    def models(self) -> tuple[ModelEntry, ...]:
        """The models in their order."""
        return self.header.models

    @property
    def made_at(self) -> datetime:
        """When the last answer was there."""
        return self.header.made_at

    @cached_property
    def by_key(self) -> Mapping[Key, AnswerEntry]:
        """Each answer by the prompt's id, the turn and the model's key."""
        return {answer.key: answer for answer in self.answers}


def wanted(prompt_set: PromptSet, models: Iterable[str]) -> list[Key]:
    """Return the answers that make a pack whole: a model after the other, in the set's order.

    Attention items need none: theirs stand in the set.
    """
    return [
        (prompt.id, position, model)
        for model in models
        for prompt in prompt_set.regular
        for position in range(1, len(prompt.turns) + 1)
    ]


def pack_hash(prompt_set: PromptSet, header: Header, answers: Sequence[AnswerEntry]) -> str:
    """Return the SHA-256 over the canonical JSON of the set's id, the header and each answer."""
    digest = hashlib.sha256()
    head = header.as_json() | {"prompt_set": prompt_set.id, "format": FORMAT, "version": VERSION}
    for part in (head, *(answer.as_json() for answer in answers)):
        digest.update(canonical(part) + b"\n")
    return digest.hexdigest()


def entry_of(key: Key, recording: Recording) -> AnswerEntry:
    """Return a recording as the pack's answer `key`."""
    prompt_id, position, model = key
    finish = recording.replay.finish
    return AnswerEntry.model_validate(
        {
            "prompt_id": prompt_id,
            "position": position,
            "model": model,
            "text": recording.text,
            "pieces": written_pieces(recording.pieces),
            "finish_reason": finish.reason,
            "seed": recording.replay.seed,
            "prompt_tokens": finish.prompt_tokens,
            "completion_tokens": finish.completion_tokens,
            "first_token_s": finish.first_token_s,
            "total_s": finish.total_s,
        }
    )
