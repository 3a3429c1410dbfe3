"""ModelScope's client, as `worker` uses it: lists a repository, downloads a file.

By `modelscope_hub`, the library that `modelscope` itself downloads with: importing `modelscope`
takes torch and 230 MB. To be imported by a worker only, whose environment it relies on.
"""

import functools
import uuid
from pathlib import Path

from modelscope_hub import HubApi, HubConfig
from modelscope_hub.errors import (
    APIError,
    AuthenticationError,
    FileIntegrityError,
    InvalidParameter,
    NetworkError,
    NotExistError,
    PermissionDeniedError,
)

from backends.hub.selection import RemoteFile
from backends.hub.worker import DamagedFile, Failure

_SESSION = uuid.uuid4().hex


class _Config(HubConfig):
    """Settings without the lasting id by which the client makes its user known."""

    def get_session_id(self) -> str:
        return _SESSION


@functools.cache
def _api() -> HubApi:
    api = HubApi(_Config())
    assert api.downloader is not None  # made now, before threads share it
    return api


def endpoint() -> str:
    """Return the address of the hub."""
    return str(_api().legacy.endpoint)


def list_files(repo: str, revision: str) -> tuple[str, list[RemoteFile]]:
    """Return "" for the commit, which ModelScope doesn't tell, and the files of the root."""
    listed = _api().list_repo_files(repo, "model", revision=revision or None, recursive=False)
    files = [
        RemoteFile(file.path, file.size, (file.sha256 or "").lower())
        for file in listed
        if file.type != "tree"
    ]
    return "", files


def download(repo: str, revision: str, file: RemoteFile, folder: Path) -> None:
    """Download one file, from where an earlier attempt has stopped.

    Without the hash: the client would fetch a damaged file three times over before it says so.
    """
    try:
        _api().download_file(
            repo,
            "model",
            file.path,
            revision=revision or None,
            local_dir=folder,
            file_size=file.size,
        )
    except FileIntegrityError as error:
        raise DamagedFile(file.path) from error


def failure(error: BaseException) -> Failure:
    """Say what an error of the client's means."""
    status = error.status_code if isinstance(error, APIError) else None
    match error:
        case NotExistError() | InvalidParameter():
            return Failure("not_found", f"not found ({status})")
        case AuthenticationError() | PermissionDeniedError():
            return Failure("forbidden", f"access is refused ({status})")
        case APIError() if status:
            return Failure("offline", f"answers with an error ({status})")
        case NetworkError() | OSError():  # of the latter kind are those of requests
            return Failure("offline", "can't be reached")
    return Failure("other", "answers what can't be understood")
