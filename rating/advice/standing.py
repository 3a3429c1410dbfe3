"""How candidates stand beside each other: by what they take, and by what raters say.

A difference counts only where the data are sure of it; each comparison says what it rests on. What
follows for a choice is `choice`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from rating.advice.candidates import Candidate, Compared, Ground, Run
from rating.advice.reasons import Reason
from rating.statistics.intervals import FEWEST_VALUES, mean_of

METER_SHARE = 0.05
"""What is less apart than this counts as the same: a meter is held to it, and nobody feels it."""

_ONCE_SHARE = 0.2  # a start is measured once, so its own spread is not known


class Figure(StrEnum):
    """What a model takes; less is better."""

    MEMORY = "memory"
    SIZE = "size"
    START = "start"
    FIRST_TOKEN = "first_token"
    ANSWER = "answer"

    @property
    def unit(self) -> str:
        """How the name of a detail ends that holds such a figure."""
        return "bytes" if self in (Figure.MEMORY, Figure.SIZE) else "s"


@dataclass(frozen=True)
class Standing:
    """Who is best, None where nobody is for sure; and what that rests on."""

    best: str | None
    reasons: tuple[Reason, ...]


def figure_of(candidate: Candidate, figure: Figure) -> float | None:
    """Return what the candidate took, times as their mean; None where it was not measured."""
    match figure:
        case Figure.MEMORY:
            return candidate.peak_bytes
        case Figure.SIZE:
            return candidate.size_bytes
        case Figure.START:
            return candidate.cold_start_s
    times = times_of(candidate, figure)
    return sum(times.values()) / len(times) if times else None


def times_of(candidate: Candidate, figure: Figure) -> Mapping[Run, float]:
    """Return the times of the candidate's answers that `figure` is the mean of."""
    return candidate.first_token_s if figure is Figure.FIRST_TOKEN else candidate.answer_s


def by_figures(candidates: Sequence[Candidate], figures: Sequence[Figure]) -> Standing:
    """Return who takes less than every other in some of the figures and more in none."""
    ordered = sorted(candidates, key=lambda candidate: candidate.model_key)
    wins: set[tuple[str, str]] = set()
    reasons = []
    for one, other in combinations(ordered, 2):
        for figure in figures:
            winner, reason = _less(one, other, figure)
            reasons.append(reason)
            if winner is not None:
                wins.add((winner, other.model_key if winner == one.model_key else one.model_key))
    keys = [candidate.model_key for candidate in ordered]
    return Standing(_winner_of_all(keys, wins), tuple(reasons))


def by_ratings(candidates: Sequence[Candidate], ground: Ground) -> Standing:
    """Return who is scored higher than every other."""
    ordered = sorted(candidates, key=lambda candidate: candidate.model_key)
    pairs = list(combinations(ordered, 2))
    wins = {
        (one.model_key, other.model_key)
        for pair in pairs
        for one, other in (pair, pair[::-1])
        if rated_higher(one, other, ground)
    }
    keys = [candidate.model_key for candidate in ordered]
    reasons = [reason for pair in pairs for reason in rating_reasons(*pair, ground)]
    return Standing(_winner_of_all(keys, wins), tuple(reasons))


def _winner_of_all(keys: Sequence[str], wins: set[tuple[str, str]]) -> str | None:
    """Return the one that wins against each other and loses against none; of one, none."""
    for key in keys:
        others = [other for other in keys if other != key]
        if others and all((key, o) in wins and (o, key) not in wins for o in others):
            return key
    return None


def rated_higher(one: Candidate, other: Candidate, ground: Ground = Ground.ALL) -> bool:
    """Whether the ratings are sure that `one` is better than `other`."""
    compared = one.against.get(other.model_key)
    difference = compared.difference.get(ground) if compared else None
    return difference is not None and difference.sign > 0


def rating_reasons(one: Candidate, other: Candidate, ground: Ground = Ground.ALL) -> list[Reason]:
    """Return what the ratings say of the two, and what makes them less sure than they look."""
    if rated_higher(other, one, ground):
        one, other = other, one
    names = {"model": one.model_key, "other": other.model_key}
    compared = one.against.get(other.model_key)
    if compared is None or ground not in compared.difference:
        return [Reason.of("no_ratings", **names, ground=ground.value)]
    openly = [] if compared.blind else [Reason.of("open_ratings", **names)]
    return [_rating_reason(names, compared, ground), *openly]


def _rating_reason(names: Mapping[str, str], compared: Compared, ground: Ground) -> Reason:
    difference = compared.difference[ground]
    if difference.low is None or difference.high is None:
        return Reason.of(
            *("ratings_too_few",),
            **names,
            ground=ground.value,
            prompts=difference.n,
            needed=FEWEST_VALUES,
        )
    return Reason.of(
        "better_rated" if difference.sign > 0 else "ratings_undecided",
        **names,
        ground=ground.value,
        difference_points=difference.mean,
        low_points=difference.low,
        high_points=difference.high,
        prompts=difference.n,
        ratings=compared.n_ratings,
    )


def _less(one: Candidate, other: Candidate, figure: Figure) -> tuple[str | None, Reason]:
    """Return which of the two takes less for sure, and how it looks."""
    took, other_took = figure_of(one, figure), figure_of(other, figure)
    if took is None or other_took is None:
        names = {"model": one.model_key, "other": other.model_key}
        return None, Reason.of("not_compared", figure=figure.value, **names)
    if took > other_took:
        one, other, took, other_took = other, one, other_took, took
    sure = _surely_less(one, other, figure)
    details = {
        "figure": figure.value,
        "model": one.model_key,
        "other": other.model_key,
        f"took_{figure.unit}": took,
        f"other_took_{figure.unit}": other_took,
    }
    return (one.model_key if sure else None), Reason.of("less" if sure else "not_apart", **details)


def _surely_less(one: Candidate, other: Candidate, figure: Figure) -> bool:
    """Whether `one` takes less by more than a meter's error or the chance of one run.

    Times of a machine that was busy with other things decide nothing.
    """
    timed = figure not in (Figure.MEMORY, Figure.SIZE)
    if timed and (one.disturbed or other.disturbed):
        return False
    match figure:
        case Figure.MEMORY:
            return _clearly_below(one.peak_bytes, other.peak_bytes, METER_SHARE)
        case Figure.SIZE:
            return _clearly_below(one.size_bytes, other.size_bytes, METER_SHARE)
        case Figure.START:
            cold = _clearly_below(one.cold_start_s, other.cold_start_s, _ONCE_SHARE)
            warm = (one.warm_start_s, other.warm_start_s)
            return cold and (None in warm or _clearly_below(*warm, _ONCE_SHARE))
    apart = _clearly_below(figure_of(one, figure), figure_of(other, figure), METER_SHARE)
    return apart and _quicker(times_of(one, figure), times_of(other, figure))


def _clearly_below(one: float | None, other: float | None, share: float) -> bool:
    return one is not None and other is not None and one < other * (1 - share)


def _quicker(times: Mapping[Run, float], others: Mapping[Run, float]) -> bool:
    """Compare run by run: of equally quick models either is as likely to win each of them."""
    runs = sorted(times.keys() & others.keys())
    difference = mean_of([times[run] - others[run] for run in runs])
    return difference is not None and difference.sign < 0
