"""The models and pairs that the app knows, and what it knows of any model.

Adding a model is one `Model` in `MODELS`, adding a pair one `Pair` in `PAIRS`. Which model a user
means is `specs`'s to tell. Knows neither torch nor the network.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from backends import checkpoint
from backends.checkpoint import Checkpoint, read_adapter
from backends.names import COMMON_NAMES, names_of
from backends.properties import CHATGLM_6B, QWEN_0_5B, Property

Family = checkpoint.Family | Literal["remote"]
Hub = Literal["modelscope", "huggingface"]

HUBS: tuple[Hub, ...] = ("modelscope", "huggingface")
"""Where weights are looked for, in this order unless another one is set."""

_BUILTIN_FOLDER = Path(__file__).parent / "tiny"
_TINY_NOTE = "tiny built-in model for trying the panel, no measure of the real ones"


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
