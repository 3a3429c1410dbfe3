"""Turns advice on which model to take into HTML for the measure page.

Decides nothing: what is advised is `rating.advice`'s, its sentences are its `reasons`'s. All values
are escaped by Jinja.
"""

from db import Language
from rating.advice.choice import Advice, scatter
from rating.advice.reasons import sentence
from rating.advice.report import (
    article_heads,
    finding_cells,
    finding_reasons,
    model_cells,
    model_heads,
)
from rating.advice.situations import Finding
from rating.advice.texts import WORDS, chosen
from ui import markup
from ui.language import Texts


def advice(t: Texts, given: Advice) -> str:
    """Return the verdict, what it rests on, and the article's advice beside it."""
    language = t.language
    verdict, *reasons = [sentence(reason, language) for reason in given.reasons]
    rows = [model_cells(row, language) for row in given.rows]
    return markup.render(
        "measure_advice",
        t,
        verdict=verdict,
        reasons=reasons,
        heads=model_heads(language),
        rows=[(name, cells) for name, *cells in rows],
        charted=bool(scatter(given)),
        article_title=chosen(WORDS["article_title"], language),
        article_heads=article_heads(language),
        findings=[_finding(finding, language) for finding in given.findings],
        article_note=chosen(WORDS["article_note"], language),
    )


def _finding(finding: Finding, language: Language) -> tuple[str, list[str], list[str]]:
    """Return the situation, what stands beside it, and why."""
    name, *cells = finding_cells(finding, language)
    return name, cells, finding_reasons(finding, language)
