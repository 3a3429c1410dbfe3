"""How far a download is: bytes, smoothed speed, time left; for a page and for the log.

Doesn't download: it is told how many bytes are there and decides who hears of it when.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from backends.amounts import bytes_text, duration_text
from backends.catalog import Source

logger = logging.getLogger(__name__)

HUB_TITLES = {"modelscope": "ModelScope", "huggingface": "Hugging Face"}
_REPORT_EVERY_S = 0.2
_LOG_EVERY_S = 5.0
_SMOOTHED_OVER_S = 10.0


@dataclass(frozen=True)
class Download:
    """A moment of a download.

    Attributes:
        done_bytes: on the disk, from earlier attempts as well.
        bytes_per_s: mean of the last ten seconds.
        left_s: None while nothing arrives.
    """

    source: Source
    done_bytes: int
    total_bytes: int
    bytes_per_s: float
    left_s: float | None


class Meter:
    """Measures one download and tells of it, at most five times a second."""

    def __init__(
        self, source: Source, total_bytes: int, report: Callable[[Download], None]
    ) -> None:
        self._source = source
        self._total_bytes = total_bytes
        self._report = report
        self._seen: deque[tuple[float, int]] = deque()
        self._next_report_s = 0.0
        self._next_log_s = time.monotonic() + _LOG_EVERY_S

    def update(self, done_bytes: int) -> None:
        """Take in how many bytes are there now."""
        now_s = time.monotonic()
        if now_s < self._next_report_s and done_bytes < self._total_bytes:
            return
        self._next_report_s = now_s + _REPORT_EVERY_S
        if self._seen and done_bytes < self._seen[-1][1]:
            self._seen.clear()  # something damaged was thrown away
        self._seen.append((now_s, done_bytes))
        while len(self._seen) > 2 and now_s - self._seen[0][0] > _SMOOTHED_OVER_S:
            self._seen.popleft()
        moment = self._moment()
        self._report(moment)
        if now_s >= self._next_log_s:
            self._next_log_s = now_s + _LOG_EVERY_S
            logger.info("%s", progress_text(moment))

    def _moment(self) -> Download:
        (first_s, first_bytes), (last_s, done_bytes) = self._seen[0], self._seen[-1]
        speed = (done_bytes - first_bytes) / (last_s - first_s) if last_s > first_s else 0.0
        left_bytes = self._total_bytes - done_bytes
        left_s = left_bytes / speed if speed > 0 else None
        return Download(self._source, done_bytes, self._total_bytes, speed, left_s)


def progress_text(moment: Download) -> str:
    """Return for example `some-model: 312 MB of 1.2 GB, 8.4 MB/s, 2 min left, from ModelScope`."""
    left = "waiting" if moment.left_s is None else f"{duration_text(moment.left_s)} left"
    return (
        f"{moment.source.repo.partition('/')[2]}: {bytes_text(moment.done_bytes)} of "
        f"{bytes_text(moment.total_bytes)}, {bytes_text(moment.bytes_per_s)}/s, {left}, "
        f"from {HUB_TITLES[moment.source.hub]}"
    )
