"""Turns advice on which model to take into HTML for the measure page.

Decides nothing: what is advised is `rating.advice`'s, its sentences are `rating.reasons`'s. All
values are escaped by Jinja.
"""

from backends.amounts import bytes_text
from rating.advice import LIMITED, Advice, Row, scatter
from rating.advice_report import situation_name, turns_on
from rating.advice_texts import NAMES, WORDS, chosen
from rating.candidates import Spread
from rating.intervals import Mean
from rating.measured_text import number_text
from rating.reasons import sentence
from rating.situations import Finding
from ui import markup
from ui.language import Texts

_NONE = "–"
_ARTICLE_HEADS = ("situation", "article", "turns_on", "supports", "agreement")


def advice(t: Texts, given: Advice) -> str:
    """Return the verdict, what it rests on, and the article's advice beside it."""
    language = t.language
    verdict, *reasons = [sentence(reason, language) for reason in given.reasons]
    names = [chosen(NAMES[figure], language) for figure in LIMITED]
    return markup.render(
        "measure_advice",
        t,
        verdict=verdict,
        reasons=reasons,
        heads=[_word(t, "model"), _word(t, "state"), *names, _word(t, "score")],
        rows=[(row.candidate.model_key, _cells(t, row)) for row in given.rows],
        charted=bool(scatter(given)),
        article_title=_word(t, "article_title"),
        article_heads=[*(_word(t, head) for head in _ARTICLE_HEADS), t("why")],
        findings=[_finding(t, finding) for finding in given.findings],
        article_note=_word(t, "article_note"),
    )


def _word(t: Texts, name: str) -> str:
    return chosen(WORDS[name], t.language)


def _cells(t: Texts, row: Row) -> list[str]:
    one = row.candidate
    return [
        _word(t, row.state),
        _NONE if one.peak_bytes is None else bytes_text(one.peak_bytes),
        _seconds(Spread.of(one.first_token_s.values())),
        _seconds(Spread.of(one.answer_s.values())),
        _score(one.quality),
    ]


def _seconds(spread: Spread | None) -> str:
    if spread is None:
        return _NONE
    around = "" if spread.sd is None else f" ± {number_text(spread.sd)}"
    return f"{number_text(spread.mean)}{around} s (n = {spread.n})"


def _score(score: Mean | None) -> str:
    if score is None:
        return _NONE
    between = "" if score.low is None else f" [{score.low:.2f}, {score.high:.2f}]"
    return f"{score.mean:.2f}{between} (n = {score.n})"


def _finding(t: Texts, finding: Finding) -> tuple[str, list[str], list[str]]:
    """Return the situation, what stands beside it, and why."""
    situation, takes = finding.situation, finding.situation.takes
    if situation.gpu:
        takes = _word(t, "gpu").format(model=takes)
    return (
        f"{situation.section} {situation_name(situation, t.language)}",
        [
            takes,
            turns_on(situation, t.language),
            finding.supports or _NONE,
            _word(t, finding.agreement),
        ],
        [sentence(reason, t.language) for reason in finding.reasons],
    )
