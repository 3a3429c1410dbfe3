"""Whether the statistics keep their word: raters with known truth, through the real code.

    python -m benchmarks.simulate --quick

Draws whole studies as ratings frames (prompts that are more or less hard, models that are better at
some of them, raters who are strict or mild, noise; rounded to 1 to 5, with floor, ceiling and "not
applicable"), lets `rating.statistics` judge them, and prints as Markdown: how often the 95 %
intervals hold the true difference, how often any of five dimensions without a difference is
called better, and how near "about n more prompts" comes to what is needed. Touches no database.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product, repeat
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray

from db import Dimension, Side
from rating.dimensions import HIGHEST, LOWEST
from rating.statistics.analysis import dimension_figures
from rating.statistics.figures import VerdictKind
from rating.statistics.paired import DIMENSIONS, pair_up, prompt_means
from rating.statistics.planning import POWER, prompts_needed

PROMPTS = (20, 50, 100, 200)
RATERS = (1, 3, 10)
MODELS = ("a", "b")
_UNDECIDED = frozenset({VerdictKind.UNDECIDED, VerdictKind.NO_DATA})
_BETTER = frozenset({VerdictKind.FIRST_BETTER, VerdictKind.SECOND_BETTER})
_FULL, _QUICK = 1_000, 50

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """How scores come about, in points before rounding.

    Attributes:
        mean: What the first model is scored on average.
        better_by: How much better the second model is, by dimension.
        prompt: Standard deviation of what all answers to a prompt share.
        answer: Of what is one model's on that prompt, for all its raters.
        rater: Of how mild raters are.
        noise: Of everything else, anew for each score.
        not_applicable: Share of scores that are missing, in the dimension *memory*.
    """

    mean: float = 3.2
    better_by: tuple[float, ...] = (0.0, 0.2, 0.4, 0.8, 1.5)
    prompt: float = 0.7
    answer: float = 0.5
    rater: float = 0.5
    noise: float = 0.8
    not_applicable: float = 0.1


NO_DIFFERENCE = Truth(better_by=(0.0,) * 5)
"""For false positives."""

AT_THE_CEILING = Truth(mean=4.4)
"""Scores of 5 throughout for many prompts: differences are skewed, and often zero."""


@dataclass(frozen=True)
class Study:
    """One drawn study: its frame, and by dimension the difference that its raters would find."""

    frame: pd.DataFrame
    difference: tuple[float, ...]


def draw(truth: Truth, prompts: int, raters: int, random: np.random.Generator) -> Study:
    """Draw a study in which each rater rates each prompt once."""
    n = prompts * raters
    prompt, rater = np.divmod(np.arange(n), raters)
    mild = random.normal(0, truth.rater, raters)
    second_left = random.random(n) < 0.5
    columns: dict[str, object] = {
        "trial": np.arange(n),
        "rater": rater,
        "prompt": prompt,
        "left_model": np.where(second_left, MODELS[1], MODELS[0]),
        "preference": "tie",
    }
    for dimension, better_by in zip(DIMENSIONS, truth.better_by, strict=True):
        shared = truth.mean + random.normal(0, truth.prompt, prompts)[prompt] + mild[rater]
        first, second = (
            _rounded(
                shared
                + by
                + random.normal(0, truth.answer, prompts)[prompt]
                + random.normal(0, truth.noise, n)
            )
            for by in (0.0, better_by)
        )
        if dimension is Dimension.MEMORY:
            missing = random.random(n) < truth.not_applicable
            first[missing] = np.nan
            second[missing] = np.nan
        columns[f"{Side.LEFT.value}_{dimension.value}"] = np.where(second_left, second, first)
        columns[f"{Side.RIGHT.value}_{dimension.value}"] = np.where(second_left, first, second)
    found = tuple(true_difference(truth, by, mild) for by in truth.better_by)
    return Study(pd.DataFrame(columns), found)


def _rounded(scores: Floats) -> Floats:
    return np.clip(np.rint(scores), LOWEST, HIGHEST)


def true_difference(truth: Truth, better_by: float, mild: Floats) -> float:
    """Return the mean difference of rounded scores over all possible prompts, of these raters.

    A rounded and clipped score is 1 and one more for each of 1.5 to 4.5 that the unrounded one
    exceeds, which is normal over prompts.
    """
    from scipy.special import ndtr  # noqa: PLC0415 -- with the statistics alone

    spread = math.sqrt(truth.prompt**2 + truth.answer**2 + truth.noise**2)
    steps = np.arange(LOWEST, HIGHEST) + 0.5
    centre = truth.mean + mild[:, None]
    above = ndtr((centre + better_by - steps) / spread) - ndtr((centre - steps) / spread)
    return float(above.sum(axis=1).mean())


@dataclass(frozen=True)
class Cell:
    """What came out for one size of study: counts over `studies`."""

    truth: Truth
    prompts: int
    raters: int
    studies: int
    covered: int = 0
    wrongly_better: int = 0
    decided: tuple[int, ...] = (0,) * 5

    @property
    def coverage(self) -> float:
        """Share of the intervals, of all five dimensions, that hold the truth."""
        return self.covered / (self.studies * len(DIMENSIONS))


def run(cell: Cell, seed: int) -> Cell:
    """Return the cell with its counts, from studies drawn by `seed`."""
    random = np.random.default_rng([seed, cell.prompts, cell.raters])
    covered = wrong = 0
    decided = np.zeros(len(DIMENSIONS), dtype=int)
    for _ in range(cell.studies):
        study = draw(cell.truth, cell.prompts, cell.raters, random)
        figures = dimension_figures(pair_up(study.frame, MODELS), with_agreement=False)
        verdicts = [figures[dimension].verdict.kind for dimension in DIMENSIONS]
        for dimension, truth in zip(DIMENSIONS, study.difference, strict=True):
            interval = figures[dimension].interval
            covered += interval is not None and interval.low <= truth <= interval.high
        wrong += any(kind in _BETTER for kind in verdicts)
        decided += [kind not in _UNDECIDED for kind in verdicts]
    return replace(
        cell, covered=covered, wrongly_better=wrong, decided=tuple(int(n) for n in decided)
    )


@dataclass(frozen=True)
class Effect:
    """One dimension that differs among four that don't: what the plan is held against.

    Attributes:
        better_by: How much better the second model is in it, in points before rounding.
        raters: Of each prompt.
        planned: What `prompts_needed` says of the true mean and spread.
        needed: With how many prompts four studies in five decide.
        pilots: Quartiles of what it says of pilots of 50 prompts.
    """

    better_by: float
    raters: int
    planned: int
    needed: float
    pilots: tuple[float, float, float]


_STEPS = (0.6, 0.75, 0.9, 1.1, 1.3, 1.6)
_PILOT = 50
EFFECTS = tuple(product((0.0, 0.15, 0.3, 0.5, 0.8), (1, 3)))


def plan_of(better_by: float, raters: int, studies: int, seed: int) -> Effect:
    """Return how the plan compares with what studies of several sizes decide."""
    truth = Truth(better_by=(better_by, 0.0, 0.0, 0.0, 0.0))
    random = np.random.default_rng([seed, round(100 * better_by), raters])
    mean, spread = _mean_and_spread(truth, 20_000, raters, random)
    planned = _plan(mean, spread)
    sizes = [max(6, round(step * planned)) for step in _STEPS]
    shares = [
        run(Cell(truth, size, raters, studies), seed + size).decided[0] / studies for size in sizes
    ]
    drawn = [_plan(*_mean_and_spread(truth, _PILOT, raters, random)) for _ in range(studies)]
    low, middle, high = np.quantile(drawn, (0.25, 0.5, 0.75))
    return Effect(better_by, raters, planned, _size_at(POWER, sizes, shares), (low, middle, high))


def _plan(mean: float, spread: float) -> int:
    return prompts_needed(mean, spread, undecided=len(DIMENSIONS)) or 100_000


def _mean_and_spread(
    truth: Truth, prompts: int, raters: int, random: np.random.Generator
) -> tuple[float, float]:
    trials = pair_up(draw(truth, prompts, raters, random).frame, MODELS)
    differences = prompt_means(trials, DIMENSIONS[0]).differences
    return float(differences.mean()), float(differences.std(ddof=1))


def _size_at(share: float, sizes: Sequence[int], shares: Sequence[float]) -> float:
    """Return the size at which a share is reached, between sizes along logs; NaN outside."""
    rising = np.maximum.accumulate(shares)
    if not rising[0] < share <= rising[-1]:
        return math.nan
    return float(np.exp(np.interp(share, rising, np.log(sizes))))


def main(
    quick: Annotated[bool, typer.Option("--quick", help="few studies: does it run?")] = False,
    studies: Annotated[int, typer.Option(help="of each size", min=1)] = _FULL,
    seed: Annotated[int, typer.Option(help="another draws other studies")] = 1,
    processes: Annotated[int, typer.Option(help="that draw at the same time", min=1)] = 1,
) -> None:
    """Draw the studies and print the tables."""
    studies = _QUICK if quick else studies
    sizes = list(product(PROMPTS, RATERS))
    with ProcessPoolExecutor(processes) as pool:
        cells = [
            Cell(truth, prompts, raters, studies)
            for prompts, raters in sizes
            for truth in (Truth(), AT_THE_CEILING, NO_DIFFERENCE)
        ]
        done = list(pool.map(run, cells, range(1_000 * seed, 1_000 * seed + len(cells))))
        for line in _cells_table(done, studies):
            typer.echo(line)
        plans = pool.map(plan_of, *zip(*EFFECTS, strict=True), repeat(studies // 2), repeat(seed))
        for line in _plans_table(list(plans), studies // 2):
            typer.echo(line)


def _cells_table(cells: Sequence[Cell], studies: int) -> Iterator[str]:
    judged = studies * len(DIMENSIONS)
    yield (
        f"Studies of each kind and size: {studies}, so a true 5 % comes out as 5 % "
        f"± {_margin(studies):.1%}, and of their {judged} intervals as 5 % "
        f"± {_margin(judged):.1%}.\n"
    )
    yield (
        "| prompts | raters | intervals hold the truth | at the ceiling | without differences "
        "| any of five wrongly better |"
    )
    yield "|---|---|---|---|---|---|"
    for usual, ceiling, none in zip(cells[::3], cells[1::3], cells[2::3], strict=True):
        shares = (usual.coverage, ceiling.coverage, none.coverage, none.wrongly_better / studies)
        numbers = " | ".join(f"{share:.1%}" for share in shares)
        yield f"| {usual.prompts} | {usual.raters} | {numbers} |"
    wrong = sum(cell.wrongly_better for cell in cells[2::3]) / (studies * len(cells[2::3]))
    yield (
        f"\nWrongly better over all sizes: {wrong:.1%} ± {_margin(studies * len(cells[2::3])):.1%}."
    )


def _margin(n: int) -> float:
    """Return how far off a share of 5 % of `n` comes out, 19 times in 20."""
    return 1.96 * math.sqrt(0.05 * 0.95 / n)


def _plans_table(plans: Sequence[Effect], studies: int) -> Iterator[str]:
    yield f"\nStudies of each of {len(_STEPS)} sizes: {studies}.\n"
    yield (
        "| better by, before rounding | raters | planned | needed | planned / needed "
        f"| plan from a pilot of {_PILOT}: median (quartiles) |"
    )
    yield "|---|---|---|---|---|---|"
    for plan in plans:
        low, middle, high = plan.pilots
        yield (
            f"| {plan.better_by} | {plan.raters} | {plan.planned} | {plan.needed:.0f} "
            f"| {plan.planned / plan.needed:.2f} | {middle:.0f} ({low:.0f} to {high:.0f}) |"
        )


if __name__ == "__main__":
    typer.run(main)
