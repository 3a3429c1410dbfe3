"""The models and pairs that the app knows, and how a model named by the user becomes one.

Adding a model is one `Model` in `MODELS`, adding a pair one `Pair` in `PAIRS`. `resolve` also takes
a local folder, a hub id, `URL#model`, and a base model with an adapter. Knows neither torch nor the
network: it never asks an endpoint or a hub whether something is there, and never downloads.
"""

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from backends.checkpoint import Checkpoint, UnusableFolder, read_adapter, read_checkpoint
from backends.names import COMMON_NAMES, names_of
from backends.properties import CHATGLM_6B, QWEN_0_5B, Property

logger = logging.getLogger(__name__)

Family = Literal["qwen2", "chatglm", "transformers", "remote"]
Hub = Literal["modelscope", "huggingface"]

HUBS: tuple[Hub, ...] = ("modelscope", "huggingface")
"""Where weights are looked for, in this order unless another one is set."""

_BUILTIN_FOLDER = Path(__file__).parent / "tiny"
_TINY_NOTE = "tiny built-in model for trying the panel, no measure of the real ones"
_URL_EXAMPLE = "http://localhost:11434/v1#llama3"
_HUB_EXAMPLE = "Qwen/Qwen1.5-0.5B-Chat"
_HUB_ID = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w./-]*))?", re.ASCII)


class UnknownModel(ValueError):  # noqa: N818 -- reads as what it is
    """No model is meant by these words; the message says what to do."""


@dataclass(frozen=True)
class Source:
    """A repository that weights can be fetched from.

    Attributes:
        repo: As `owner/name`.
        revision: A commit, tag or branch; "" is what the hub gives out at present.
    """

    hub: Hub
    repo: str
    revision: str = ""


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
    """One model that a side can be played by: in a folder, at a hub, or behind an endpoint.

    Attributes:
        key: What the database stores; unique, also between a folder and the catalog's own.
        family: Which code runs it; None while the weights that tell are still at a hub.
        folder: Where the weights are; None while they are at a hub, or behind an endpoint.
        sources: Where the weights can be fetched from.
        adapter: A folder with a LoRA adapter, merged into the weights when they are loaded.
        revision: Changes when the weights or the settings beside them change; "" while unknown.
        licence: SPDX name where there is one; "" where nobody said.
        context: Longest prompt and answer together, in tokens; 0 where nothing here tells.
        parameters: Number of stored weights; 0 where nothing tells without loading them.
        size_bytes: Of the weights, as files; 0 where only the hub or the endpoint knows.
        bits: Of one stored weight; 0 where nothing here tells.
        names: Every name, family and maker by which an answer may give its model away.
        builtin: Ships with the code; its ratings never mix with those of real models.
        properties: What the published comparison says of it.
    """

    key: str
    title: str
    family: Family | None
    folder: Path | None = None
    sources: tuple[Source, ...] = ()
    adapter: Path | None = None
    endpoint_url: str | None = None
    remote_name: str | None = None
    revision: str = ""
    licence: str = ""
    context: int = 0
    parameters: int = 0
    size_bytes: int = 0
    bits: int = 0
    names: tuple[str, ...] = COMMON_NAMES
    builtin: bool = False
    note: str = ""
    defaults: Sampling = Sampling()
    properties: tuple[Property, ...] = ()

    @property
    def local(self) -> bool:
        """Whether a server on this machine runs it."""
        return self.endpoint_url is None

    @property
    def spec(self) -> str:
        """What `resolve` turns into this model again, also in another process."""
        if self.endpoint_url is not None:
            return f"{self.endpoint_url}#{self.remote_name}"
        return self._base_spec if self.adapter is None else f"{self._base_spec}+{self.adapter}"

    @property
    def _base_spec(self) -> str:
        for entry in MODELS.values():
            if entry.sources == self.sources and (self.sources or entry.folder == self.folder):
                return entry.key
        if self.sources:
            source = self.sources[0]
            return f"{source.repo}@{source.revision}" if source.revision else source.repo
        return str(self.folder)

    def with_checkpoint(self, found: Checkpoint) -> "Model":
        """Return the same model with what its folder says.

        Raises:
            UnusableFolder: its adapter can't be read.
        """
        merged = "" if self.adapter is None else f"+{read_adapter(self.adapter)}"
        return replace(
            self,
            family=found.family,
            folder=found.folder,
            revision=found.revision + merged,
            context=found.context,
            parameters=found.parameters or self.parameters,
            size_bytes=found.size_bytes,
            bits=found.bits,
        )


@dataclass(frozen=True)
class Pair:
    """Two models to compare, by key. The order says nothing about sides."""

    key: str
    models: tuple[str, str]


_TINY_SAMPLING = Sampling(max_tokens=256)

# What only the files can tell (revision, parameters) is filled in by `resolve`, or once they are
# fetched. Sizes are those of the weights that the hubs list.
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
        Model(
            key="qwen1.5-0.5b-chat",
            title="Qwen1.5-0.5B-Chat",
            family="qwen2",
            sources=(
                Source("modelscope", "Qwen/Qwen1.5-0.5B-Chat", "master"),
                Source(
                    "huggingface",
                    "Qwen/Qwen1.5-0.5B-Chat",
                    "4d14e384a4b037942bb3f3016665157c8bcb70ea",
                ),
            ),
            # The LICENSE beside the published weights; the article says Apache 2.0.
            licence="Tongyi Qianwen RESEARCH LICENSE",
            context=32_768,
            parameters=463_987_712,
            size_bytes=1_239_173_352,
            bits=16,
            names=names_of("Qwen1.5-0.5B-Chat"),
            properties=QWEN_0_5B,
        ),
        Model(
            key="chatglm-6b-int4",
            title="ChatGLM-6B (int4)",
            family="chatglm",
            sources=(
                Source("modelscope", "ZhipuAI/ChatGLM-6B-Int4", "v1.0.3"),
                Source(
                    "huggingface",
                    "zai-org/chatglm-6b-int4",
                    "6c5205c47d0d2f7ea2e44715d279e537cae0911f",
                ),
            ),
            licence="ChatGLM-6B Model License",
            context=2_048,
            parameters=6_173_286_400,
            size_bytes=3_893_117_477,
            bits=4,
            names=names_of("ChatGLM-6B"),
            defaults=Sampling(temperature=0.95, top_p=0.7),
            properties=CHATGLM_6B,
        ),
    )
}
PAIRS = {
    pair.key: pair
    for pair in (
        Pair("tiny", ("tiny-qwen", "tiny-chatglm")),
        Pair("article", ("qwen1.5-0.5b-chat", "chatglm-6b-int4")),
    )
}


def hub_order(text: str) -> tuple[Hub, ...]:
    """Return the hubs named in `text`, parted by commas, in their order.

    Raises:
        ValueError: One isn't known, or none is named; says which are.
    """
    wanted = [name.strip().lower() for name in text.split(",")]
    hubs = tuple(hub for name in wanted for hub in HUBS if hub == name)
    if len(hubs) != len(wanted):
        raise ValueError(f"Hubs are given as {','.join(HUBS)} or one of them, not {text!r}.")
    return hubs


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
