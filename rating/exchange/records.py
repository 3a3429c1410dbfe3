"""A rated trial as it stands in files: whole, checked, and apart from any database.

What a file holds is untrusted until it has become a `TrialRecord`. Raters are pseudonyms here, and
sessions are left out: an id of either would be of no use elsewhere. Reads and writes nothing.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)

from db import Dimension, FinishReason, Language, Preference, Side, TrialKind, TrialState

ATTENTION = "attention"
REPEAT_OF = "repeat:"
BETTER = "better:"
"""How the flags of the long form begin that say of which kind a trial is."""

_TRIAL_ID = re.compile(r"[^\s;|\x00-\x1f\x7f]{1,32}")
_MOST_SEED = 2**63
_MOST_COUNT = 2**31 - 1


def moment_text(moment: datetime) -> str:
    """Return a moment as it stands in files: ISO 8601 in UTC, with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def checked_text(text: str) -> str:
    """Return `text`. Raises ValueError if it has what no database can hold."""
    if "\0" in text:
        raise ValueError("has a NUL character, which no database can hold; take it out")
    return text


def checked_id(text: str) -> str:
    """Return the id of a trial. Raises ValueError if it can't be one."""
    if not _TRIAL_ID.fullmatch(text):
        raise ValueError("must have 1 to 32 characters, none of them a blank, ';' or '|'")
    return text


def checked_model(key: str) -> str:
    """Return the key of a model. Raises ValueError if it can't be one."""
    if "|" in key:
        raise ValueError("must not have '|' in it")
    return checked_text(key)


def checked_flag(flag: str) -> str:
    """Return a flag. Raises ValueError if it can't stand in a list that `;` parts."""
    if not flag or ";" in flag:
        raise ValueError("a flag must not be empty nor have ';' in it")
    return checked_text(flag)


def in_utc(moment: datetime) -> datetime:
    """Return a moment in UTC. Raises ValueError if there its year would be none."""
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is no moment between the years 1 and 9999 in UTC") from error


Moment = Annotated[
    AwareDatetime,
    AfterValidator(in_utc),
    PlainSerializer(moment_text, return_type=str, when_used="json"),
]
Text = Annotated[str, AfterValidator(checked_text)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(checked_text)]
TrialId = Annotated[str, AfterValidator(checked_id)]
ModelKey = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(checked_model)]
RaterName = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(checked_text)]
Flag = Annotated[str, AfterValidator(checked_flag)]
Count = Annotated[int, Field(ge=0, le=_MOST_COUNT)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Score = Annotated[int, Field(ge=1, le=5)]


class Record(BaseModel):
    """What all parts of a record share: nothing unknown, nothing converted, nothing changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class AnswerRecord(Record):
    """One attempt of one side; `raw_text` as the model wrote it, `text` as it was shown.

    Times are in seconds from the request, counts in tokens.
    """

    side: Side
    attempt: Annotated[int, Field(ge=1, le=_MOST_COUNT)] = 1
    model: Name
    revision: Annotated[str, Field(max_length=200), AfterValidator(checked_text)] = ""
    precision: Annotated[str, Field(max_length=32), AfterValidator(checked_text)] = ""
    raw_text: Text
    text: Text
    finish_reason: FinishReason | None
    error: Text | None = None
    seed: Annotated[int, Field(ge=-_MOST_SEED, lt=_MOST_SEED)]
    settings: dict[str, Any]
    cached: bool = False
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    first_token_s: Seconds | None = None
    total_s: Seconds | None = None
    started_at: Moment
    finished_at: Moment | None

    @model_validator(mode="after")
    def _check(self) -> "AnswerRecord":
        if (self.finish_reason is None) is not (self.finished_at is None):
            raise ValueError("finish_reason and finished_at must both be there, or neither")
        return self


class TurnRecord(Record):
    """One prompt, and every attempt to answer it; none where the ratings were made elsewhere."""

    prompt: Text
    prompt_id: Name | None = None
    asked_at: Moment
    answers: tuple[AnswerRecord, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> "TurnRecord":
        attempts = [(answer.side, answer.attempt) for answer in self.answers]
        if len(set(attempts)) < len(attempts):
            raise ValueError("two answers of a turn have the same side and attempt")
        return self

    def last(self, side: Side) -> AnswerRecord | None:
        """Return the last attempt of `side`, which is what the rater saw."""
        own = [answer for answer in self.answers if answer.side is side]
        return max(own, key=lambda answer: answer.attempt, default=None)


class AssignmentRecord(Record):
    """Why a session gave the trial; which session that was is not said."""

    prompt_id: Name
    kind: TrialKind
    repeat_of: TrialId | None = None
    better: Side | None = None

    @model_validator(mode="after")
    def _check(self) -> "AssignmentRecord":
        if (self.kind is TrialKind.REPEAT) is not (self.repeat_of is not None):
            raise ValueError("repeat_of belongs to trials of kind repeat, and only to them")
        if (self.kind is TrialKind.ATTENTION) is not (self.better is not None):
            raise ValueError("better belongs to trials of kind attention, and only to them")
        return self


class RatingRecord(Record):
    """What the rater said; every dimension of both sides, null where it does not apply."""

    preference: Preference
    comment: Text = ""
    guess: Side | None = None
    rated_at: Moment
    scores: dict[Side, dict[Dimension, Score | None]]

    @model_validator(mode="after")
    def _check(self) -> "RatingRecord":
        if set(self.scores) != set(Side) or any(
            set(own) != set(Dimension) for own in self.scores.values()
        ):
            raise ValueError("scores must have all five dimensions of left and right")
        return self


class TrialRecord(Record):
    """A rated trial. `version` is that of this form; a reader refuses one it does not know."""

    version: Literal[1] = 1
    trial: TrialId
    rater: RaterName
    language: Language
    blind: bool
    left_model: ModelKey
    right_model: ModelKey
    state: Literal[TrialState.RATED, TrialState.REVEALED]
    created_at: Moment
    revealed_at: Moment | None = None
    flags: tuple[Flag, ...] = ()
    assignment: AssignmentRecord | None = None
    turns: Annotated[tuple[TurnRecord, ...], Field(min_length=1)]
    rating: RatingRecord

    @model_validator(mode="after")
    def _check(self) -> "TrialRecord":
        if self.left_model == self.right_model:
            raise ValueError("both sides have the same model")
        return self

    def model_on(self, side: Side) -> str:
        """Return the key of the model on that side."""
        return self.left_model if side is Side.LEFT else self.right_model

    @property
    def kind(self) -> TrialKind:
        """Why it was given; regular where no session gave it."""
        return self.assignment.kind if self.assignment else TrialKind.REGULAR

    @property
    def prompt_id(self) -> str | None:
        """The prompt's in its set; None where it is of none."""
        return self.assignment.prompt_id if self.assignment else self.turns[0].prompt_id

    @property
    def kind_marks(self) -> frozenset[str]:
        """What flags say of its kind where there is no better place to say so."""
        if self.assignment and self.assignment.better:
            return frozenset({ATTENTION, f"{BETTER}{self.assignment.better}"})
        if self.assignment and self.assignment.repeat_of:
            return frozenset({f"{REPEAT_OF}{self.assignment.repeat_of}"})
        return frozenset()

    @property
    def marks(self) -> Sequence[str]:
        """Its flags, and what its kind is, in the order of the alphabet."""
        return sorted(self.kind_marks.union(self.flags))
