"""Turns a measurement, its progress and what is taken now into HTML for the measure page.

Shows what it is given; who may see it is decided in `measure`, what the figures are in
`rating.measuring.figures`. All values are escaped by Jinja.
"""

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from backends.amounts import bytes_text, duration_text
from backends.catalog import MODELS
from backends.measurement import Resources, Step
from backends.resources import Alarm, Kind, Monitor, Snapshot
from rating import article
from rating.advice.candidates import Spread
from rating.article import Figure, Reference
from rating.measuring.background import Progress
from rating.measuring.figures import ALL_PROMPTS, Of, as_json, builtin_models, failures, spreads
from rating.measuring.measurements import MeasurementView
from rating.measuring.report import NONE, as_markdown, number_text, spread_text
from ui import markup
from ui.language import Texts

_SPARK_WIDTH, _SPARK_HEIGHT = 160, 32


def title_of(model_key: str) -> str:
    """Return what people call the model."""
    return MODELS[model_key].title if model_key in MODELS else model_key


# --- how far it is --------------------------------------------------------------------------------


def progress(t: Texts, now: Progress | None, trouble: str) -> str:
    """Return how far the measurement is; without one, why the last has ended if something failed.

    `trouble` is the name of a text, or "".
    """
    if now is None:
        return markup.render("measure_trouble", t, words=t(trouble)) if trouble else ""
    step = now.step
    left = None if now.left_s is None else t("time_left", time=duration_text(now.left_s))
    return markup.render(
        "measure_progress",
        t,
        step=_step(t, step),
        left=left,
        done=None if step is None else (step.number - 1) / step.count,
        count="" if step is None else t("step_of", number=step.number, count=step.count),
        stopping=now.stopping,
    )


def _step(t: Texts, step: Step | None) -> str:
    if step is None:
        return t("step_making_room")
    name = title_of(step.model_key) if step.model_key else t("all_models")
    return f"{name} · {t(f'step_{step.kind}')}"


# --- what is taken now ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Taken:
    """What one process takes, in words."""

    name: str
    memory: str
    peak: str
    cpu: str


def live(t: Texts, monitor: Monitor) -> str:
    """Return what the app and each model server take now, of what, and what is too much.

    Nothing before that was read for the first time.
    """
    now = monitor.snapshot()
    if not now.processes:
        return ""
    taken = [
        _Taken(
            name=title_of(one.model_key) if one.model_key else t("the_app"),
            memory=bytes_text(one.rss_bytes),
            peak=bytes_text(one.peak_bytes),
            cpu=NONE if one.cpu_share is None else _percent(one.cpu_share),
        )
        for one in now.processes
    ]
    together = _Taken(t("all_of_them"), bytes_text(now.rss_bytes), "", _percent(now.cpu_share))
    return markup.render(
        "measure_live",
        t,
        processes=[*taken, together],
        machine=t("machine_has", memory=bytes_text(monitor.memory_bytes), cores=monitor.cores),
        alarms=[_alarm(t, monitor, alarm) for alarm in now.alarms],
        limits=_limits(t, monitor),
        sparks=[
            (t("memory"), _spark(s.rss_bytes / monitor.memory_bytes for s in monitor.history)),
            (t("cpu"), _spark(s.cpu_share for s in monitor.history)),
        ],
        width=_SPARK_WIDTH,
        height=_SPARK_HEIGHT,
        span=_span(monitor.history),
    )


def _alarm(t: Texts, monitor: Monitor, alarm: Alarm) -> str:
    name = title_of(alarm.most_by) if alarm.most_by else t("the_app")
    if alarm.kind is Kind.CPU:
        share, most = _percent(alarm.share), _percent(alarm.most_share)
    else:
        memory = monitor.memory_bytes
        share, most = bytes_text(alarm.share * memory), bytes_text(alarm.most_share * memory)
    return t(
        f"alarm_{alarm.kind}",
        share=share,
        limit=_percent(alarm.limit),
        process=name,
        most=most,
        since=f"{alarm.since:%H:%M}",
    )


