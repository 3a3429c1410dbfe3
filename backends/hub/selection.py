"""Which files of a repository a model is loaded from.

Goes by names alone, since that is all that a listing tells before anything is downloaded. Fetches
nothing. Chosen are the files in the repository's root that configure a model, its tokenizer, and
ONE set of weights: safetensors where there are any, whole rather than in shards. Left alone are
code, other frameworks' weights, what a training run left behind, and sub-folders (`original/`,
`onnx/`, checkpoints).
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SUFFIXES = (".json", ".safetensors", ".bin", ".model", ".txt", ".jinja")
_SHARD = re.compile(r"(?P<set>.*-)(?P<number>\d{5})(?P<of>-of-(?P<count>\d{5})\..*)")
# By suffix, the names that transformers itself loads, in its order, and their index.
_WEIGHT_SETS = {
    ".safetensors": (
        (re.compile(r"model\.safetensors"), ""),
        (re.compile(r"model-\d{5}-of-\d{5}\.safetensors"), "model.safetensors.index.json"),
    ),
    ".bin": (
        (re.compile(r"pytorch_model\.bin"), ""),
        (re.compile(r"pytorch_model-\d{5}-of-\d{5}\.bin"), "pytorch_model.bin.index.json"),
    ),
}
# Beside a model's own weights: copies in other layouts, and what a training run leaves behind.
_NO_WEIGHTS = re.compile(
    r"(adapter|consolidated|openvino|ggml|ggjt|optimizer|scheduler|scaler|rng_state|random_states"
    r"|training_args|pytorch_lora|tf_|flax_|onnx).*|model\.bin"
)
# `configuration.json` is ModelScope's own card; without it a folder is the same from both hubs.
_NO_SETTINGS = re.compile(
    r"configuration\.json|trainer_state\.json|training_args\.json|.*_results\.json"
    r"|adapter_config\.json|(requirements|readme).*\.txt|.*\.index\.json",
    re.IGNORECASE,
)
_TOKENIZER = re.compile(r"tokenizer\.json|vocab\.(json|txt)|.*\.model|.*\.tiktoken")
_UNSAFE_CHARACTERS = re.compile(r"[\\\0]|^[^/]*:")  # the last is a drive of Windows


@dataclass(frozen=True)
class RemoteFile:
    """One file as a hub lists it.

    Attributes:
        path: in the repository, parted by slashes.
        sha256: of its content; "" where the hub doesn't say.
        blob: git's SHA-1 of its content; "" where the hub doesn't say.
    """

    path: str
    size: int
    sha256: str = ""
    blob: str = ""


class UnsafeName(ValueError):  # noqa: N818 -- reads as what it is
    """A file would be written outside of its folder."""


def select(files: Iterable[RemoteFile]) -> tuple[RemoteFile, ...]:
    """Return the files that a model is loaded from; empty if weights or config aren't among them.

    Raises:
        UnsafeName: one of the repository's files has a name that leads out of the repository.
    """
    listed = {file.path: file for file in files}
    for name in listed:
        _check_name(name)
    chosen = chosen_weights([name for name in listed if "/" not in name])
    settings = [name for name in listed if _is_setting(name)]
    if not chosen or "config.json" not in settings:
        return ()
    return tuple(file for name, file in sorted(listed.items()) if name in {*chosen, *settings})


def chosen_weights(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of one set of weights, with its index; empty if there is none."""
    for suffix, sets in _WEIGHT_SETS.items():
        for files, index in sets:
            if found := [name for name in names if files.fullmatch(name)]:
                return (*found, index) if index in names else tuple(found)
        if found := [name for name in names if _is_weights(name, suffix)]:
            return (*found, *(name for name in names if name.endswith(f"{suffix}.index.json")))
    return ()


def missing_shards(names: Sequence[str]) -> bool:
    """Tell whether a set in shards, such as `model-00001-of-00003`, isn't there as a whole."""
    shards = [match for name in names if (match := _SHARD.fullmatch(name))]
    counts = Counter((shard["set"], shard["of"]) for shard in shards)
    return any(int(shard["count"]) != counts[shard["set"], shard["of"]] for shard in shards)


def has_tokenizer(names: Iterable[str]) -> bool:
    """Tell whether the files of a tokenizer are among these."""
    return any(_TOKENIZER.fullmatch(name) for name in names)


def _is_weights(name: str, suffix: str) -> bool:
    return name.endswith(suffix) and not _NO_WEIGHTS.fullmatch(name)


def _is_setting(name: str) -> bool:
    return (
        "/" not in name
        and not name.startswith(".")
        and name.endswith(SUFFIXES)
        and not name.endswith(tuple(_WEIGHT_SETS))
        and not _NO_SETTINGS.fullmatch(name)
    )


def _check_name(name: str) -> None:
    if _UNSAFE_CHARACTERS.search(name) or {"", ".", ".."} & set(name.split("/")):
        raise UnsafeName(name)
