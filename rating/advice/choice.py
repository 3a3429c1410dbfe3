"""Which model to take under the user's limits, from what was measured here and from the ratings.

A model that breaks a limit by what was measured is out. Among the others quality decides where the
ratings are sure of a difference; where they are not, the smaller and quicker one is taken, and that
is said; where that does not tell either, no model is advised. What is known of each model is
`candidates`'s, how they stand to each other `standing`'s, how it reads `report`'s.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from rating.advice.candidates import Candidate, Spread
from rating.advice.reasons import Detail, Reason
from rating.advice.situations import Finding, findings
from rating.advice.standing import (
    METER_SHARE,
    Figure,
    by_figures,
    figure_of,
    rated_higher,
    rating_reasons,
    times_of,
)
from rating.errors import TrialError

LIMITED = (Figure.MEMORY, Figure.FIRST_TOKEN, Figure.ANSWER)
"""What a limit can be set for, and what is looked at where the ratings do not decide."""

_GIGABYTE = 1e9


class BadLimit(TrialError):  # noqa: N818 -- it is what happened
    """A limit that nothing could keep to, or that is no number."""


@dataclass(frozen=True)
class Limits:
    """What a model may take; None is no limit.

    Attributes:
        memory_bytes: Peak of its server process.
        first_token_s: Mean over answers.
        answer_s: Mean over answers, from the request to the end.

    Raises:
        BadLimit: One is not a positive number.
    """

    memory_bytes: float | None = None
    first_token_s: float | None = None
    answer_s: float | None = None

    def __post_init__(self) -> None:
        for figure in LIMITED:
            limit = self.of(figure)
            if limit is not None and not _can_be_kept(limit):
                raise _bad_limit(limit)

    def of(self, figure: Figure) -> float | None:
        """Return the limit of that figure; None where there is none."""
        match figure:
            case Figure.MEMORY:
                return self.memory_bytes
            case Figure.FIRST_TOKEN:
                return self.first_token_s
            case Figure.ANSWER:
                return self.answer_s
        return None


class State(StrEnum):
    """How a model does under the limits."""

    FITS = "fits"
    UNCHECKED = "unchecked"
    OUT = "out"
    FAILED = "failed"


@dataclass(frozen=True)
class Row:
    """One model under the limits.

    Attributes:
        excess: Its worst figure by its limit; more than 1 is over.
        reasons: How it does by each limit that is set.
    """

    candidate: Candidate
    state: State
    excess: float = 0.0
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class Advice:
    """Which model to take.

    Attributes:
        choice: Its key; None where the data do not decide, or nothing keeps to the limits.
        reasons: The verdict first, then what it rests on, then what makes it less sure.
        rows: Every model, in the order of the keys.
        findings: What the data say in each situation of the article's advice, without limits.
    """

    limits: Limits
    choice: str | None
    reasons: tuple[Reason, ...]
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Point:
    """One model in the scatter of quality against latency.

    Attributes:
        answer_s: Across, with its spread.
        score: Up, 1 to 5, mean over prompts.
        low: End of the interval of `score`; None with too few prompts for one.
        high: Its other end.
        peak_bytes: Size of the mark; None where it was not measured, as of a remote model.
    """

    model_key: str
    answer_s: Spread
    score: float
    low: float | None
    high: float | None
    n_prompts: int
    peak_bytes: int | None


def limits_from(
    *, memory_gb: object = None, first_token_s: object = None, answer_s: object = None
) -> Limits:
    """Return the limits that a page or a command means; what is empty is no limit.

    Args:
        memory_gb: In powers of ten, as memory is shown everywhere here.
        first_token_s: Seconds.
        answer_s: Seconds.

    Raises:
        BadLimit: One is not a positive number.
    """
    gigabytes = _number(memory_gb)
    return Limits(
        memory_bytes=None if gigabytes is None else gigabytes * _GIGABYTE,
        first_token_s=_number(first_token_s),
        answer_s=_number(answer_s),
    )


def _number(entered: object) -> float | None:
    if entered is None or not str(entered).strip():
        return None
    if isinstance(entered, bool) or not isinstance(entered, int | float | str):
        raise _bad_limit(entered)
    try:
        number = float(entered)
    except (ValueError, OverflowError) as error:
        raise _bad_limit(entered) from error
    if not _can_be_kept(number):
        raise _bad_limit(entered)
    return number


def _can_be_kept(limit: float) -> bool:
    return math.isfinite(limit) and limit > 0


def _bad_limit(entered: object) -> BadLimit:
    text = str(entered).strip()[:40]
    return BadLimit(
        "bad_limit",
        f"{text!r} is no limit. Write a number above 0, such as 2.5, or leave it empty for none.",
        text=text,
    )


def advise(measured: Sequence[Candidate], limits: Limits | None = None) -> Advice:
    """Return which of the measured models to take under the limits, and why."""
    limits = limits or Limits()
    ordered = sorted(measured, key=lambda candidate: candidate.model_key)
    rows = tuple(_row(candidate, limits) for candidate in ordered)
    choice, reasons = _decision(rows)
    return Advice(
        limits=limits,
        choice=choice,
        reasons=(
            *reasons,
            *(reason for row in rows for reason in row.reasons),
            *_better_ones_out(rows, choice),
            *(reason for row in rows for reason in _caveats(row.candidate)),
        ),
        rows=rows,
        findings=findings(ordered),
    )


def _row(candidate: Candidate, limits: Limits) -> Row:
    key = candidate.model_key
    if candidate.failed:
        return Row(
            candidate,
            State.FAILED,
            reasons=(Reason.of("failed", model=key, error=candidate.error),),
        )
    reasons = tuple(
        _limit_reason(candidate, figure, limit)
        for figure in LIMITED
        if (limit := limits.of(figure)) is not None
    )
    if not candidate.answer_s:
        reasons = (Reason.of("unmeasured", model=key), *reasons)
    codes = {reason.code for reason in reasons}
    state = State.FITS
    if codes & {"over", "over_narrowly"}:
        state = State.OUT
    elif codes & {"unchecked", "unmeasured"}:
        state = State.UNCHECKED
    return Row(candidate, state, _excess(candidate, limits), reasons)


def _excess(candidate: Candidate, limits: Limits) -> float:
    return max((took / limit for _, took, limit in _limited(candidate, limits)), default=0.0)


def _limited(candidate: Candidate, limits: Limits) -> Iterator[tuple[Figure, float, float]]:
    """Yield each figure that has a limit and was measured, with both."""
    for figure in LIMITED:
        took, limit = figure_of(candidate, figure), limits.of(figure)
        if took is not None and limit is not None:
            yield figure, took, limit


def _limit_reason(candidate: Candidate, figure: Figure, limit: float) -> Reason:
    """Return whether the model keeps to the limit, and how nearly."""
    unit, took = figure.unit, figure_of(candidate, figure)
    details: dict[str, Detail] = {"model": candidate.model_key, "figure": figure.value}
    details[f"limit_{unit}"] = limit
    if took is None:
        if figure is Figure.MEMORY and candidate.remote:
            return Reason.of("elsewhere", model=candidate.model_key)
        return Reason.of("unchecked", **details)
    low, high = _range(candidate, figure, took)
    details |= {f"took_{unit}": took, f"low_{unit}": low, f"high_{unit}": high}
    if took > limit:
        return Reason.of(
            "over" if low > limit else "over_narrowly", **details, over_share=took / limit - 1
        )
    return Reason.of("near" if high > limit else "within", **details)


def _range(candidate: Candidate, figure: Figure, took: float) -> tuple[float, float]:
    """Return the least and the greatest of what was measured once or many times."""
    if figure is Figure.MEMORY:
        return took * (1 - METER_SHARE), took * (1 + METER_SHARE)
    times = times_of(candidate, figure).values()
    return min(times), max(times)


Decision = tuple[str | None, tuple[Reason, ...]]


def _decision(rows: Sequence[Row]) -> Decision:
    """Return the choice, and the verdict with what it rests on."""
    fitting = [row.candidate for row in rows if row.state is State.FITS]
    if not fitting:
        return None, (_nothing(rows),)
    if len(fitting) > 1:
        return _among(fitting)
    code = "take_only_measured" if len(rows) == 1 else "take_only_fitting"
    return fitting[0].model_key, (Reason.of(code, model=fitting[0].model_key),)


def _nothing(rows: Sequence[Row]) -> Reason:
    """Return why there is nothing to choose from."""
    if not rows:
        return Reason.of("nothing_measured")
    if any(row.state is State.UNCHECKED for row in rows):
        return Reason.of("only_unchecked")
    out = [row for row in rows if row.state is State.OUT]
    if not out:
        return Reason.of("nothing_runs")
    nearest = min(out, key=lambda row: row.excess)
    broken = [reason for reason in nearest.reasons if "over_share" in reason.details]
    worst = max(broken, key=lambda reason: reason.details["over_share"])
    return Reason.of("nothing_fits", **worst.details)


def _among(fitting: Sequence[Candidate]) -> Decision:
    """Choose among several: those that no other one is scored higher than, then what they take."""
    pairs = list(combinations(fitting, 2))
    unbeaten = [one for one in fitting if not any(rated_higher(o, one) for o in fitting)]
    leaders = unbeaten or list(fitting)  # each can be beaten by another one, in a circle
    quicker = by_figures(leaders, LIMITED).best
    why = (
        *(reason for pair in pairs for reason in rating_reasons(*pair)),
        *by_figures(fitting, LIMITED).reasons,
    )
    if len(leaders) == 1:
        choice = leaders[0].model_key
        return choice, (Reason.of("take_better_rated", model=choice), *why)
    if quicker is None:
        names = " / ".join(candidate.model_key for candidate in leaders)
        return None, (Reason.of("undecided", models=names), *why)
    rated = any(o.model_key in one.against for one, o in combinations(leaders, 2))
    code = "take_tie_break" if rated else "take_by_resources"
    return quicker, (Reason.of(code, model=quicker), *why)


def _better_ones_out(rows: Sequence[Row], choice: str | None) -> Iterator[Reason]:
    """Yield who is scored higher than the choice, but breaks a limit."""
    chosen = [row.candidate for row in rows if row.candidate.model_key == choice]
    for row in rows:
        for candidate in chosen:
            if row.state is State.OUT and rated_higher(row.candidate, candidate):
                key = row.candidate.model_key
                yield Reason.of("better_but_out", model=key, other=candidate.model_key)
                yield from rating_reasons(row.candidate, candidate)


def _caveats(candidate: Candidate) -> Iterator[Reason]:
    """Yield what makes the figures of a model less sure than they look."""
    key = candidate.model_key
    if candidate.n_failed and candidate.answer_s:
        asked = candidate.n_failed + len(candidate.answer_s)
        yield Reason.of("some_failed", model=key, failed=candidate.n_failed, asked=asked)
    if candidate.error and not candidate.failed:
        yield Reason.of("partly", model=key, error=candidate.error)
    if candidate.disturbed:
        yield Reason.of("disturbed", model=key, taken_share=candidate.others_share or 0.0)
    if candidate.rated_otherwise:
        yield Reason.of("rated_otherwise", model=key)
    if candidate.builtin:
        yield Reason.of("builtin", model=key)


def scatter(advice: Advice) -> tuple[Point, ...]:
    """Return a point for each model that has both ratings and measured answers."""
    points = []
    for row in advice.rows:
        one = row.candidate
        answer_s, score = Spread.of(one.answer_s.values()), one.quality
        if answer_s is not None and score is not None:
            points.append(
                Point(
                    *(one.model_key, answer_s, score.mean, score.low, score.high, score.n),
                    peak_bytes=one.peak_bytes,
                )
            )
    return tuple(points)
