"""Finds what pages show of ratings, once for everybody: a change of the ratings is read once.

Reading and computing 100,000 ratings takes seconds; every visitor's page asks again and again. All
of it happens in one thread of its own, so that the threads that save ratings are never taken.
Knows neither pages nor rights: the filters it is given leave out what must not be seen.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pandas as pd

from db import Database
from db.queries import Filters
from db.rating_queries import rating_stamp
from rating.findings import Findings, findings_of
from rating.frames import fitting
from rating.summary import rated_trials

_KEPT = 16
"""Findings, which have no rows of trials in them; the rows themselves are kept once."""

T = TypeVar("T")


class Finder:
    """The latest findings, by filters, and whatever else all rated trials are needed for."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._thread = ThreadPoolExecutor(1, "findings")
        self._stamp: tuple[int, str] | None = None
        self._rated = pd.DataFrame()
        self._found: OrderedDict[tuple[Filters, bool], Findings] = OrderedDict()

    async def find(self, filters: Filters, *, include_flagged: bool) -> Findings:
        """Return the findings of now."""

        def work(rated: pd.DataFrame) -> Findings:
            key = (filters, include_flagged)
            if key not in self._found:
                found = findings_of(fitting(rated, filters), include_flagged=include_flagged)
                self._found[key] = found
            self._found.move_to_end(key)
            while len(self._found) > _KEPT:
                self._found.popitem(last=False)
            return self._found[key]

        return await self.apply(work)

    async def apply(self, work: Callable[[pd.DataFrame], T]) -> T:
        """Return what `work` makes of `rated_trials` of now, which it must not change.

        One at a time; who asks meanwhile waits in line, and may leave it.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._applied, work)

    def _applied(self, work: Callable[[pd.DataFrame], T]) -> T:
        with self.database.read() as session:
            stamp = rating_stamp(session)
        if stamp != self._stamp:
            self._found.clear()
            self._rated = rated_trials(self.database)
            self._stamp = stamp
        return work(self._rated)
