"""Where downloaded weights lie on this machine, and which of these folders are whole.

Reads names, sizes and a few headers; no hashes, since reading gigabytes at every start would take
longer than loading them. Never asks the network and never writes: of the clients' caches it is a
guest. The layouts are those of huggingface_hub 2.4 and modelscope_hub 0.5, which also knows those
of older releases.
"""

import json
import logging
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from backends.cache import cache_folder
from backends.catalog import Source
from backends.hub.errors import NotFound
from backends.hub.record import read_record
from backends.hub.selection import has_tokenizer
from backends.weight_files import WeightSet, choose_weights, indexed_names

logger = logging.getLogger(__name__)

DEFAULT_BRANCHES = {"modelscope": "master", "huggingface": "main"}
_REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_REVISION = re.compile(r"(\w[\w.-]*(/\w[\w.-]*)*)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
# Organisations that have been renamed; what was downloaded before keeps the name of then.
_FORMER_OWNERS = {"zai-org": "THUDM"}


def find(sources: Sequence[Source]) -> Path | None:
    """Return a folder of this machine that holds one of the sources as a whole, if there is one.

    Raises:
        NotFound: a source's names can be no repository's.
    """
    for source in sources:
        if is_fetched(folder := own_folder(source)):
            return folder
    for source in sources:
        for folder in _folders_of_client(source):
            if _is_whole(folder):
                logger.debug("found %s", folder)
                return folder
    return None


def own_folder(source: Source) -> Path:
    """Return where `source` is downloaded to.

    Raises:
        NotFound: its names can be no repository's.
    """
    if not _REPO.fullmatch(source.repo) or not _REVISION.fullmatch(source.revision):
        name = f"{source.repo}@{source.revision}" if source.revision else source.repo
        raise NotFound(f"{name!r} is not the name of a repository, which is owner/name")
    revision = source.revision or DEFAULT_BRANCHES[source.hub]
    return cache_folder().joinpath("models", source.hub, source.repo, quote(revision, safe=""))


def is_fetched(folder: Path) -> bool:
    """Tell whether `folder`, one of ours, has been fetched as a whole and still is so."""
    record = read_record(folder)
    return (
        record is not None
        and record.complete
        and all(_size(folder / file.path) == file.size for file in record.files)
    )


# --- the clients' own caches ---------------------------------------------------------------------


def _folders_of_client(source: Source) -> Iterator[Path]:
    if source.hub == "modelscope":
        yield from _modelscope_folders(source)
    else:
        yield from _huggingface_folders(source)


def _huggingface_folders(source: Source) -> Iterator[Path]:
    owner, name = source.repo.split("/")
    for known_as in filter(None, (owner, _FORMER_OWNERS.get(owner))):
        repository = _huggingface_cache() / f"models--{known_as}--{name}"
        revision = source.revision or "main"
        if not _COMMIT.fullmatch(revision):
            revision = _read_text(repository / "refs" / revision)
        if revision:
            yield repository / "snapshots" / revision


def _huggingface_cache() -> Path:
    home = _environ("HF_HOME") or f"{_environ('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    cache = _environ("HF_HUB_CACHE") or _environ("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(cache)).expanduser()


def _modelscope_folders(source: Source) -> Iterator[Path]:
    cache = Path(_environ("MODELSCOPE_CACHE") or "~/.cache/modelscope").expanduser()
    owner, name = source.repo.split("/")
    revision = source.revision or "master"
    for repository in _ignoring_case(cache / "models", f"{owner}--{name}"):
        yield repository / "snapshots" / revision
    # Releases before 1.38 had no folder per revision, and no dots in a folder's name.
    for parent in (cache / "models", cache / "hub" / "models", cache / "hub", cache):
        for owners in _ignoring_case(parent, owner):
            for safe_name in (name.replace(".", "___"), name):
                for folder in _ignoring_case(owners, safe_name):
                    if source.revision in ("", _old_revision(folder)):
                        yield folder


def _old_revision(folder: Path) -> str:
    """Return the revision that an older client noted: `Revision:v1.0.3,CreatedAt:1690000000`."""
    noted = _read_text(folder / ".mv")
    return noted.partition(",")[0].removeprefix("Revision:") or "master"


def _ignoring_case(parent: Path, name: str) -> list[Path]:
    """Return the folders of that name; ModelScope takes `qwen/...` and `Qwen/...` for the same."""
    try:
        names = sorted(path for path in parent.iterdir() if path.name.lower() == name.lower())
    except OSError:
        return []
    return [path for path in names if path.is_dir()]


def _is_whole(folder: Path) -> bool:
    """Tell whether a model can be loaded from this folder of a client, which may have been stopped.

    A client gives a file its name only once it has all of it, but ends with any of them missing.
    """
    try:
        names = [path.name for path in folder.iterdir() if path.is_file()]
        weights = choose_weights(names)
        return (
            weights is not None
            and {"config.json", "tokenizer_config.json"} <= set(names)
            and has_tokenizer(names)
            and _is_whole_set(folder, weights)
        )
    except OSError:
        return False


def _is_whole_set(folder: Path, weights: WeightSet) -> bool:
    files = _listed(folder / weights.index) if weights.index else weights.files
    return bool(files) and all(_is_whole_file(folder / name) for name in files)


def _listed(index: Path) -> tuple[str, ...]:
    try:
        return indexed_names(json.loads(index.read_bytes()))
    except (ValueError, RecursionError):
        return ()


def _is_whole_file(path: Path) -> bool:
    if path.suffix == ".bin":
        return zipfile.is_zipfile(path)  # its directory stands at the end
    return _size(path) == _size_by_header(path)


def _size_by_header(path: Path) -> int:
    """Return how large a safetensors file is by its own header; -1 if it has none."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, 100_000_000)))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__"]
        return 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return -1


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _environ(name: str) -> str:
    return os.environ.get(name, "").strip()
