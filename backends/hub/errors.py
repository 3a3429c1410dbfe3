"""Why weights couldn't be had: the kinds, drawn in the package's docstring, and their messages.

Messages are for the person who wants to load a model. What a client or a hub said in detail is for
the log and never in them.
"""

from collections.abc import Sequence
from pathlib import Path

from backends.amounts import bytes_text


class HubError(Exception):
    """The weights aren't here.

    Attributes:
        advice: what to do about this kind.
    """

    advice = "The log says more."


class NotFound(HubError):  # noqa: N818 -- reads as what it is
    """No such repository or revision, or nothing in it that can be loaded."""

    advice = "Check the name and the revision."


class Forbidden(HubError):  # noqa: N818 -- reads as what it is
    """Gated or private."""

    advice = (
        "Accept the model's terms on its page, if it has any, and give your token: HF_TOKEN for "
        "Hugging Face, MODELSCOPE_API_TOKEN for ModelScope."
    )


class Offline(HubError):  # noqa: N818 -- reads as what it is
    """Out of reach, hangs, or breaks off."""

    advice = (
        "Check the connection (HTTPS_PROXY names a proxy, MODELSCOPE_ENDPOINT and HF_ENDPOINT a "
        "mirror) and load the model again, which goes on where it stopped; or give a folder that "
        "holds the model."
    )


class Damaged(HubError):  # noqa: N818 -- reads as what it is
    """Not what the hub says it is; removed."""

    advice = "Load the model again: what is damaged was removed and is fetched anew."


class DiskFull(HubError):  # noqa: N818 -- reads as what it is
    """More to fetch than the disk has free.

    Attributes:
        missing_bytes: how much more must be free.
        folder: where.
    """

    advice = "Free as much, or set TWOPANE_CACHE to a folder on a larger disk."

    def __init__(self, title: str, folder: Path, wanted_bytes: int, free_bytes: int) -> None:
        self.folder = folder
        self.missing_bytes = max(0, wanted_bytes - free_bytes)
        super().__init__(
            f"{title}: {bytes_text(wanted_bytes)} are still to be fetched into {folder}, and "
            f"{bytes_text(free_bytes)} are free there: {bytes_text(self.missing_bytes)} "
            f"({self.missing_bytes:,} bytes) are missing. {self.advice}"
        )


class Unwritable(HubError):  # noqa: N818 -- reads as what it is
    """The cache folder can't be written to."""

    advice = "Make it writable, or set TWOPANE_CACHE to a folder that is."


class Cancelled(HubError):  # noqa: N818 -- reads as what it is
    """By whoever asked for it."""

    advice = "What has been fetched is kept."


def joined(title: str, failures: Sequence[HubError]) -> HubError:
    """Return one error that tells what was tried and what to do.

    It is of the failures' kind where they are of one, else a plain `HubError`.
    """
    kinds = list(dict.fromkeys(type(failure) for failure in failures))
    tried = " ".join(f"{failure}." for failure in failures)
    advice = " ".join(kind.advice for kind in kinds)
    kind = kinds[0] if len(kinds) == 1 else HubError
    return kind(f"The weights of {title} can't be fetched. {tried} {advice}")
