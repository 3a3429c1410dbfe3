"""The summary as Markdown, in Chinese or English: verdicts in words, then the figures behind them.

Good to read in a terminal and to paste into a README. Computes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields

from db import Dimension, Language
from rating import article
from rating.dimensions import WORDINGS
from rating.quality import Flag, wording
from rating.statistics.figures import (
    DimensionFigures,
    Estimate,
    Interval,
    PairFigures,
    Rank,
    Results,
)
from rating.statistics.verdicts import sentence
from rating.summary import is_builtin, signed, two_decimals

_EN: Mapping[str, str] = {
    "empty": "No ratings yet.",
    "blind": "blind",
    "open": "open",
    "title": "## {first} and {second}, {mode}",
    "counts": "{trials} rated trials, {prompts} prompts, {raters} raters.",
    "tiny": "These are tiny built-in models for trying the panel, no measure of the real ones.",
    "dimension": "dimension",
    "n": "prompts (ratings)",
    "difference": "difference, 95 % interval",
    "p": "p (Holm)",
    "effect": "effect",
    "alpha": "agreement (alpha)",
    "article": "{model} (article)",
    "note": "The difference is {second} minus {first}, over prompts. The article's figures stand "
    "beside for reference: it names no number of raters, no interval and no blinding.",
    "preference": "Preference: {first} {a}, {second} {b}, tie {tie}, both bad {both_bad}.",
    "win_rate": "Of the clear ones {second} wins {rate}; sign test p = {p}.",
    "bias": "What else may have moved the scores:",
    "excluded": "Left out for signs of careless rating, {n} in all: {flags}.",
    "ranking": "## Ranking (Bradley-Terry strength)",
    "model": "model",
    "strength": "strength, 95 % interval",
    "left_right": "left minus right, points",
    "length": "longer answers, rank correlation",
    "order": "last minus first trial of a rater, points",
    "halo": "correlation between dimensions",
    "straight_lined": "ratings with one score throughout",
    "guessed_right": "guesses of who was who that were right",
    "retest": "agreement with silent repeats (alpha)",
}
_ZH: Mapping[str, str] = {
    "empty": "还没有评分。",
    "blind": "盲评",
    "open": "明评",
    "title": "## {first} 与 {second}，{mode}",
    "counts": "已评分 {trials} 次，{prompts} 个问题，{raters} 位评分者。",
    "tiny": "这是供试用面板的内置小模型，不代表真实模型的水平。",
    "dimension": "维度",
    "n": "问题数（评分数）",
    "difference": "差值及 95 % 区间",
    "p": "p（Holm）",
    "effect": "效应量",
    "alpha": "一致性（alpha）",
    "article": "{model}（文章）",
    "note": "差值为 {second} 减 {first}，以问题为单位。文章的数字仅供参考：没有评分人数、没有区间，"
    "也不是盲评。",
    "preference": "总体偏好：{first} {a}，{second} {b}，不相上下 {tie}，都不好 {both_bad}。",
    "win_rate": "其中分出高下的，{second} 胜出 {rate}；符号检验 p = {p}。",
    "bias": "可能影响分数的其他因素：",
    "excluded": "因疑似不认真评分而未计入（共 {n} 次）：{flags}。",
    "ranking": "## 排名（Bradley-Terry 强度）",
    "model": "模型",
    "strength": "强度及 95 % 区间",
    "left_right": "左边减右边（分）",
    "length": "回答长度的等级相关",
    "order": "同一评分者末次减首次（分）",
    "halo": "维度之间的相关",
    "straight_lined": "从头到尾同一分数的评分占比",
    "guessed_right": "猜对哪边是哪个模型的占比",
    "retest": "与暗中重复评分的一致性（alpha）",
}
WORDS: Mapping[Language, Mapping[str, str]] = {Language.EN: _EN, Language.ZH: _ZH}

BETWEEN: Mapping[Language, str] = {Language.EN: ", ", Language.ZH: "，"}


def as_markdown(results: Results, language: Language = Language.EN) -> str:
    """Return the whole summary in one language."""
    words = WORDS[language]
    if not results.pairs:
        return words["empty"]
    parts = [_pair(pair, language) for pair in results.pairs]
    if results.ranking:
        parts.append(_ranking(results.ranking, words))
    return "\n\n".join(parts)


def interval_text(interval: Interval | None) -> str:
    """Return for example `[-0.20, +0.45]`; "–" where there is none."""
    return "–" if interval is None else f"[{interval.low:+.2f}, {interval.high:+.2f}]"


def p_text(p: float | None) -> str:
    """Return a p value for a table."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _pair(pair: PairFigures, language: Language) -> str:
    words, (first, second) = WORDS[language], pair.models
    mode = words["blind" if pair.blind else "open"]
    lines = [words["title"].format(first=first, second=second, mode=mode), ""]
    lines += [f"- {line}" for line in verdicts(pair, language)]
    counts = words["counts"].format(
        trials=pair.n_trials, prompts=pair.n_prompts, raters=pair.n_raters
    )
    lines += ["", f"{counts} {words['tiny']}" if is_builtin(pair.models) else counts, ""]
    lines += [*_table(pair, language), ""]
    lines += [words["note"].format(first=first, second=second), "", _preference(pair, words)]
    if known := _bias(pair, words):
        lines += ["", words["bias"], "", *known]
    if pair.excluded:
        flags = [f"{wording(Flag(flag), language)} {n}" for flag, n in pair.excluded.items()]
        lines += [
            "",
            words["excluded"].format(n=pair.n_excluded, flags=BETWEEN[language].join(flags)),
        ]
    return "\n".join(lines)


