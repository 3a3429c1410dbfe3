"""The results page's figures as HTML: verdicts first, then what stands beside and behind them.

Shows what it is given; who may see it is decided in `page`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from urllib.parse import urlencode

from db import Dimension
from db.queries import Filters
from rating import article
from rating.dimensions import HIGHEST, LOWEST, WORDINGS
from rating.findings import Findings, PairFindings
from rating.quality import Flag, wording
from rating.statistics.figures import Agreement, PairFigures, PreferenceFigures
from rating.statistics.verdicts import sentence
from rating.summary import is_builtin, signed, two_decimals
from rating.summary_markdown import estimate_text, interval_text, p_text
from ui import markup
from ui.language import Texts

Limits = Mapping[str, str]
"""What the page's address says of the filters, by its own names."""

INCLUDED = "included"
"""In the address: trials with signs of careless rating count as well."""


@dataclass(frozen=True)
class Preferred:
    """One part of the bar of preferences."""

    label: str
    count: int
    share: float
    kind: str


def limits_of(filters: Filters, *, include_flagged: bool) -> Limits:
    """Return what the page's address says of the filters; of pair and mode the figures tell."""
    last = filters.until - timedelta(days=1) if filters.until else None
    said = {
        "language": filters.language.value if filters.language else "",
        "since": filters.since.date().isoformat() if filters.since else "",
        "until": last.date().isoformat() if last else "",
        "session": filters.session or "",
        "flagged": INCLUDED if include_flagged else "",
    }
    return {name: value for name, value in said.items() if value}


def lead(t: Texts, findings: Findings, limits: Limits, *, hidden_sessions: int) -> str:
    """Return the page's title and what each pair's scores prove."""
    return markup.render(
        "results_lead", t, findings=findings, hidden_sessions=hidden_sessions
    ) + "".join(pair(t, found, findings, limits) for found in findings.pairs)


def pair(t: Texts, found: PairFindings, findings: Findings, limits: Limits | None) -> str:
    """Return one pair's verdicts, with agreement, bias and preferences beside them.

    Each leads to its trials under these limits; None is a page without links.
    """
    figures = found.figures
    return markup.render(
        "results_pair",
        t,
        pair=figures,
        builtin=is_builtin(figures.models),
        verdicts=[
            (figures.dimensions[key].verdict.kind.value, words, _link(figures, limits, key))
            for key, words in verdict_words(t, figures)
        ],
        agreement=agreement(t, figures),
        bias=bias(t, figures),
        preferences=preferences(t, figures),
        win_rate=win_rate(t, figures),
        excluded=excluded(t, figures),
        include_flagged=findings.include_flagged,
    )


def _link(figures: PairFigures, limits: Limits | None, key: Dimension, **about: object) -> str:
    if limits is None:
        return ""
    return trials_link(figures, limits, dimension=key.value, **about)


def verdict_words(t: Texts, figures: PairFigures) -> list[tuple[Dimension, str]]:
    """Return each dimension with the sentence of its verdict."""
    return [
        (key, sentence(figures.dimensions[key], key, figures.models, t.language))
        for key in Dimension
    ]


def agreement(t: Texts, figures: PairFigures) -> list[tuple[str, str]]:
    """Return each dimension with how far raters of the same prompt agree, where that is known."""
    known = [(key, figures.dimensions[key].agreement) for key in Dimension]
    return [(_name(t, key), _alpha(found)) for key, found in known if found is not None]


def _alpha(found: Agreement) -> str:
    interval = found.interval
    between = f" [{interval.low:.2f}, {interval.high:.2f}]" if interval else ""
    return f"{found.alpha:.2f}{between}"


def bias(t: Texts, figures: PairFigures) -> list[tuple[str, str]]:
    """Return what may have moved the scores besides the models, as far as it is known."""
    known = [(each.name, getattr(figures.bias, each.name)) for each in fields(figures.bias)]
    return [
        (t(f"bias_{name}"), estimate_text(name, estimate))
        for name, estimate in known
        if estimate is not None
    ]


def preferences(t: Texts, figures: PairFigures) -> list[Preferred]:
    """Return the parts of the bar of preferences, in their order."""
    first, second = figures.models
    counts = figures.preference
    parts = [
        (t("preferred", model=first), counts.a, "first"),
        (t("tie"), counts.tie, "tie"),
        (t("both_bad"), counts.both_bad, "bad"),
        (t("preferred", model=second), counts.b, "second"),
    ]
    total = max(1, sum(count for _, count, _ in parts))
    return [Preferred(label, count, count / total, kind) for label, count, kind in parts]


def win_rate(t: Texts, figures: PairFigures) -> str:
    """Return how many of the clear preferences the second model has; "" where there are none."""
    counts: PreferenceFigures = figures.preference
    if counts.win_rate is None:
        return ""
    between = ""
    if counts.interval is not None:
        between = f" [{counts.interval.low:.0%}, {counts.interval.high:.0%}]"
    rate = f"{counts.win_rate:.0%}{between}"
    return t("win_rate", model=figures.models[1], rate=rate, p=p_text(counts.p))


def excluded(t: Texts, figures: PairFigures) -> list[str]:
    """Return how many ratings are left out, by the sign of careless rating."""
    return [
        f"{wording(Flag(flag), t.language)}: {count}" for flag, count in figures.excluded.items()
    ]


def figures_table(t: Texts, found: PairFindings, limits: Limits | None) -> str:
    """Return all figures of one pair as a table, the article's beside, and the scores given.

    With links as in `pair`.
    """
    figures = found.figures
    return markup.render(
        "results_figures",
        t,
        pair=figures,
        dimensions=[
            (key, _name(t, key), figures.dimensions[key], _link(figures, limits, key))
            for key in Dimension
        ],
        article=article.columns_for(figures.models),
        given=_given_rows(t, found, limits),
        scores=range(LOWEST, HIGHEST + 1),
        two_decimals=two_decimals,
        signed=signed,
        interval_text=interval_text,
        p_text=p_text,
    )


def _given_rows(
    t: Texts, found: PairFindings, limits: Limits | None
) -> list[tuple[str, str, list[tuple[int, str]]]]:
    rows = []
    for key in Dimension:
        for model in found.figures.models:
            counts = [
                (
                    count,
                    _link(found.figures, limits, key, model=model, score=score) if count else "",
                )
                for score, count in enumerate(found.given[key][model], start=LOWEST)
            ]
            rows.append((_name(t, key), model, counts))
    return rows


def ranking(t: Texts, findings: Findings) -> str:
    """Return the models in their order, where there are three or more; "" otherwise."""
    if not findings.ranking:
        return ""
    return markup.render(
        "results_ranking",
        t,
        ranking=findings.ranking,
        signed=signed,
        interval_text=interval_text,
    )


def trials_link(figures: PairFigures, limits: Limits, **about: object) -> str:
    """Return the address of this page with the trials behind a figure, and no others."""
    mode = "blind" if figures.blind else "open"
    asked = {"pair": "|".join(figures.models), "mode": mode, **limits, **about}
    return f"./summary?{urlencode(asked)}#trials"


def _name(t: Texts, key: Dimension) -> str:
    return WORDINGS[key][t.language].name
