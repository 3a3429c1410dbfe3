"""Turns models, and how they are doing, into HTML for the models page.

Shows what it is given; who may see it is decided in `models`. All values are escaped by Jinja.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from backends.amounts import bytes_text, duration_text
from backends.backend import Backend, State, Status
from backends.catalog import MODELS, Model
from backends.hub.progress import HUB_TITLES
from backends.memory import Fit
from backends.properties import ARTICLE, Property
from backends.recorded import RecordedModel
from db import Language
from ui import markup
from ui.language import Texts

_STAGES = ("starting", "libraries", "download", "tokenizer", "converting", "weights", "first step")
_FAMILIES = {"qwen2": "Qwen2", "chatglm": "ChatGLM-6B (v1)", "transformers": "transformers"}
_PROPERTIES = (
    *("parameters", "least_memory", "cpu_only", "streaming", "context"),
    *("ecosystem", "licence", "fine_tuning", "effort"),
)


@dataclass(frozen=True)
class _Doing:
    """How one model is doing, in words; `done` is the share of the bar, None without one."""

    title: str
    kind: str
    state: str
    stage: str
    done: float | None
    download: str
    restarts: int
    reason: str
    force: bool
    need: str
    threads: int | None


def states(t: Texts, backends: Sequence[Backend], fit: Fit) -> str:
    """Return how the models are doing; `fit` is that of the same models."""
    needs = [need for _, need in fit.per_model]
    doing = [_doing(t, backend, need) for backend, need in zip(backends, needs, strict=True)]
    recorded = all(isinstance(backend, RecordedModel) for backend in backends)
    memory = "" if recorded else _memory(t, [backend.model for backend in backends], fit)
    return markup.render("models_state", t, models=doing, memory=memory)


def _doing(t: Texts, backend: Backend, need_bytes: int) -> _Doing:
    status = backend.status
    loading = status.state in (State.STARTING, State.LOADING)
    stage = status.detail if loading else ""
    return _Doing(
        title=backend.model.title,
        kind="failed" if status.state in (State.FAILED, State.STOPPED) else str(status.state),
        state=t(f"state_{status.state}"),
        stage=t(f"stage_{stage.replace(' ', '_')}") if stage in _STAGES else stage,
        done=(status.progress or 0.0) if loading else None,
        download=_download(t, status),
        restarts=status.restarts,
        reason="" if loading else status.detail,
        # The server knows the command line only; the page has a button for it.
        force=not loading and "--force" in status.detail,
        need=_need(t, backend.model, need_bytes)
        if not isinstance(backend, RecordedModel)
        else t("need_recorded"),
        threads=backend.threads,
    )


def _download(t: Texts, status: Status) -> str:
    """Say how far a download is: bytes of the total, speed, time left, and from where."""
    download = status.download
    if download is None:
        return ""
    left = "" if download.left_s is None else t("time_left", time=duration_text(download.left_s))
    words = [
        t(
            "bytes_of",
            done=bytes_text(download.done_bytes),
            total=bytes_text(download.total_bytes),
        ),
        f"{bytes_text(download.bytes_per_s)}/s",
        left,
        f"{HUB_TITLES[download.source.hub]} {download.source.repo}",
    ]
    return " · ".join(filter(None, words))


def _need(t: Texts, model: Model, need_bytes: int) -> str:
    if not model.local:
        return t("need_elsewhere")
    return bytes_text(need_bytes) if need_bytes else t("need_unknown")


def _memory(t: Texts, models: Sequence[Model], fit: Fit) -> str:
    words = "memory_known" if unknown_needs(models, fit) else "memory_both"
    return t(words, needed=bytes_text(fit.needed_bytes), free=bytes_text(fit.free_bytes))


def unknown_needs(models: Sequence[Model], fit: Fit) -> bool:
    """Whether one of `models` needs nobody knows how much; `fit` is that of the same models."""
    needs = [need for _, need in fit.per_model]
    return any(model.local and not need for model, need in zip(models, needs, strict=True))


def found(t: Texts, models: Sequence[Model], fit: Fit) -> str:
    """Return what `models` need against what is free, before they are loaded."""
    rows = [
        (model.title, _size(t, model), _need(t, model, need))
        for model, (_, need) in zip(models, fit.per_model, strict=True)
    ]
    sure = "fits_unknown" if unknown_needs(models, fit) else "fits"
    return markup.render(
        "models_fit",
        t,
        rows=rows,
        memory=_memory(t, models, fit),
        verdict=sure if fit.fits else "fits_not",
    )


# --- what they are --------------------------------------------------------------------------------


def table(t: Texts, backends: Sequence[Backend], *, operator: bool) -> str:
    """Return what the models are.

    Folders and addresses of this machine are for the `operator`. So is what loading has told, until
    both models are ready: a rater who knew which one isn't would know its side by its failing.
    """
    told = operator or all(backend.status.state is State.READY for backend in backends)
    models = [backend.model if told else _listed(backend.model) for backend in backends]
    precisions = [backend.precision if told else "" for backend in backends]
    rows = [
        ("model_key", [model.key for model in models]),
        ("from_where", [_origin(t, model, places=operator) for model in models]),
        ("revision", [model.revision or t("unknown") for model in models]),
        ("family", [_family(t, model) for model in models]),
        ("precision", [precision or t("unknown") for precision in precisions]),
        ("size", [_size(t, model, place=told) for model in models]),
        ("parameters", [f"{m.parameters:,}" if m.parameters else t("unknown") for m in models]),
        ("licence", [model.licence or t("unknown") for model in models]),
        ("context", [_context(t, model) for model in models]),
    ]
    return markup.render(
        "models_table",
        t,
        models=models,
        rows=rows,
        described=[model for model in models if model.properties],
        properties=[(key, _said(t, models, key)) for key in _PROPERTIES],
    )


def _listed(model: Model) -> Model:
    """Return the model with nothing of its files but what the catalog says of them."""
    if not model.local:
        return model
    entry = MODELS.get(model.spec.partition("+")[0])
    return replace(
        model,
        family=entry.family if entry else None,
        revision="",
        context=entry.context if entry else 0,
        parameters=entry.parameters if entry else 0,
        size_bytes=entry.size_bytes if entry else 0,
    )


def _origin(t: Texts, model: Model, *, places: bool) -> str:
    if model.builtin:
        return t("from_builtin")
    if not model.local:
        return t("from_address") + (f": {model.endpoint_url}" if places else "")
    words = [
        f"{HUB_TITLES[source.hub]}: {source.repo} @ {source.revision or t('newest')}"
        for source in model.sources
    ] or [t("from_folder")]
    if places and model.folder is not None:
        words.append(str(model.folder))
    if model.adapter is not None:
        words.append(t("with_adapter", adapter=model.adapter if places else model.adapter.name))
    return "\n".join(words)


def _family(t: Texts, model: Model) -> str:
    if not model.local:
        return t("family_remote")
    return _FAMILIES[model.family] if model.family in _FAMILIES else t("unknown")


def _size(t: Texts, model: Model, *, place: bool = True) -> str:
    """Say how large the weights are; with `place`, whether they are here."""
    if not model.local:
        return t("need_elsewhere")
    if not model.size_bytes:
        return t("unknown")
    if not place:
        return bytes_text(model.size_bytes)
    where = "size_on_disk" if model.folder is not None else "size_to_download"
    return t(where, size=bytes_text(model.size_bytes))


def _context(t: Texts, model: Model) -> str:
    """Return the context that the config gives, beside the article's where it gives one."""
    words = t("context_tokens", n=f"{model.context:,}") if model.context else t("unknown")
    said = [one for one in model.properties if one.key == "context" and one.source == ARTICLE]
    return f"{words}\n{t('context_article', said=_words(t, said[0]))}" if said else words


def _said(t: Texts, models: Sequence[Model], key: str) -> list[list[tuple[str, str]]]:
    """Return words and source of that row of the article's table, for each model that has it."""
    return [
        [(_words(t, one), _source(t, one)) for one in model.properties if one.key == key]
        for model in models
        if model.properties
    ]


def _words(t: Texts, one: Property) -> str:
    return one.zh if t.language is Language.ZH else one.en


def _source(t: Texts, one: Property) -> str:
    return t("article_table") if one.source == ARTICLE else one.source
