"""What a measurement says: the article's tables 3.3 and 3.4 as frames, figures and plain data.

Every mean comes with its spread and the number of answers behind it; the article's figures are kept
apart, with its hardware. Stores and measures nothing. As a text it is `report`'s, pages and
charts are `ui`'s, and which model to take is `rating.advice`'s.
"""

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, fields
from typing import Any

import pandas as pd

from backends.catalog import MODELS
from backends.measurement import Resources, TimedAnswer
from db import MeasurementState
from rating import article
from rating.advice.candidates import Spread
from rating.article import Reference
from rating.measuring.measurements import MeasurementView
from rating.summary import TINY_NOTE

FIGURES = (
    "total_s",
    "first_token_s",
    "tokens_per_s",
    "prompt_tokens",
    "completion_tokens",
    "characters",
)
"""What is averaged of answers: seconds from the request, tokens a second, lengths."""

ALL_PROMPTS = 0
"""Stands where a prompt of the plan, from 1, would: the answers to all of them."""

Of = tuple[str, bool, int, str]
"""What a spread is of: model, whether together, prompt or `ALL_PROMPTS`, one of `FIGURES`."""


_BURST_S = 0.01
"""All that comes within it has waited somewhere on its way, and not for the model alone."""
_MOST_BYTES = 4
"""Of a character in UTF-8; each may be a token of its own."""
_CONTROL_TOKENS = 16


@dataclass(frozen=True)
class Failure:
    """Why figures are missing: of a model, or of so many of its answers."""

    model: str
    together: bool
    answers: int
    reason: str


def tokens_per_s(answer: TimedAnswer) -> float | None:
    """Return how fast it came once it had begun; None where that can't be told.

    (completion_tokens - 1) / (total_s - first_token_s): the first token's time is not in it. What
    arrived in one burst, or counts more tokens than its characters can have, tells nothing.
    """
    if answer.completion_tokens is None or answer.first_token_s is None or answer.total_s is None:
        return None
    written, took_s = answer.completion_tokens - 1, answer.total_s - answer.first_token_s
    credible = answer.completion_tokens <= _MOST_BYTES * answer.characters + _CONTROL_TOKENS
    return written / took_s if written > 0 and took_s >= _BURST_S and credible else None


def spreads(view: MeasurementView) -> dict[Of, Spread]:
    """Return mean and spread of everything that was timed or counted; failed answers in none."""
    values: dict[Of, list[float]] = defaultdict(list)
    for answer in view.answers:
        for figure, value in _figures_of(answer).items():
            for prompt in (answer.prompt, ALL_PROMPTS):
                values[answer.model_key, answer.together, prompt, figure].append(value)
    found = {of: Spread.of(those) for of, those in values.items()}
    return {of: spread for of, spread in found.items() if spread is not None}


def _figures_of(answer: TimedAnswer) -> dict[str, float]:
    """Return what is known of an answer; of one that failed, nothing."""
    if answer.error:
        return {}
    figures = {**vars(answer), "tokens_per_s": tokens_per_s(answer)}
    return {name: figures[name] for name in FIGURES if figures[name] is not None}


def latency_frame(view: MeasurementView) -> pd.DataFrame:
    """Return table 3.4 and more: one row for each `Of`.

    Columns: model, together, prompt, figure, mean, sd, low, high, n; sd is that of a sample, NaN
    of one answer.
    """
    names = ["model", "together", "prompt", "figure", *(field.name for field in fields(Spread))]
    rows = [(*of, *asdict(spread).values()) for of, spread in spreads(view).items()]
    return pd.DataFrame(rows, columns=names).astype(
        dict.fromkeys(("mean", "sd", "low", "high"), float)
    )


def answers_frame(view: MeasurementView) -> pd.DataFrame:
    """Return one row an answer, in their order: its fields, `tokens_per_s`, and the prompt's text.

    NaN is not known; `text` is what was asked.
    """
    names = [*(field.name for field in fields(TimedAnswer)), "tokens_per_s", "text"]
    rows = [
        (*asdict(answer).values(), tokens_per_s(answer), prompt_text(view, answer.prompt))
        for answer in view.answers
    ]
    return pd.DataFrame(rows, columns=names).astype(dict.fromkeys(FIGURES, float))


def resources_frame(view: MeasurementView) -> pd.DataFrame:
    """Return table 3.3: one row for each model, alone or together; NaN is not measured."""
    names = [field.name for field in fields(Resources)]
    return pd.DataFrame([asdict(one) for one in view.models], columns=names)


def prompt_text(view: MeasurementView, prompt: int) -> str:
    """Return what the prompt at that place of the plan says; "" where there is none."""
    return view.plan.prompts[prompt - 1] if 1 <= prompt <= len(view.plan.prompts) else ""


def failures(view: MeasurementView) -> list[Failure]:
    """Return why figures are missing; what a model's own reason quotes of its answers, only once.

    Equal reasons of one model's answers are counted together.
    """
    models = {(one.model_key, one.together): one.error for one in view.models if one.error}
    answers = Counter((a.model_key, a.together, a.error) for a in view.answers if a.error)
    return [
        *(Failure(model, together, 0, reason) for (model, together), reason in models.items()),
        *(
            Failure(model, together, count, reason)
            for (model, together, reason), count in answers.items()
            if reason not in models.get((model, together), "")
        ),
    ]


def builtin_models(view: MeasurementView) -> tuple[str, ...]:
    """Return those of its models that are no measure of real ones."""
    return tuple(key for key in view.plan.models if key in MODELS and MODELS[key].builtin)


def exit_code(view: MeasurementView) -> int:
    """Return how a command that measured ends: 0 with figures, 130 after Ctrl+C, else 1."""
    if view.state is MeasurementState.STOPPED:
        return 130
    timed = any(answer.total_s is not None for answer in view.answers)
    return 0 if timed and view.state is MeasurementState.DONE else 1


def as_json(view: MeasurementView) -> dict[str, Any]:
    """Return the measurement as plain data.

    `latency` has a row for each `Of`, its prompt 0 for all prompts; `answers` is what they are made
    of. `article` is what the published comparison says of the models beside which it can stand.
    """
    builtin = builtin_models(view)
    return {
        "id": view.id,
        "state": view.state.value,
        "error": view.error,
        "started_at": view.started_at.isoformat(),
        "finished_at": view.finished_at.isoformat() if view.finished_at else None,
        "machine": asdict(view.machine),
        "plan": asdict(view.plan),
        "resources": [asdict(one) for one in view.models],
        "latency": [
            dict(zip(("model", "together", "prompt", "figure"), of, strict=True)) | asdict(spread)
            for of, spread in spreads(view).items()
        ],
        "answers": [asdict(one) | {"tokens_per_s": tokens_per_s(one)} for one in view.answers],
        "failures": [asdict(one) for one in failures(view)],
        "article": {
            "hardware": article.HARDWARE,
            "models": [_reference(one) for one in article.references_beside(view.plan.models)],
        },
        **({"note": TINY_NOTE, "builtin": list(builtin)} if builtin else {}),
    }


def _reference(one: Reference) -> dict[str, Any]:
    return {
        "model": one.model,
        "resources": dict(one.resources),
        "latency_s": dict(one.latency_s),
        "first_token_s": one.first_token_s,
    }
