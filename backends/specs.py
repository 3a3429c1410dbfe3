"""Which model a user means: a catalog key, a folder, a hub id, `URL#model`, or base+adapter.

Knows neither torch nor the network: it never asks an endpoint or a hub whether something is there,
and never downloads.
"""

import logging
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from backends.catalog import HUBS, MODELS, Model, Sampling, Source
from backends.checkpoint import UnusableFolder, read_adapter, read_checkpoint
from backends.names import names_of

logger = logging.getLogger(__name__)

_URL_EXAMPLE = "http://localhost:11434/v1#llama3"
_HUB_EXAMPLE = "Qwen/Qwen1.5-0.5B-Chat"
_HUB_ID = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w./-]*))?", re.ASCII)


class UnknownModel(ValueError):  # noqa: N818 -- reads as what it is
    """No model is meant by these words; the message says what to do."""


def resolve(spec: str) -> Model:
    """Return the model meant by a catalog key, a local folder, a hub id or `URL#model`.

    A key, folder or hub id may be followed by `+` and the folder of an adapter.

    Raises:
        UnknownModel: `spec` means no model, or one that can't be run; the message says what to do.
    """
    spec = spec.strip()
    if "://" in spec:
        return _resolve_url(spec)
    if "+" in spec and _known(spec) is None:
        base, adapter = _base_and_adapter(spec)
        return _with_adapter(_resolve_local(base), adapter)
    return _resolve_local(spec)


def _base_and_adapter(spec: str) -> tuple[str, str]:
    """Part `spec` where a folder follows a plus: both may hold one themselves."""
    parts = spec.split("+")
    splits = [("+".join(parts[:n]), "+".join(parts[n:])) for n in range(1, len(parts))]
    base, adapter = next((split for split in splits if _existing_folder(split[1])), splits[-1])
    return base.strip(), adapter.strip()


def _resolve_local(spec: str) -> Model:
    known = _known(spec)
    if isinstance(known, Model):
        return _resolve_entry(known)
    if known is not None:
        return _resolve_folder(known)
    if match := _HUB_ID.fullmatch(spec):
        logger.info("%s: there is no folder of that name, so it is the id of a repository", spec)
        return _at_hubs(spec, match["repo"], match["revision"] or "")
    raise UnknownModel(
        f"{spec!r} is no model that Twopane knows and no folder. Give one of: "
        f"{', '.join(MODELS)}; a folder with config.json and weights; the id of a repository at "
        f"ModelScope or Hugging Face, for example {_HUB_EXAMPLE}; or URL#model, for example "
        f"{_URL_EXAMPLE}."
    )


def _known(spec: str) -> Model | Path | None:
    """Return the catalog's entry, or the folder, of that name."""
    if spec in MODELS:
        return MODELS[spec]
    folder = _existing_folder(spec)
    for entry in MODELS.values():
        if folder and entry.folder is not None and entry.folder.resolve() == folder:
            return entry
    return folder


def _existing_folder(spec: str) -> Path | None:
    try:
        folder = Path(spec).expanduser().resolve()
        return folder if spec and folder.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # a name too long, an unknown ~user, a NUL
        return None


def _resolve_entry(entry: Model) -> Model:
    if entry.folder is None:
        return entry
    try:
        return entry.with_checkpoint(read_checkpoint(entry.folder))
    except UnusableFolder as error:
        raise UnknownModel(f"The files of {entry.key} are missing or damaged. {error}") from error


def _resolve_folder(folder: Path) -> Model:
    _refuse_bar(folder.name)
    try:
        found = read_checkpoint(folder)
    except UnusableFolder as error:
        raise UnknownModel(str(error)) from error
    return Model(
        key=f"{folder.name}@{found.revision[:8]}",
        title=folder.name,
        family=found.family,
        names=names_of(folder.name),
    ).with_checkpoint(found)


def _at_hubs(spec: str, repo: str, revision: str) -> Model:
    """The model of a repository; which hub has it turns out when it is fetched."""
    for entry in MODELS.values():
        repos = {source.repo.casefold() for source in entry.sources}
        if not revision and repo.casefold() in repos:
            return entry
    return Model(
        key=spec,
        title=repo.partition("/")[2],
        family=None,
        sources=tuple(Source(hub, repo, revision) for hub in HUBS),
        names=names_of(repo.partition("/")[2]),
    )


def _with_adapter(base: Model, spec: str) -> Model:
    folder = _existing_folder(spec)
    if folder is None:
        raise UnknownModel(
            f"There is no folder {spec!r}. Give base+adapter: a model, and the folder that holds "
            "its LoRA adapter's adapter_config.json."
        )
    _refuse_bar(folder.name)
    if base.family == "chatglm":
        raise UnknownModel(f"{base.title} takes no adapter here; models of other families do.")
    try:
        revision = read_adapter(folder)
    except UnusableFolder as error:
        raise UnknownModel(str(error)) from error
    return replace(
        base,
        key=f"{base.key}+{folder.name}@{revision[:8]}",
        title=f"{base.title} + {folder.name}",
        adapter=folder,
        revision=f"{base.revision}+{revision}" if base.revision else "",
        names=tuple(dict.fromkeys((*base.names, *names_of(folder.name)))),
        builtin=False,
        note="",
    )


def _refuse_bar(name: str) -> None:
    if "|" in name:
        raise UnknownModel("A model's name can't hold a bar (|): it parts the names of a pair.")


def _resolve_url(spec: str) -> Model:
    address, _, name = spec.partition("#")
    name = name.strip()
    parts = _split_http_url(address)
    _refuse_bar(name)
    if not name:
        raise UnknownModel(
            f"Say which model of the endpoint is meant: URL#model, for example {_URL_EXAMPLE}."
        )
    port = f":{parts.port}" if parts.port else ""
    return Model(
        key=f"{name}@{parts.hostname}{port}",
        title=name,
        family="remote",
        endpoint_url=_base_url(parts),
        remote_name=name,
        revision="remote",
        names=names_of(name),
        defaults=Sampling(top_k=None),  # strict endpoints refuse what OpenAI's API hasn't
    )


def _split_http_url(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError("no http address")
    except ValueError as error:  # also a port that is no number, a broken IPv6 address
        raise UnknownModel(
            "An endpoint is given as URL#model with http:// or https://, "
            f"for example {_URL_EXAMPLE}."
        ) from error
    if "@" in parts.netloc:
        raise UnknownModel(
            "Leave user and password out of the endpoint's address: it is stored with the ratings."
        )
    return parts


def _base_url(parts: SplitResult) -> str:
    """Return the address under which `chat/completions` lies; a bare host gets `/v1`."""
    path = parts.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"
