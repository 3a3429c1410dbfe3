"""The models and pairs that the app knows, and how a model named by the user becomes one.

Adding a model is one `Model` in `MODELS`, adding a pair one `Pair` in `PAIRS`. `resolve` also takes
a local folder and `URL#model`. Knows neither torch nor the network: it never asks an endpoint
whether it is there, and never downloads.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from backends.checkpoint import UnusableFolder, read_checkpoint
from backends.names import COMMON_NAMES, names_of

Family = Literal["qwen2", "chatglm", "remote"]

_BUILTIN_FOLDER = Path(__file__).parent / "tiny"
_TINY_NOTE = "tiny built-in model for trying the panel, no measure of the real ones"
_URL_EXAMPLE = "http://localhost:11434/v1#llama3"


class UnknownModel(ValueError):  # noqa: N818 -- reads as what it is
    """No model is meant by these words; the message says what to do."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; None leaves the choice to the server."""

    temperature: float = 0.7
    top_p: float = 0.8
    top_k: int | None = 50
    max_tokens: int = 512
    seed: int | None = None
    repetition_penalty: float | None = None


@dataclass(frozen=True)
class Model:
    """One model that a side can be played by.

    Attributes:
        key: What the database stores; unique, also between a folder and the catalog's own.
        revision: Changes when the weights or the settings beside them change.
        licence: SPDX name; "" where nobody said.
        context: Longest prompt and answer together, in tokens; 0 where only the endpoint knows.
        parameters: Number of stored weights; 0 where nothing tells without loading them.
        names: Every name, family and maker by which an answer may give its model away.
        builtin: Ships with the code; its ratings never mix with those of real models.
    """

    key: str
    title: str
    family: Family
    folder: Path | None = None
    endpoint_url: str | None = None
    remote_name: str | None = None
    revision: str = ""
    licence: str = ""
    context: int = 0
    parameters: int = 0
    names: tuple[str, ...] = COMMON_NAMES
    builtin: bool = False
    note: str = ""
    defaults: Sampling = Sampling()

    @property
    def spec(self) -> str:
        """What `resolve` turns into this model again, also in another process."""
        if self.endpoint_url is not None:
            return f"{self.endpoint_url}#{self.remote_name}"
        return self.key if self.key in MODELS else str(self.folder)


@dataclass(frozen=True)
class Pair:
    """Two models to compare, by key. The order says nothing about sides."""

    key: str
    models: tuple[str, str]


_TINY_SAMPLING = Sampling(max_tokens=256)

# What only the files can tell (revision, context, parameters) is filled in by `resolve`.
MODELS = {
    model.key: model
    for model in (
        Model(
            key="tiny-qwen",
            title="tiny-qwen",
            family="qwen2",
            folder=_BUILTIN_FOLDER / "tiny-qwen",
            licence="Apache-2.0",
            names=names_of("tiny-qwen"),
            builtin=True,
            note=_TINY_NOTE,
            defaults=_TINY_SAMPLING,
        ),
        Model(
            key="tiny-chatglm",
            title="tiny-chatglm",
            family="chatglm",
            folder=_BUILTIN_FOLDER / "tiny-chatglm",
            licence="Apache-2.0",
            names=names_of("tiny-chatglm"),
            builtin=True,
            note=_TINY_NOTE,
            defaults=_TINY_SAMPLING,
        ),
    )
}
PAIRS = {pair.key: pair for pair in (Pair("tiny", ("tiny-qwen", "tiny-chatglm")),)}


def resolve(spec: str) -> Model:
    """Return the model meant by a catalog key, a local folder or `URL#model`.

    Raises:
        UnknownModel: `spec` means no model, or one that can't be run; the message says what to do.
    """
    spec = spec.strip()
    if "://" in spec:
        return _resolve_url(spec)
    if spec in MODELS:
        return _resolve_entry(MODELS[spec])
    folder = _existing_folder(spec)
    if folder is None:
        raise UnknownModel(
            f"{spec!r} is no model that Twopane knows and no folder. Give one of: "
            f"{', '.join(MODELS)}; a folder with config.json and weights; or URL#model, "
            f"for example {_URL_EXAMPLE}."
        )
    for entry in MODELS.values():
        if entry.folder is not None and entry.folder.resolve() == folder:
            return _resolve_entry(entry)
    return _resolve_folder(folder)


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
        found = read_checkpoint(entry.folder)
    except UnusableFolder as error:
        raise UnknownModel(f"The files of {entry.key} are missing or damaged. {error}") from error
    return replace(
        entry, revision=found.revision, context=found.context, parameters=found.parameters
    )


def _resolve_folder(folder: Path) -> Model:
    try:
        found = read_checkpoint(folder)
    except UnusableFolder as error:
        raise UnknownModel(str(error)) from error
    return Model(
        key=f"{folder.name}@{found.revision[:8]}",
        title=folder.name,
        family=found.family,
        folder=folder,
        revision=found.revision,
        context=found.context,
        parameters=found.parameters,
        names=names_of(folder.name),
    )


def _resolve_url(spec: str) -> Model:
    address, _, name = spec.partition("#")
    name = name.strip()
    parts = _split_http_url(address)
    if "|" in name:
        raise UnknownModel("A model's name can't hold a bar (|): it parts the names of a pair.")
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
