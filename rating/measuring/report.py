"""A measurement as Markdown: the article's tables with its figures beside, then every spread.

Says what it was measured on and with, and each reason why a figure is missing. The figures are
`figures`'s.
"""

from collections.abc import Callable, Iterable, Sequence

from backends.amounts import bytes_text
from backends.measurement import Resources
from db import MeasurementState
from rating import article
from rating.advice.candidates import Spread
from rating.article import Figure, Reference
from rating.measuring.figures import (
    ALL_PROMPTS,
    Failure,
    Of,
    builtin_models,
    failures,
    prompt_text,
    spreads,
)
from rating.measuring.measurements import MeasurementView
from rating.summary import TINY_NOTE

NONE = "–"

_ENDED = {
    MeasurementState.RUNNING: "still running; the figures so far",
    MeasurementState.DONE: "complete",
    MeasurementState.STOPPED: "stopped before its end; the figures until then",
    MeasurementState.FAILED: "failed; the figures until then",
}


def as_markdown(view: MeasurementView) -> str:
    """Return the measurement as Markdown tables."""
    parts, found = [_head(view)], spreads(view)
    for together in (False, True):
        parts += [
            _resources(view, together),
            _latency(view, found, together),
            _details(view, found, together),
        ]
    if failed := failures(view):
        parts.append(_failures(failed))
    return "\n\n".join(part for part in parts if part)


def number_text(value: float) -> str:
    """Return a number with three digits that count, and a whole one whole."""
    return f"{value:.{0 if value == int(value) else _digits(value)}f}"


def spread_text(spread: Spread | None) -> str:
    """Return for example `1.83 ± 0.05 (1.79–1.90, n 5)`; of equal values `12 (n 5)`."""
    if spread is None:
        return NONE
    if not spread.sd:
        return f"{number_text(spread.mean)} (n {spread.n})"
    digits = _digits(spread.mean)
    mean, sd, low, high = (
        f"{value:.{digits}f}" for value in (spread.mean, spread.sd, spread.low, spread.high)
    )
    return f"{mean} ± {sd} ({low}–{high}, n {spread.n})"


def _digits(value: float) -> int:
    """How many after the point make three that count."""
    return next((n for n, least in enumerate((100, 10, 1)) if abs(value) >= least), 3)


def _head(view: MeasurementView) -> str:
    machine = view.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    ended = _ENDED[view.state] + (f": {view.error}" if view.error else "")
    lines = [
        f"# Measured on {view.started_at:%Y-%m-%d %H:%M} UTC",
        "",
        f"- State: {_line(ended)}.",
        f"- This machine: {machine.cpu}, {machine.cores} usable cores, "
        f"{bytes_text(machine.memory_bytes)} of memory; {machine.system}; {versions}.",
        f"- The article: {article.HARDWARE}.",
        f"- To be asked of each prompt: {view.plan.repeats} times. A mean stands with ± standard "
        "deviation, then the least and the most, and the number n of answers.",
    ]
    if tiny := builtin_models(view):
        lines.append(f"- {', '.join(tiny)}: {TINY_NOTE}.")
    return "\n".join(lines)


def _resources(view: MeasurementView, together: bool) -> str:
    """Table 3.3; of models that run together the starts and files are not measured again."""
    taken = {one.model_key: one for one in view.models if one.together is together}
    models = [key for key in view.plan.models if key in taken]
    if not models:
        return ""
    references = article.references_beside(models)
    rows = [
        [label, *(cell(taken[key]) for key in models), *(_published(r, name) for r in references)]
        for label, name, cell in _RESOURCE_ROWS
    ]
    return _titled(
        f"Resources, {_when(together)} (the article's table 3.3)",
        ["", *models, *_published_heads(references, together)],
        (row for row in rows if any(cell != NONE for cell in row[1 : len(models) + 1])),
    )


