"""Advice as Markdown in Chinese or English, and as plain data.

Decides nothing. Sentences come from `reasons`, other words from `texts`.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from backends.amounts import bytes_text
from db import Language
from rating.advice.candidates import Candidate, Spread
from rating.advice.choice import LIMITED, Advice, Row, scatter
from rating.advice.reasons import seconds_text, sentence
from rating.advice.situations import Finding, Situation
from rating.advice.standing import Figure
from rating.advice.texts import NAMES, SITUATIONS, WORDS, chosen
from rating.measuring.report import NONE, spread_text
from rating.statistics.intervals import Mean


def _situation_name(situation: Situation, language: Language) -> str:
    """Return what the situation is called."""
    return chosen(SITUATIONS[situation.key], language)


def _turns_on(situation: Situation, language: Language) -> str:
    """Return the figures or the scores that decide in the situation."""
    keys = [situation.ground] if situation.ground else situation.turns_on
    return chosen(("、", ", "), language).join(chosen(NAMES[key], language) for key in keys)


def as_markdown(advice: Advice, language: Language) -> str:
    """Return the verdict, its reasons, the models and the article's advice beside them."""

    def word(name: str) -> str:
        return chosen(WORDS[name], language)

    verdict, *reasons = (sentence(reason, language) for reason in advice.reasons)
    parts = [f"## {word('title')}", f"**{verdict}**"]
    if not advice.rows:
        return "\n\n".join(parts)
    parts += [
        word("limits").format(limits=_limits(advice, language)),
        "\n".join(f"- {text}" for text in reasons),
        _table(model_heads(language), [model_cells(row, language) for row in advice.rows]),
        f"### {word('article_title')}",
        _table(
            article_heads(language),
            [
                [*finding_cells(one, language), " ".join(finding_reasons(one, language))]
                for one in advice.findings
            ],
        ),
        word("article_note"),
    ]
    return "\n\n".join(part for part in parts if part)


def _limits(advice: Advice, language: Language) -> str:
    parts = [
        f"{chosen(NAMES[figure], language)} {_amount(limit, figure, language)}"
        for figure in LIMITED
        if (limit := advice.limits.of(figure)) is not None
    ]
    return chosen(("、", ", "), language).join(parts) or chosen(WORDS["no_limits"], language)


def _amount(value: float, figure: Figure, language: Language) -> str:
    return bytes_text(value) if figure.unit == "bytes" else seconds_text(value, language)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _heading(figure: Figure, language: Language) -> str:
    name = chosen(NAMES[figure], language)
    return name if figure.unit == "bytes" else chosen(WORDS["seconds"], language).format(name=name)


def model_heads(language: Language) -> list[str]:
    """Return what stands above `model_cells`."""
    first, second, last = (chosen(WORDS[name], language) for name in ("model", "state", "score"))
    return [first, second, *(_heading(figure, language) for figure in LIMITED), last]


def model_cells(row: Row, language: Language) -> list[str]:
    """Return a model's key, its state and its figures."""
    one = row.candidate
    return [
        one.model_key,
        chosen(WORDS[row.state], language),
        NONE if one.peak_bytes is None else bytes_text(one.peak_bytes),
        spread_text(Spread.of(one.first_token_s.values())),
        spread_text(Spread.of(one.answer_s.values())),
        _score(one.quality),
    ]


def _score(score: Mean | None) -> str:
    if score is None:
        return NONE
    edges = "" if score.low is None else f"{score.low:.2f}–{score.high:.2f}, "
    return f"{score.mean:.2f} ({edges}n {score.n})"


def article_heads(language: Language) -> list[str]:
    """Return what stands above `finding_cells` and the reasons after them."""
    names = ("situation", "article", "turns_on", "supports", "agreement", "why")
    return [chosen(WORDS[name], language) for name in names]


def finding_reasons(finding: Finding, language: Language) -> list[str]:
    """Return why the data agree with the article, or don't."""
    return [sentence(reason, language) for reason in finding.reasons]


def finding_cells(finding: Finding, language: Language) -> list[str]:
    """Return a situation, what the article says of it, and whether the data agree."""
    situation = finding.situation
    takes = situation.takes
    if situation.gpu:
        takes = chosen(WORDS["gpu"], language).format(model=takes)
    return [
        f"{situation.section} {_situation_name(situation, language)}",
        takes,
        _turns_on(situation, language),
        finding.supports or NONE,
        chosen(WORDS[finding.agreement], language),
    ]


def as_json(advice: Advice) -> dict[str, Any]:
    """Return the advice as plain data: limits, choice, reasons, models, article, scatter.

    Each reason has its code, its raw details and its sentence in both languages.
    """
    return {
        "limits": asdict(advice.limits),
        "choice": advice.choice,
        "reasons": [reason.as_json() for reason in advice.reasons],
        "models": [{"state": row.state.value, **_plain(row.candidate)} for row in advice.rows],
        "article": [
            {
                "situation": finding.situation.key,
                "section": finding.situation.section,
                "takes": finding.situation.takes,
                "gpu": finding.situation.gpu,
                "supports": finding.supports,
                "agreement": finding.agreement.value,
                "reasons": [reason.as_json() for reason in finding.reasons],
            }
            for finding in advice.findings
        ],
        "scatter": [asdict(point) for point in scatter(advice)],
    }


def _plain(candidate: Candidate) -> dict[str, Any]:
    first, answer = (
        Spread.of(times.values()) for times in (candidate.first_token_s, candidate.answer_s)
    )
    return {
        "model": candidate.model_key,
        "revision": candidate.revision,
        "precision": candidate.precision,
        "remote": candidate.remote,
        "builtin": candidate.builtin,
        "peak_bytes": candidate.peak_bytes,
        "size_bytes": candidate.size_bytes,
        "cold_start_s": candidate.cold_start_s,
        "warm_start_s": candidate.warm_start_s,
        "others_share": candidate.others_share,
        "first_token_s": first and asdict(first),
        "answer_s": answer and asdict(answer),
        "n_failed": candidate.n_failed,
        "error": candidate.error,
        "quality": candidate.quality and asdict(candidate.quality),
    }
