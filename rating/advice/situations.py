"""The article's advice (its 4.2 and 5.2) beside what the user's own data say in each situation.

The article names situations and a model for each, but no rule. What each turns on is read from its
reasons here, and shown with the answer. Knows no limits: those are `choice`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rating import article
from rating.advice.candidates import Candidate, Ground
from rating.advice.reasons import Reason
from rating.advice.standing import Figure, Standing, by_figures, by_ratings

_QWEN, _CHATGLM = article.MODELS


class Agreement(StrEnum):
    """How the user's data stand to the article's advice in one situation."""

    AGREES = "agrees"
    DISAGREES = "disagrees"
    CANT_TELL = "cant_tell"
    NOT_COMPARED = "not_compared"


@dataclass(frozen=True)
class Situation:
    """One situation that the article gives advice for.

    Attributes:
        section: Of the article.
        takes: The article's model for it.
        gpu: Whether the article says so only where a GPU is at hand.
        turns_on: Figures that decide here; empty where ratings do.
        ground: Which scores decide here; None where figures do.
    """

    key: str
    section: str
    takes: str
    gpu: bool = False
    turns_on: tuple[Figure, ...] = ()
    ground: Ground | None = None


SITUATIONS = (
    Situation("edge", "4.2", _QWEN, turns_on=(Figure.MEMORY, Figure.SIZE)),
    Situation("in_house", "4.2", _QWEN, turns_on=(Figure.MEMORY, Figure.ANSWER)),
    Situation("service", "4.2", _QWEN, turns_on=(Figure.FIRST_TOKEN, Figure.ANSWER)),
    Situation("prototype", "4.2", _QWEN, turns_on=(Figure.START, Figure.SIZE)),
    Situation("dialogue", "4.2", _CHATGLM, gpu=True, ground=Ground.DIALOGUE),
    Situation("deployment", "5.2", _QWEN, turns_on=(Figure.START, Figure.SIZE, Figure.MEMORY)),
    Situation(
        *("tight", "5.2", _QWEN), turns_on=(Figure.FIRST_TOKEN, Figure.ANSWER, Figure.MEMORY)
    ),
    Situation("mvp", "5.2", _QWEN, turns_on=(Figure.START, Figure.ANSWER)),
    Situation("complex", "5.2", _CHATGLM, gpu=True, ground=Ground.LANGUAGE),
)


@dataclass(frozen=True)
class Finding:
    """What the data say in one situation; `supports` is a model key, None where they can't tell."""

    situation: Situation
    supports: str | None
    agreement: Agreement
    reasons: tuple[Reason, ...]


def findings(candidates: Sequence[Candidate]) -> tuple[Finding, ...]:
    """Return what the data of these models say in each of the article's situations."""
    return tuple(_finding(situation, candidates) for situation in SITUATIONS)


def _finding(situation: Situation, candidates: Sequence[Candidate]) -> Finding:
    standing = _standing(situation, candidates)
    return Finding(
        situation, standing.best, _agreement(situation, standing, candidates), standing.reasons
    )


def _standing(situation: Situation, candidates: Sequence[Candidate]) -> Standing:
    if len(candidates) < 2:
        return Standing(None, (Reason.of("one_model"),))
    if situation.ground is not None:
        return by_ratings(candidates, situation.ground)
    running = [candidate for candidate in candidates if not candidate.failed]
    failed = tuple(
        Reason.of("failed", model=candidate.model_key, error=candidate.error)
        for candidate in sorted(candidates, key=lambda candidate: candidate.model_key)
        if candidate.failed
    )
    if len(running) == 1 and running[0].answer_s:
        return Standing(running[0].model_key, failed)
    found = by_figures(running, situation.turns_on)
    return Standing(found.best, (*found.reasons, *failed))


def _agreement(
    situation: Situation, standing: Standing, candidates: Sequence[Candidate]
) -> Agreement:
    stands_for = {candidate.model_key: stands_beside(candidate) for candidate in candidates}
    if set(stands_for.values()) != set(article.MODELS):
        return Agreement.NOT_COMPARED
    if standing.best is None:
        return Agreement.CANT_TELL
    same = stands_for[standing.best] == situation.takes
    return Agreement.AGREES if same else Agreement.DISAGREES


def stands_beside(candidate: Candidate) -> str | None:
    """Return the article's model of the same family; None of another or of a built-in one."""
    reference = None if candidate.builtin else article.reference_for(candidate.model_key)
    return None if reference is None else reference.model
