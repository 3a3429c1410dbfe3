"""Which files of a repository a model is loaded from.

Goes by names alone, since that is all that a listing tells before anything is downloaded. Fetches
nothing. Chosen are the files in the repository's root that configure a model, its tokenizer, and
ONE set of weights, the one that would be loaded (see `backends.weight_files`). Left alone are code,
other frameworks' weights, what a training run left behind, and sub-folders (`original/`, `onnx/`,
checkpoints).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from backends.weight_files import choose_weights

_SETTINGS = (".json", ".model", ".txt", ".jinja")
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
    weights = choose_weights(listed)
    settings = {name for name in listed if _is_setting(name)}
    if weights is None or "config.json" not in settings:
        return ()
    wanted = settings.union(weights.names)
    return tuple(file for name, file in sorted(listed.items()) if name in wanted)


def has_tokenizer(names: Iterable[str]) -> bool:
    """Tell whether the files of a tokenizer are among these."""
    return any(_TOKENIZER.fullmatch(name) for name in names)


def _is_setting(name: str) -> bool:
    return (
        "/" not in name
        and not name.startswith(".")
        and name.endswith(_SETTINGS)
        and not _NO_SETTINGS.fullmatch(name)
    )


def _check_name(name: str) -> None:
    if _UNSAFE_CHARACTERS.search(name) or {"", ".", ".."} & set(name.split("/")):
        raise UnsafeName(name)
