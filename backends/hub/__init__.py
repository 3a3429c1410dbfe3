"""Weights from where they are published: found in a cache, else fetched from ModelScope or HF.

`find` and `with_files` look at this machine only; `fetch` finds, and downloads what isn't there.
They take the sources of one model (`backends.catalog.Source`), or the model itself, and give a
folder that is whole, or what its files say. Loads nothing, runs nothing that it fetches, and knows
neither families nor precisions; a folder that the user names is resolved before anyone asks here.

**What is fetched** are the files that a model is loaded from, never code: see `selection`.

**Where it goes** is `$TWOPANE_CACHE` (else the user's cache folder)
`/models/<hub>/<owner>/<name>/<revision>`, as plain files. Not into the clients' own caches: these
don't say whether a repository is there as a whole, nobody expects a panel for comparing models to
fill `~/.cache/huggingface`, and one folder of ours can be put on the large disk, or be deleted.

**What others have downloaded is used**, though: `find` also looks where the clients keep theirs,
`$HF_HUB_CACHE` (`$HF_HOME/hub`, `~/.cache/huggingface/hub`) and `$MODELSCOPE_CACHE`
(`~/.cache/modelscope`, the layouts of its older releases included). It never writes there.

A folder of ours counts only once every file in it has been checked by size and hash; one of the
clients' only with config, tokenizer and weights that are whole. A pinned revision is that revision
in the caches as well; a branch, or no revision, is what the cache has of it, without a question to
the hub. So everything that was fetched once also loads offline.

The clients themselves run in a process of their own (`worker`): both read settings from the
environment when they are imported, print bars, and block where only a signal ends them.

    HubError            weights that aren't here, and why
    ├── NotFound        no such repository or revision, or nothing in it that can be loaded
    ├── Forbidden       gated or private
    ├── Offline         out of reach, hangs, or breaks off
    ├── Damaged         not what the hub says it is; removed, so that the next try fetches it anew
    ├── DiskFull        more to fetch than the disk has free
    ├── Unwritable      the cache folder can't be written to
    └── Cancelled       by whoever asked for it
"""

from backends.catalog import HUBS
from backends.hub.caches import find
from backends.hub.errors import (
    Cancelled,
    Damaged,
    DiskFull,
    Forbidden,
    HubError,
    NotFound,
    Offline,
    Unwritable,
)
from backends.hub.fetching import fetch
from backends.hub.present import with_files
from backends.hub.progress import Download

__all__ = [
    "HUBS",
    "Cancelled",
    "Damaged",
    "DiskFull",
    "Download",
    "Forbidden",
    "HubError",
    "NotFound",
    "Offline",
    "Unwritable",
    "fetch",
    "find",
    "with_files",
]