def verdicts(pair: PairFigures, language: Language) -> list[str]:
    """Return what each dimension's scores prove, one sentence each."""
    return [sentence(pair.dimensions[key], key, pair.models, language) for key in Dimension]


def _table(pair: PairFigures, language: Language) -> list[str]:
    words, columns = WORDS[language], article.columns_for(pair.models)
    head = [
        words["dimension"],
        *pair.models,
        *(words[name] for name in ("difference", "p", "effect", "alpha", "n")),
        *(words["article"].format(model=column.model) for column in columns),
    ]
    rows = [head, ["---"] * len(head)]
    for key in Dimension:
        figures = pair.dimensions[key]
        rows.append(
            [
                WORDINGS[key][language].name,
                *(two_decimals(figures.mean.get(model)) for model in pair.models),
                _with_interval(figures),
                p_text(figures.p_holm),
                signed(figures.effect),
                two_decimals(figures.agreement.alpha if figures.agreement else None),
                f"{figures.n_prompts} ({figures.n_ratings})",
                *(f"{column.scores[key]:.1f}" for column in columns),
            ]
        )
    return [f"| {' | '.join(row)} |" for row in rows]


def _with_interval(figures: DimensionFigures) -> str:
    if figures.interval is None:
        return signed(figures.difference)
    return f"{signed(figures.difference)} {interval_text(figures.interval)}"


def _preference(pair: PairFigures, words: Mapping[str, str]) -> str:
    first, second = pair.models
    counts = pair.preference
    said = words["preference"].format(
        first=first,
        second=second,
        a=counts.a,
        b=counts.b,
        tie=counts.tie,
        both_bad=counts.both_bad,
    )
    if counts.win_rate is None:
        return said
    rate = f"{counts.win_rate:.0%}{_shares(counts.interval)}"
    return f"{said} {words['win_rate'].format(second=second, rate=rate, p=p_text(counts.p))}"


def _shares(interval: Interval | None) -> str:
    return "" if interval is None else f" [{interval.low:.0%}, {interval.high:.0%}]"


def _bias(pair: PairFigures, words: Mapping[str, str]) -> list[str]:
    lines = []
    for each in fields(pair.bias):
        estimate: Estimate | None = getattr(pair.bias, each.name)
        if estimate is not None:
            lines.append(f"- {words[each.name]}: {estimate_text(each.name, estimate)}")
    return lines


def estimate_text(name: str, estimate: Estimate) -> str:
    """Return a figure of bias with its interval and number: shares in percent, others signed."""
    if name in ("straight_lined", "guessed_right"):
        return f"{estimate.value:.0%}{_shares(estimate.interval)} (n {estimate.n})"
    return f"{signed(estimate.value)} {interval_text(estimate.interval)} (n {estimate.n})"


def _ranking(ranking: Sequence[Rank], words: Mapping[str, str]) -> str:
    rows = [
        f"| {place} | {rank.model} | {signed(rank.strength)} {interval_text(rank.interval)} "
        f"| {rank.n} |"
        for place, rank in enumerate(ranking, start=1)
    ]
    head = f"| | {words['model']} | {words['strength']} | n |"
    return "\n".join([words["ranking"], "", head, "|---|---|---|---|", *rows])
