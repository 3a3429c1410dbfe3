"""What a dimension's scores prove, in one sentence of Chinese or English.

Decides nothing (that is `decisions`'), and rounds so that no sentence claims more than the figures:
margins and p upwards, plans to two digits, upwards.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

from db import Dimension, Language
from rating.dimensions import WORDINGS
from rating.statistics.bootstrap import FEWEST_PROMPTS
from rating.statistics.figures import DimensionFigures, Interval, VerdictKind

_SENTENCES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "better": (
            "{dimension}：{better} 优于 {worse}，平均高 {points} 分"
            "（95% 区间 {low} 至 {high}；{p}，已按各维度校正；{n} 个问题）。",
            "{dimension}: {better} is better than {worse}, by {points} points on average "
            "(95 % interval {low} to {high}; {p} after correction over the dimensions; "
            "{n} prompts).",
        ),
        "no_difference": (
            "{dimension}：{first} 与 {second} 没有大于 {margin} 分的差异（{n} 个问题）。",
            "{dimension}: no difference larger than {margin} points between {first} and {second} "
            "({n} prompts).",
        ),
        "undecided": (
            "{dimension}：还看不出 {first} 与 {second} 哪个更好，大约还需要 {more} 个{kind}"
            "（已有 {n} 个）。",
            "{dimension}: can't tell yet whether {first} or {second} is better: about {more} more "
            "{kind} (so far {n}).",
        ),
        "unforeseeable": (
            "{dimension}：还看不出 {first} 与 {second} 哪个更好，还需要多少{kind}也无法预计"
            "（已有 {n} 个）。",
            "{dimension}: can't tell yet whether {first} or {second} is better, nor how many more "
            "{kind} it takes (so far {n}).",
        ),
        "too_few": (
            "{dimension}：还看不出 {first} 与 {second} 哪个更好，至少要有 {fewest} 个{kind}"
            "（已有 {n} 个）。",
            "{dimension}: can't tell yet whether {first} or {second} is better: it takes at least "
            "{fewest} {kind} (so far {n}).",
        ),
        "no_data": (
            "{dimension}：还没有{kind}让 {first} 与 {second} 都得到评分。",
            "{dimension}: there are no {kind} yet on which both {first} and {second} were scored.",
        ),
    }
)
_PROMPTS = ("问题", "prompts")
_LATER_TURNS = ("多轮问题", "prompts of several turns")


def sentence(
    figures: DimensionFigures,
    dimension: Dimension,
    names: tuple[str, str],
    language: Language,
) -> str:
    """Return the verdict on one dimension.

    Args:
        figures: Of that dimension.
        dimension: Named as in `rating.dimensions`.
        names: What to call the first and the second model.
        language: Of the sentence.
    """
    place = list(Language).index(language)
    of_turns = dimension is Dimension.MEMORY
    return _SENTENCES[_key(figures)][place].format(
        dimension=WORDINGS[dimension][language.value].name,
        first=names[0],
        second=names[1],
        n=figures.n_prompts,
        kind=(_LATER_TURNS if of_turns else _PROMPTS)[place],
        fewest=FEWEST_PROMPTS,
        **_numbers(figures),
        **_ranked(figures, names),
    )


def _key(figures: DimensionFigures) -> str:
    verdict = figures.verdict
    if verdict.kind in {VerdictKind.FIRST_BETTER, VerdictKind.SECOND_BETTER}:
        return "better"
    if verdict.kind is not VerdictKind.UNDECIDED:
        return verdict.kind.value
    if figures.n_prompts < FEWEST_PROMPTS:
        return "too_few"
    return "unforeseeable" if verdict.more_prompts is None else "undecided"


def _numbers(figures: DimensionFigures) -> dict[str, str]:
    verdict = figures.verdict
    return {
        "p": "" if figures.p_holm is None else p_text(figures.p_holm),
        "margin": "" if verdict.margin is None else f"{_up(verdict.margin, 2):.2f}",
        "more": "" if verdict.more_prompts is None else str(rounded_up(verdict.more_prompts)),
    }


def _ranked(figures: DimensionFigures, names: tuple[str, str]) -> dict[str, str]:
    """Return who is better and by how much, seen from the better one."""
    difference = figures.difference or 0.0
    interval = figures.interval or Interval(difference, difference)
    first, second = names
    if figures.verdict.kind is VerdictKind.FIRST_BETTER:
        first, second = second, first
        difference, interval = -difference, Interval(-interval.high, -interval.low)
    return {
        "better": second,
        "worse": first,
        "points": _plain(difference),
        "low": _plain(interval.low),
        "high": _plain(interval.high),
    }


def p_text(p: float) -> str:
    """Return p as "p = 0.012", rounded up, or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {min(1.0, _up(p, 3)):.3f}"


def rounded_up(count: int) -> int:
    """Return a count with two digits that say something, rounded up: 123 is 130."""
    step: int = 10 ** max(0, len(str(count)) - 2)
    return math.ceil(count / step) * step


def _up(value: float, decimals: int) -> float:
    step = 10.0**-decimals
    return math.ceil(round(value / step, 6)) * step


def _plain(points: float) -> str:
    """Return points to two decimals, with a real minus sign and no "-0.00"."""
    text = f"{points:.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "\N{MINUS SIGN}")
