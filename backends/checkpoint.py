"""What a folder of weights says about itself: family, context, size, revision.

Reads config.json and samples of the weights in milliseconds, whatever their size. Never loads
weights and never executes anything that it finds in the folder. Whether transformers really knows
a model of another family only its server finds out.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeGuard

from backends.weight_files import weight_file_names

_WEIGHTS = (".safetensors", ".bin")
_SETTINGS = (".json", ".jinja", ".model", ".txt")
_ADAPTER_CONFIG = "adapter_config.json"
_SAMPLE_BYTES = 16_384
_SAMPLES = 64
_BITS = {"float32": 32, "float16": 16, "bfloat16": 16, "float8_e4m3fn": 8}
CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_sequence_length",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "n_ctx",
)
"""Where a config says how long a sequence may be, most usual first; some types have no limit."""

Family = Literal["qwen2", "chatglm", "transformers"]


class UnusableFolder(ValueError):  # noqa: N818 -- reads as what it is
    """The folder holds no model that can be run here; the message says what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """One folder of weights.

    Attributes:
        context: Longest prompt and answer together, in tokens; 0 where the config doesn't say.
        parameters: Number of stored weights; 0 where only loading them would tell.
        size_bytes: Of the files that hold the weights.
        bits: Of most stored weights, such as 32, 16, or 4 in a quantised checkpoint.
        revision: 16 hex digits, others as soon as the weights or the settings beside them change.
    """

    folder: Path
    family: Family
    context: int
    parameters: int
    size_bytes: int
    bits: int
    revision: str


def read_checkpoint(folder: Path) -> Checkpoint:
    """Return what `folder` says about itself.

    Raises:
        UnusableFolder: It can't be read, is no model, or is a model of another family.
    """
    try:
        config = _read_config(folder)
        names = weight_file_names([path.name for path in _files(folder, _WEIGHTS + _SETTINGS)])
        weights = [folder / name for name in names]
        settings = _files(folder, _SETTINGS)
        if not weights:
            raise UnusableFolder(
                f"{folder} holds no weights (model.safetensors or pytorch_model.bin, or their "
                "shards with the index). Finish the download, or give the folder that holds them."
            )
        family, context = _family_and_context(folder, config)
        bits = _bits(config)
        return Checkpoint(
            folder=folder,
            family=family,
            context=context,
            parameters=sum(_count_parameters(path, bits) for path in weights),
            size_bytes=sum(path.stat().st_size for path in weights),
            bits=bits,
            revision=_revision(settings, weights),
        )
    except OSError as error:
        raise UnusableFolder(f"{folder} can't be read: {error}.") from error


def read_adapter(folder: Path) -> str:
    """Return the revision of a LoRA adapter's folder, as `Checkpoint.revision`.

    Raises:
        UnusableFolder: It can't be read, or holds no adapter.
    """
    try:
        settings = [path for path in _files(folder, _SETTINGS) if path.name == _ADAPTER_CONFIG]
        weights = [path for path in _files(folder, _WEIGHTS) if path.stem == "adapter_model"]
        if not settings or not weights:
            raise UnusableFolder(
                f"{folder} is no adapter: it needs {_ADAPTER_CONFIG} and "
                "adapter_model.safetensors (or .bin)."
            )
        return _revision(settings, weights)
    except OSError as error:
        raise UnusableFolder(f"{folder} can't be read: {error}.") from error


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in suffixes and path.is_file())


def _read_config(folder: Path) -> dict[str, object]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UnusableFolder(
            f"{folder} has no config.json. Give the folder that holds it beside the weights."
        ) from None
    except (ValueError, RecursionError) as error:
        raise UnusableFolder(f"{path} is no JSON ({error}). Download it again.") from error
    if not isinstance(config, dict):
        raise UnusableFolder(f"{path} is no model's config: it holds no JSON object.")
    return config


def _family_and_context(folder: Path, config: dict[str, object]) -> tuple[Family, int]:
    model_type = config.get("model_type")
    if model_type == "qwen2":
        return "qwen2", _positive(folder, config, "max_position_embeddings")
    if is_chatglm_v1(config):
        return "chatglm", _positive(folder, config, "max_sequence_length")
    if isinstance(model_type, str) and model_type != "chatglm":
        return "transformers", _context(config)
    kind = "a later ChatGLM than v1" if model_type == "chatglm" else "of no type that it names"
    raise UnusableFolder(
        f"The model in {folder} is {kind}; Twopane runs ChatGLM (v1), Qwen2 and what transformers "
        "knows natively. Serve it with vLLM, llama.cpp, Ollama or the like, and give URL#model."
    )


def is_chatglm_v1(config: Mapping[str, object]) -> bool:
    """Whether a config.json is of the first generation, which shares its model_type with later.

    ChatGLM2, ChatGLM3 and GLM-4 are other networks; only the first has this key.
    """
    return config.get("model_type") == "chatglm" and "inner_hidden_size" in config


def _context(config: dict[str, object]) -> int:
    said = (config.get(key) for key in CONTEXT_KEYS)
    return next((value for value in said if _is_length(value)), 0)


def _is_length(value: object) -> TypeGuard[int]:
    """Whether it is a number of tokens: not a bool, nor the "endless" of some tokenizers."""
    return type(value) is int and 0 < value < 10**9


def _bits(config: dict[str, object]) -> int:
    """Return the width of most stored weights, by what the config says of them."""
    quantised = config.get("quantization_bit")
    if isinstance(quantised, int) and quantised in (4, 8):
        return quantised
    dtype = config.get("dtype") or config.get("torch_dtype")
    return _BITS.get(str(dtype).removeprefix("torch."), 32)


def _positive(folder: Path, config: dict[str, object], key: str) -> int:
    value = config.get(key)
    if _is_length(value):
        return value
    raise UnusableFolder(f"{folder / 'config.json'} gives no {key}. Download it again.")


def _revision(settings: list[Path], weights: list[Path]) -> str:
    """Hash the settings whole, and sizes and evenly spread samples of the weights.

    Samples, since reading gigabytes at every start would take longer than mapping them; spread
    over the file, since a fine-tuned copy has the same sizes and often the same ends.
    """
    digest = hashlib.sha256()
    for path in settings:
        digest.update(f"\n{path.name} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    for path in weights:
        size = path.stat().st_size
        digest.update(f"\n{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for offset in range(0, size, max(_SAMPLE_BYTES, size // _SAMPLES)):
                file.seek(offset)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def _count_parameters(path: Path, bits: int) -> int:
    """Return the number of weights by the header of a safetensors file; 0 for another file."""
    if path.suffix != ".safetensors":
        return 0
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, 100_000_000)))
        entries = [entry for key, entry in header.items() if key[:2] != "__"]
        # Of four bits two share a byte.
        return sum(
            math.prod(entry["shape"]) * (2 if bits == 4 and entry["dtype"] in ("I8", "U8") else 1)
            for entry in entries
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnusableFolder(f"{path} is no safetensors file. Download it again.") from error