def _limits(t: Texts, monitor: Monitor) -> str:
    shares = [
        f"{t(kind.value)} {_percent(limit)}"
        for kind in Kind
        if (limit := monitor.limits.of(kind)) is not None
    ]
    return t("alarm_above", limits=" · ".join(shares)) if shares else t("no_alarms")


def _spark(shares: Iterable[float]) -> str:
    """Return the points of a line through shares of the machine, 0 at the bottom, 1 at the top."""
    values = [min(max(share, 0.0), 1.0) for share in shares]
    step = _SPARK_WIDTH / max(len(values) - 1, 1)
    return " ".join(
        f"{place * step:.1f},{(1 - value) * _SPARK_HEIGHT:.1f}"
        for place, value in enumerate(values)
    )


def _span(history: Sequence[Snapshot]) -> str:
    return duration_text((history[-1].at - history[0].at).total_seconds()) if history else ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


# --- what was measured ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """One table: its columns are models of this machine, then the article's."""

    id: str
    title: str
    models: Sequence[str]
    references: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, str]], Sequence[str]]]
    """What stands before a row; figure and its small print of each model; the article's."""


def label(t: Texts, view: MeasurementView) -> str:
    """Return what tells one measurement from others."""
    models = " · ".join(title_of(key) for key in view.plan.models)
    return t("measured_at", at=f"{view.started_at:%Y-%m-%d %H:%M}", models=models)


def results(t: Texts, view: MeasurementView | None) -> str:
    """Return the article's tables for this machine, beside the article's own figures."""
    if view is None:
        return markup.render("measure_empty", t)
    found = spreads(view)
    return markup.render(
        "measure_results",
        t,
        view=view,
        label=label(t, view),
        state=t(f"measured_{view.state}"),
        machine=_machine(t, view),
        builtin=bool(builtin_models(view)),
        tables=[*_tables(t, view, found, together=False), *_tables(t, view, found, together=True)],
        failures=[
            (
                title_of(one.model),
                t("all_running" if one.together else "alone"),
                t("answers_failed", n=one.answers) if one.answers else "",
                one.reason,
            )
            for one in failures(view)
        ],
        downloads=_downloads(t, view),
    )


def _machine(t: Texts, view: MeasurementView) -> str:
    machine = view.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return t(
        "this_machine",
        cpu=machine.cpu,
        cores=machine.cores,
        memory=bytes_text(machine.memory_bytes),
        system=machine.system,
        versions=versions,
    )


def _tables(
    t: Texts, view: MeasurementView, found: dict[Of, Spread], *, together: bool
) -> list[_Table]:
    when = t("all_running" if together else "alone")
    tables = [_resources(t, view, when, together), _latency(t, view, found, when, together)]
    return [table for table in tables if table.models]


def _resources(t: Texts, view: MeasurementView, when: str, together: bool) -> _Table:
    """Table 3.3; a row that no model has a figure in is left out."""
    taken = {one.model_key: one for one in view.models if one.together is together}
    models = [key for key in view.plan.models if key in taken]
    references = article.references_beside(models)
    rows = [
        (
            t(name),
            [(cell(t, taken[key]) or NONE, "") for key in models],
            [_published(t, one, published) for one in references],
        )
        for name, published, cell in _RESOURCE_ROWS
        if any(cell(t, taken[key]) for key in models)
    ]
    return _Table(
        id=f"tp-resources-{'together' if together else 'alone'}",
        title=t("resources_title", when=when),
        models=[title_of(key) for key in models],
        references=_reference_heads(t, references, together),
        rows=rows,
    )


