"""What the statistics find out about each pair of models, as plain data.

Computes nothing. In a pair "first" and "second" are its model keys, sorted; a difference is the
second's minus the first's. None stands for what the data can't give.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from db import Dimension


class VerdictKind(StrEnum):
    """What a dimension's scores prove."""

    FIRST_BETTER = "first_better"
    SECOND_BETTER = "second_better"
    NO_DIFFERENCE = "no_difference"
    UNDECIDED = "undecided"
    NO_DATA = "no_data"


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """What a dimension's scores prove, for `verdicts` to put into words.

    Attributes:
        margin: Of `NO_DIFFERENCE`: the largest difference, in points, that is still possible.
        more_prompts: Of `UNDECIDED`: about how many more prompts would decide; None: not to be
            foretold.
    """

    kind: VerdictKind
    margin: float | None = None
    more_prompts: int | None = None


@dataclass(frozen=True)
class Agreement:
    """Krippendorff's alpha, 1 for perfect agreement and 0 for that of chance."""

    alpha: float
    interval: Interval | None = None


@dataclass(frozen=True)
class DimensionFigures:
    """One dimension of one pair.

    Attributes:
        n_prompts: Prompts on which both models were scored; the unit of everything below.
        n_ratings: Trials in which both models were scored.
        mean: Of each model, by key, 1 to 5: over prompts, raters of a prompt averaged first.
        difference: The second model's mean minus the first's.
        interval: Of the difference, by bootstrap over prompts.
        p: Of the Wilcoxon signed-rank test over prompts, two-sided.
        p_holm: The same, adjusted for the pair's five dimensions.
        effect: Matched-pairs rank-biserial correlation, -1 to 1.
        agreement: Of raters of the same prompt.
    """

    n_prompts: int
    n_ratings: int
    mean: Mapping[str, float | None]
    difference: float | None
    interval: Interval | None
    p: float | None
    p_holm: float | None
    effect: float | None
    agreement: Agreement | None
    verdict: Verdict


@dataclass(frozen=True)
class PreferenceFigures:
    """How often raters preferred the first model, the second, neither, or found both bad.

    Attributes:
        win_rate: The second model's share of the clear preferences.
        interval: Of the win rate, Wilson's.
        p: Of the sign test over prompts, two-sided.
    """

    a: int
    b: int
    tie: int
    both_bad: int
    win_rate: float | None
    interval: Interval | None
    p: float | None


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval, from `n` values."""

    value: float
    interval: Interval | None
    n: int


@dataclass(frozen=True)
class BiasFigures:
    """What may have moved the scores besides the models; None where it can't be known.

    Attributes:
        left_right: Mean score on the left minus on the right, in points.
        length: Spearman correlation, over trials, of the difference in length (characters, logs)
            with the difference in mean score.
        order: Change of a rater's mean score from their first to their last trial, in points.
        halo: Mean correlation between the dimensions, over sides of trials.
        straight_lined: Share of ratings with one score throughout, on both sides.
        guessed_right: Share of right guesses of who was who; one half is chance.
        retest: Krippendorff's alpha between ratings and their silent repeats.
    """

    left_right: Estimate | None = None
    length: Estimate | None = None
    order: Estimate | None = None
    halo: Estimate | None = None
    straight_lined: Estimate | None = None
    guessed_right: Estimate | None = None
    retest: Estimate | None = None


@dataclass(frozen=True)
class PairFigures:
    """All that is known of one pair, blind or open.

    Attributes:
        models: Its keys, sorted.
        n_trials: Rated trials that count.
        excluded: Rated trials that don't count, by the flag of careless rating (`rating.quality`);
            one trial may have several. Attention trials and repeats never count, and aren't here.
        n_excluded: Rated trials that don't count for such a flag.
    """

    models: tuple[str, str]
    blind: bool
    n_trials: int
    n_prompts: int
    n_raters: int
    dimensions: Mapping[Dimension, DimensionFigures]
    preference: PreferenceFigures
    bias: BiasFigures
    excluded: Mapping[str, int] = field(default_factory=dict)
    n_excluded: int = 0


@dataclass(frozen=True)
class Rank:
    """One model among three or more: its Bradley-Terry strength, the mean of all being 0."""

    model: str
    strength: float
    interval: Interval | None
    n: int


@dataclass(frozen=True)
class Results:
    """What all ratings say: each pair, blind and open apart, most trials first.

    `ranking` is of the models that blind preferences connect, best first; empty below three.
    """

    pairs: Sequence[PairFigures]
    ranking: Sequence[Rank] = ()