def _latency(view: MeasurementView, found: dict[Of, Spread], together: bool) -> str:
    """Table 3.4, in seconds."""
    models = [key for key in view.plan.models if (key, together) in {of[:2] for of in found}]
    if not models:
        return ""
    references = article.references_beside(models)

    def row(label: str, prompt: int, figure: str, published: Iterable[Figure | None]) -> list[str]:
        ours = (spread_text(found.get((key, together, prompt, figure))) for key in models)
        return [label, *ours, *map(_figure_text, published)]

    rows = [
        row(text, number, "total_s", (one.latency_s.get(text) for one in references))
        for number, text in enumerate(view.plan.prompts, start=1)
    ]
    first = (one.first_token_s for one in references)
    rows.append(row("first token, all prompts", ALL_PROMPTS, "first_token_s", first))
    nothing = [None] * len(references)
    rows.append(row("tokens a second, all prompts", ALL_PROMPTS, "tokens_per_s", nothing))
    return _titled(
        f"Seconds for an answer, {_when(together)} (the article's table 3.4)",
        ["prompt", *models, *_published_heads(references, together)],
        rows,
    )


def _details(view: MeasurementView, found: dict[Of, Spread], together: bool) -> str:
    """Every figure of every prompt."""
    rows = [
        [key, prompt_text(view, prompt)]
        + [spread_text(found.get((key, together, prompt, figure))) for figure, _ in _DETAILS]
        for key in view.plan.models
        for prompt in range(1, len(view.plan.prompts) + 1)
        if any((key, together, prompt, figure) in found for figure, _ in _DETAILS)
    ]
    heads = ["model", "prompt", *(head for _, head in _DETAILS)]
    return _titled(f"Each prompt, {_when(together)}", heads, rows) if rows else ""


def _failures(failed: Sequence[Failure]) -> str:
    rows = (
        [
            one.model,
            _when(one.together),
            f"{one.answers} answers" if one.answers else "the model",
            one.reason,
        ]
        for one in failed
    )
    return _titled("What is missing, and why", ["model", "when", "what", "why"], rows)


_DETAILS = (
    ("total_s", "whole answer, s"),
    ("first_token_s", "first token, s"),
    ("tokens_per_s", "tokens a second"),
    ("prompt_tokens", "prompt, tokens"),
    ("completion_tokens", "answer, tokens"),
    ("characters", "answer, characters"),
)


def _amount(value: int | None) -> str:
    return NONE if value is None else bytes_text(value)


def _seconds(value: float | None) -> str:
    return NONE if value is None else f"{number_text(value)} s"


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value * 100:.0f} %"


_RESOURCE_ROWS: tuple[tuple[str, str, Callable[[Resources], str]], ...] = (
    ("model size on disk", "size_bytes", lambda one: _amount(one.size_bytes)),
    ("peak memory", "peak_bytes", lambda one: _amount(one.peak_bytes)),
    ("cold start, once", "cold_start_s", lambda one: _seconds(one.cold_start_s)),
    ("warm start, once", "", lambda one: _seconds(one.warm_start_s)),
    ("average CPU use while answering", "cpu_share", lambda one: _share(one.cpu_share)),
    ("other programs meanwhile, of all cores", "", lambda one: _share(one.others_share)),
    (
        "free disk left (the article: does it fit on the system disk?)",
        "fits_on_disk",
        lambda one: _amount(one.disk_free_bytes),
    ),
    ("precision", "", lambda one: one.precision or NONE),
    ("threads", "", lambda one: NONE if one.threads is None else str(one.threads)),
    ("revision", "", lambda one: one.revision[:16] or NONE),
    ("runs", "", lambda one: "elsewhere: latency only" if one.remote else "on this machine"),
)
"""What stands before a row, what the article calls it, and what stands in it."""


def _published_heads(references: Sequence[Reference], together: bool) -> list[str]:
    """The article has no figures of both models running: in its memory they could not."""
    return [f"{one.model} (article{', alone' if together else ''})" for one in references]


def _published(reference: Reference, name: str) -> str:
    value = reference.resources.get(name)
    if isinstance(value, float):
        return _share(value) if name == "cpu_share" else _seconds(value)
    return _figure_text(value)


def _figure_text(value: Figure | None) -> str:
    return NONE if value is None else value if isinstance(value, str) else f"{value:g}"


def _when(together: bool) -> str:
    return "with all models running" if together else "alone"


def _titled(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    table = (f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)
    return "\n".join([f"## {title}", "", *table])


def _cell(text: str) -> str:
    """A cell is one line, and a bar in it would end it."""
    return _line(text).replace("|", "\\|")


def _line(text: str) -> str:
    return " ".join(text.split())