def _latency(
    t: Texts, view: MeasurementView, found: dict[Of, Spread], when: str, together: bool
) -> _Table:
    """Table 3.4, in seconds, with what an answer is made of."""
    models = [key for key in view.plan.models if any(of[:2] == (key, together) for of in found)]
    references = article.references_beside(models)

    def row(words: str, prompt: int, figure: str, published: Iterable[float | None]) -> object:
        ours = [_spread(found.get((key, together, prompt, figure))) for key in models]
        return words, ours, [NONE if one is None else f"{one:g}" for one in published]

    rows = [
        row(text, number, "total_s", [one.latency_s.get(text) for one in references])
        for number, text in enumerate(view.plan.prompts, start=1)
    ]
    first = [one.first_token_s for one in references]
    rows.append(row(t("first_token"), ALL_PROMPTS, "first_token_s", first))
    for name, figure in _ANSWER_ROWS:
        rows.append(row(t(name), ALL_PROMPTS, figure, [None] * len(references)))
    return _Table(
        id=f"tp-latency-{'together' if together else 'alone'}",
        title=t("latency_title", when=when),
        models=[title_of(key) for key in models],
        references=_reference_heads(t, references, together),
        rows=rows,  # type: ignore[arg-type]
    )


_ANSWER_ROWS = (
    ("token_rate", "tokens_per_s"),
    ("prompt_length", "prompt_tokens"),
    ("answer_length", "completion_tokens"),
    ("answer_characters", "characters"),
)


def _spread(spread: Spread | None) -> tuple[str, str]:
    """Return mean and spread, and in small print the extremes and how many answers they are of."""
    mean, _, small = spread_text(spread).partition(" (")
    return mean, small.removesuffix(")")


def _amount(value: int | None) -> str:
    return "" if value is None else bytes_text(value)


def _share(value: float | None) -> str:
    return "" if value is None else _percent(value)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{number_text(value)} s"


_RESOURCE_ROWS: tuple[tuple[str, str, Callable[[Texts, Resources], str]], ...] = (
    ("size_files", "size_bytes", lambda _, one: _amount(one.size_bytes)),
    ("peak_memory", "peak_bytes", lambda _, one: _amount(one.peak_bytes)),
    ("cold_start", "cold_start_s", lambda _, one: _seconds(one.cold_start_s)),
    ("warm_start", "", lambda _, one: _seconds(one.warm_start_s)),
    (
        "cpu_use",
        "cpu_share",
        lambda _, one: "" if one.cpu_share is None else _percent(one.cpu_share),
    ),
    (
        "others_use",
        "",
        lambda _, one: "" if one.others_share is None else _percent(one.others_share),
    ),
    ("disk_left", "fits_on_disk", lambda _, one: _amount(one.disk_free_bytes)),
    ("precision", "", lambda _, one: one.precision),
    ("threads_used", "", lambda _, one: "" if one.threads is None else str(one.threads)),
    ("revision", "", lambda _, one: one.revision[:16]),
    ("where_run", "", lambda t, one: t("latency_only") if one.remote else ""),
)
"""What stands before a row, what the article calls it, and what stands in it; "" for nothing."""


def _reference_heads(t: Texts, references: Sequence[Reference], together: bool) -> list[str]:
    words = "article_alone" if together else "chart_article"
    return [t(words, model=one.model) for one in references]


def _published(t: Texts, reference: Reference, name: str) -> str:
    """Return the article's figure in the words of the page."""
    value: Figure | None = reference.resources.get(name)
    if value is None:
        return NONE
    if isinstance(value, float):
        return _percent(value) if name == "cpu_share" else f"{value:g} s"
    if name == "fits_on_disk":
        return t("fits_disk" if value == "yes" else "fits_disk_not")
    return value


def _downloads(t: Texts, view: MeasurementView) -> list[tuple[str, str, str]]:
    """Return words, file name and address of what can be taken away; the page has all of it.

    As data in the page itself: a file on the server would need a route that knows who may read it.
    """
    name = f"twopane-{view.started_at:%Y%m%d-%H%M}"
    plain = json.dumps(as_json(view), ensure_ascii=False, indent=2)
    return [
        (t("as_markdown"), f"{name}.md", _data("text/markdown", as_markdown(view))),
        (t("as_json"), f"{name}.json", _data("application/json", plain)),
    ]


def _data(media_type: str, text: str) -> str:
    return f"data:{media_type};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"
