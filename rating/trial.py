"""One comparison as its rater may see it, and the states it may pass through.

A `TrialView` is made from the database alone and holds nothing that must stay hidden: who is who
(`reveal`) and how fast (`timing`) are None until the rating is saved, and no answer is called
`cached`, unless the trial is open. Asking and recording is `session`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from db import Dimension, FinishReason, Preference, Side, TrialState
from db.tables import Answer, Trial
from rating.errors import WrongState

Scores = Mapping[tuple[Side, Dimension], int | None]
"""Score of each side and dimension, 1 to 5; None is "not applicable"."""

_NEXT: Mapping[TrialState, frozenset[TrialState]] = {
    TrialState.DRAFTING: frozenset({TrialState.ANSWERING, TrialState.ABANDONED}),
    TrialState.ANSWERING: frozenset(
        {TrialState.RATEABLE, TrialState.DRAFTING, TrialState.ABANDONED}
    ),
    TrialState.RATEABLE: frozenset({TrialState.ANSWERING, TrialState.RATED, TrialState.ABANDONED}),
    TrialState.RATED: frozenset({TrialState.REVEALED}),
    TrialState.REVEALED: frozenset(),
    TrialState.ABANDONED: frozenset(),
}


def move(trial: Trial, state: TrialState) -> None:
    """Bring `trial` into `state`.

    Raises:
        WrongState: No trial may go there from where it is.
    """
    if state not in _NEXT[trial.state]:
        raise WrongState(
            f"not_{state}", f"A trial that is {trial.state} can't be {state}.", state=trial.state
        )
    trial.state = state


class AnswerStatus(StrEnum):
    """What a rater sees of one side's answer."""

    STREAMING = "streaming"
    COMPLETE = "complete"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class Timing:
    """What one answer really cost, in seconds from the request and in tokens."""

    first_token_s: float | None
    total_s: float | None
    prompt_tokens: int | None
    completion_tokens: int | None

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens a second after the first one."""
        if self.first_token_s is None or self.total_s is None or not self.completion_tokens:
            return None
        decoding_s = self.total_s - self.first_token_s
        return (self.completion_tokens - 1) / decoding_s if decoding_s > 0 else None


@dataclass(frozen=True)
class AnswerView:
    """One side's answer.

    Attributes:
        error: A code.
        timing: None as long as it must stay hidden.
        cached: It was given before, and `timing` is of that time; False while it must stay hidden.
    """

    text: str
    status: AnswerStatus
    error: str | None = None
    timing: Timing | None = None
    cached: bool = False


@dataclass(frozen=True)
class TurnView:
    """One prompt with the answer of each side."""

    prompt: str
    answers: Mapping[Side, AnswerView]


@dataclass(frozen=True)
class Identity:
    """Who a side was."""

    model_key: str
    revision: str
    precision: str
    masked: bool


@dataclass(frozen=True)
class RatingView:
    """A rating as it was saved."""

    scores: Scores
    preference: Preference
    comment: str
    guess: Side | None = None


@dataclass(frozen=True)
class TrialView:
    """One trial, with exactly what its rater may know now.

    Of a trial that a rating session gave, nothing says why it was given: a repeat and an attention
    item look like any other. Who was who in it is told at the session's end, all at once, and not
    here.

    Attributes:
        other_models: It was begun with models that are no longer there: nothing can be asked in it.
        session: The rating session that gave it, if one did.
        to_guess: Where the rating asks which model is on the left: the titles of both, in the order
            of their keys.
    """

    id: str
    state: TrialState
    blind: bool
    turns: tuple[TurnView, ...] = ()
    draft: Mapping[str, Any] | None = None
    rating: RatingView | None = None
    reveal: Mapping[Side, Identity] | None = None
    other_models: bool = False
    session: str | None = None
    to_guess: tuple[str, str] | None = None

    @property
    def to_retry(self) -> tuple[Side, ...]:
        """The sides that must be asked again before the trial can be rated."""
        if self.state is not TrialState.ANSWERING or not self.turns:
            return ()
        answers = self.turns[-1].answers
        ended = (AnswerStatus.FAILED, AnswerStatus.STOPPED)
        return tuple(side for side in Side if answers[side].status in ended)

    @property
    def streaming(self) -> bool:
        """Whether an answer is being written."""
        return bool(self.turns) and any(
            answer.status is AnswerStatus.STREAMING for answer in self.turns[-1].answers.values()
        )

    def with_last_answers(self, answers: Mapping[Side, AnswerView]) -> "TrialView":
        """Return the trial with other answers in its last turn."""
        last = replace(self.turns[-1], answers={**self.turns[-1].answers, **answers})
        return replace(self, turns=(*self.turns[:-1], last))


_STATUS = {
    None: AnswerStatus.STREAMING,
    FinishReason.STOP: AnswerStatus.COMPLETE,
    FinishReason.LENGTH: AnswerStatus.COMPLETE,
    FinishReason.STOPPED: AnswerStatus.STOPPED,
    FinishReason.FAILED: AnswerStatus.FAILED,
}


def self_naming_flag(side: Side) -> str:
    """Return the flag of a trial in which an answer of `side` gave a model's name."""
    return f"self_naming_{side}"


def latest(answers: Sequence[Answer], side: Side) -> Answer:
    """Return the last attempt of `side`; earlier ones are kept in the database only."""
    answer = latest_if_any(answers, side)
    assert answer is not None, "only imported trials have no answers, and nobody goes on with those"
    return answer


def latest_if_any(answers: Sequence[Answer], side: Side) -> Answer | None:
    """The same of a trial that may be imported: ratings made elsewhere come without answers."""
    own = (answer for answer in answers if answer.side is side)
    return max(own, key=lambda answer: answer.attempt, default=None)


def view_of(trial: Trial) -> TrialView:
    """Return what the rater of `trial` may see. Turns, answers and rating must be loaded."""
    given_by = trial.assignment.session_id if trial.assignment else None
    known = not trial.blind or (trial.state is TrialState.REVEALED and given_by is None)
    return TrialView(
        id=trial.id,
        state=trial.state,
        blind=trial.blind,
        turns=tuple(
            TurnView(
                turn.prompt,
                {side: _answer_view(latest_if_any(turn.answers, side), known) for side in Side},
            )
            for turn in trial.turns
        ),
        draft=trial.draft,
        rating=_rating_view(trial),
        reveal={side: _identity(trial, side) for side in Side} if known else None,
        session=given_by,
    )


def _answer_view(answer: Answer | None, known: bool) -> AnswerView:
    if answer is None:
        unknown = Timing(None, None, None, None)
        return AnswerView("", AnswerStatus.COMPLETE, timing=unknown if known else None)
    timing = Timing(
        answer.first_token_s, answer.total_s, answer.prompt_tokens, answer.completion_tokens
    )
    return AnswerView(
        text=answer.raw_text if known else answer.text,
        status=_STATUS[answer.finish_reason],
        error=answer.error,
        timing=timing if known else None,
        cached=known and answer.cached,
    )


def _identity(trial: Trial, side: Side) -> Identity:
    answer = latest_if_any(trial.turns[-1].answers, side) if trial.turns else None
    return Identity(
        model_key=trial.model_on(side),
        revision=answer.model_revision if answer else "",
        precision=answer.precision if answer else "",
        masked=self_naming_flag(side) in trial.flags,
    )


def _rating_view(trial: Trial) -> RatingView | None:
    if trial.rating is None:
        return None
    scores = {(score.side, score.dimension): score.score for score in trial.rating.scores}
    return RatingView(scores, trial.rating.preference, trial.rating.comment, trial.rating.guess)
