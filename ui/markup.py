"""Turns trial views into HTML: rating form, reveal, status, notes under the panes.

All values are escaped by Jinja. What is in a view may be shown; nothing here decides that. The
browser's part is `static/panel.js`, the looks are `static/page.css`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal

import gradio as gr
import jinja2

from db import Dimension, Language, Preference, Side, TrialState
from rating.blinding import MASK
from rating.dimensions import WORDINGS, can_be_scored
from rating.entries import COMMENT_LIMIT, NO_IDEA
from rating.trial import AnswerStatus, AnswerView, RatingView, Timing, TrialView
from ui.language import Texts


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("ui"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, t: Texts, **values: object) -> str:
    """Return a template of `templates/`, filled in; everything in it is escaped."""
    return _environment().get_template(f"{template}.html").render(t=t, **values)


def component(**options: Any) -> gr.HTML:
    """Return an HTML component that shows what is made here, without Gradio's own style of text."""
    return gr.HTML(apply_default_css=False, **options)


def header(t: Texts, here: Literal["compare", "summary", "sessions", "models", "measure"]) -> str:
    """Return the page's header with its switches."""
    other = Language.EN if t.language is Language.ZH else Language.ZH
    return render("header", t, here=here, other_language=other)


def mode(t: Texts, *, blind: bool, tiny: bool) -> str:
    """Return what a rater must know of this panel."""
    return render("mode", t, blind=blind, tiny=tiny)


def suggestions(t: Texts, prompts: Sequence[str]) -> str:
    """Return buttons that put a prompt into the box."""
    return render("suggestions", t, prompts=prompts)


def status(t: Texts, kind: str, message: str, progress: float | None) -> str:
    """Return the line that says whether the models are ready; `progress` is 0 to 1."""
    return render("status", t, kind=kind, message=message, progress=progress)


def foot(t: Texts, view: TrialView, side: Side) -> str:
    """Return what stands under a pane: its name if known, what is wrong, live timing."""
    if not view.turns:
        return ""
    answer = view.turns[-1].answers[side]
    note, bad = _note(t, answer)
    name = view.reveal[side].model_key if view.reveal else None
    timing = _live_timing(t, answer) if view.state is not TrialState.REVEALED else None
    masked = view.reveal is None and any(MASK in turn.answers[side].text for turn in view.turns)
    return render("foot", t, name=name, note=note, bad=bad, timing=timing, masked=masked)


def _note(t: Texts, answer: AnswerView) -> tuple[str, bool]:
    if answer.status is AnswerStatus.FAILED:
        return t("side_failed", reason=t(f"error_{answer.error}")), True
    if answer.status is AnswerStatus.STOPPED:
        return t("side_stopped"), True
    if answer.status is AnswerStatus.STREAMING:
        return t("side_writing" if answer.text else "side_waiting"), False
    return "", False


def _live_timing(t: Texts, answer: AnswerView) -> str | None:
    timing = answer.timing
    if answer.cached:
        return _recorded_timing(t, timing.tokens_per_s if timing else None)
    if timing is None or timing.first_token_s is None:
        return None
    first, rate = f"{timing.first_token_s:.2f}", timing.tokens_per_s
    if rate is None:
        return t("live_first", first=first)
    return t("live_timing", first=first, rate=f"{rate:.1f}")


def _recorded_timing(t: Texts, rate: float | None) -> str:
    """Say that nothing is measured now: how fast the answer comes is only played."""
    return t("cached") if rate is None else t("cached_rate", rate=f"{rate:.1f}")


def rating_form(t: Texts, view: TrialView) -> str:
    """Return the rating form: locked, open with what was entered so far, or as it was saved."""
    draft = _saved(view.rating) if view.rating else _safe_draft(view.draft)
    scores = draft["scores"]

    def entered(side: Side, dimension: Dimension) -> int | str | None:
        return scores.get(side, {}).get(dimension)  # type: ignore[no-any-return]

    return render(
        "rating",
        t,
        view=view,
        draft=draft,
        entered=entered,
        hint=t(_hint(view)),
        unlocked=view.state is TrialState.RATEABLE,
        dimensions=[
            (key, WORDINGS[key][t.language], can_be_scored(key, len(view.turns)))
            for key in Dimension
        ],
        sides=list(Side),
        preferences=list(Preference),
        guesses=_guesses(t, view),
        memory_note=t("memory_one_turn_session" if view.session else "memory_one_turn"),
        comment_limit=COMMENT_LIMIT,
    )


def _guesses(t: Texts, view: TrialView) -> list[tuple[str, str]]:
    """Return what can be guessed, in an order that doesn't depend on the sides; or nothing."""
    if view.to_guess is None:
        return []
    first, second = view.to_guess
    return [(Side.LEFT, first), (Side.RIGHT, second), (NO_IDEA, t("guess_none"))]


def _hint(view: TrialView) -> str:
    if view.other_models and view.rating is None and view.turns:
        rateable = view.state is TrialState.RATEABLE
        return "hint_other_pair" if rateable else "hint_other_pair_unfinished"
    if view.to_retry and not view.streaming:
        return "hint_retry"
    if view.session and view.state in (TrialState.ANSWERING, TrialState.RATEABLE):
        return f"hint_{view.state}_session"
    return "reveal_final" if view.rating else f"hint_{view.state}"


def _saved(rating: RatingView) -> dict[str, Any]:
    scores: dict[str, dict[str, int | str]] = {side: {} for side in Side}
    for (side, dimension), score in rating.scores.items():
        scores[side][dimension] = "na" if score is None else score
    return {
        "scores": scores,
        "preference": rating.preference,
        "comment": rating.comment,
        "guess": rating.guess or NO_IDEA,
    }


def _safe_draft(draft: Mapping[str, Any] | None) -> dict[str, Any]:
    """A draft comes from a browser: keep what has the shape of entries."""
    draft = draft or {}
    scores, edited_at = draft.get("scores"), draft.get("edited_at")
    sides = scores if isinstance(scores, dict) else {}
    return {
        "scores": {side: value for side, value in sides.items() if isinstance(value, dict)},
        "preference": draft.get("preference"),
        "guess": draft.get("guess"),
        "comment": str(draft.get("comment") or "")[:COMMENT_LIMIT],
        "edited_at": edited_at if isinstance(edited_at, int) else 0,
    }


def reveal(t: Texts, view: TrialView, *, tiny: bool) -> str:
    """Return who was who, with the true timings; "" before the rating is saved."""
    if view.rating is None or view.reveal is None:
        return ""
    return render("reveal", t, view=view, sides=list(Side), figures=_FIGURES, tiny=tiny)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _tokens(timing: Timing) -> str:
    if timing.prompt_tokens is None or timing.completion_tokens is None:
        return ""
    return f"{timing.prompt_tokens} + {timing.completion_tokens}"


def _rate(timing: Timing) -> str:
    return "" if timing.tokens_per_s is None else f"{timing.tokens_per_s:.1f}"


_FIGURES: tuple[tuple[str, Callable[[Timing], str]], ...] = (
    ("first_token", lambda timing: _seconds(timing.first_token_s)),
    ("total_time", lambda timing: _seconds(timing.total_s)),
    ("tokens", _tokens),
    ("token_rate", _rate),
)
