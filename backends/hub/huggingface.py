"""Hugging Face's client, as `worker` uses it: lists a repository, downloads a file.

By `http_get` of `huggingface_hub`, one step below `hf_hub_download`: that one downloads into a file
of its own process, which no later process resumes, and asks once more for size and hash, which the
listing has told. To be imported by a worker only, whose environment it relies on.
"""

import os
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from backends.hub.record import part_path
from backends.hub.selection import RemoteFile
from backends.hub.worker import DamagedFile, Failure, Kind

# Of an error, the first that it is.
_MEANINGS: tuple[tuple[tuple[type[BaseException], ...], Kind, str], ...] = (
    ((GatedRepoError,), "forbidden", "access is gated ({status})"),
    # Who isn't logged in gets a 401 for what doesn't exist as well.
    ((RepositoryNotFoundError,), "not_found", "not found, or private ({status})"),
    ((RevisionNotFoundError, RemoteEntryNotFoundError), "not_found", "not found ({status})"),
    ((HFValidationError,), "not_found", "not the name of a repository"),
    ((OfflineModeIsEnabled,), "offline", "HF_HUB_OFFLINE is set"),
    ((HfHubHTTPError,), "offline", "answers with an error ({status})"),
    ((httpx2.HTTPError, OSError), "offline", "can't be reached"),
)
# Of 10 MB, a slow line would fill one a minute, and look as if it stood still.
constants.DOWNLOAD_CHUNK_SIZE = 16_384


def endpoint() -> str:
    """Return the address of the hub."""
    return constants.ENDPOINT


def list_files(repo: str, revision: str) -> tuple[str, list[RemoteFile]]:
    """Return the commit that `revision` is now, and its files."""
    info = HfApi().model_info(
        repo,
        revision=revision or None,
        files_metadata=True,
        timeout=constants.HF_HUB_ETAG_TIMEOUT,
    )
    files = [
        RemoteFile(
            file.rfilename,
            # Negative, which nobody takes for a size, where the hub doesn't tell.
            -1 if file.size is None else file.size,
            sha256=file.lfs.sha256 if file.lfs else "",
            blob="" if file.lfs else file.blob_id or "",
        )
        for file in info.siblings or ()
    ]
    return info.sha or "", files


def download(repo: str, revision: str, file: RemoteFile, folder: Path) -> None:
    """Download one file, from where an earlier attempt has stopped."""
    part = part_path(folder, file)
    part.touch()
    with part.open("r+b") as stream:
        try:
            http_get(
                hf_hub_url(repo, file.path, revision=revision or None),
                stream,
                resume_size=stream.seek(0, os.SEEK_END),
                # Not compressed: the rest of a compressed file fits no beginning.
                headers={**build_hf_headers(), "Accept-Encoding": "identity"},
                expected_size=file.size,
            )
        except OSError as error:
            if type(error) is not OSError or error.errno is not None:
                raise
            part.unlink()  # of another size than listed, as nothing but the message says
            raise DamagedFile(file.path) from error
    part.replace(folder / file.path)


def failure(error: BaseException) -> Failure:
    """Say what an error of the client's means."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if type(error) is HfHubHTTPError and status in (401, 403):
        return Failure("forbidden", f"access is refused ({status})")
    for kinds, kind, reason in _MEANINGS:
        if isinstance(error, kinds):
            return Failure(kind, reason.format(status=status))
    return Failure("other", "answers what can't be understood")
