"""Finds what the results page shows, once for everybody: a change of the ratings is read once.

Reading and computing 100,000 ratings takes seconds; every visitor's page asks again and again.
Knows neither pages nor rights: the filters it is given leave out what must not be seen.
"""

from collections import OrderedDict
from threading import Lock

import pandas as pd

from db import Database
from db.queries import Filters
from db.rating_queries import rating_stamp
from rating.findings import Findings, findings_of
from rating.frames import fitting
from rating.summary import rated_trials

_KEPT = 16

Stamp = tuple[int, str]


class Finder:
    """The latest findings, by filters. Safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = Lock()
        self._stamp: Stamp | None = None
        self._rated = pd.DataFrame()
        self._found: OrderedDict[tuple[Filters, bool], Findings] = OrderedDict()

    def stamp(self) -> Stamp:
        """Return what changes with every new rating; quick."""
        with self._database.read() as session:
            return rating_stamp(session)

    def find(self, filters: Filters, *, include_flagged: bool) -> Findings:
        """Return the findings of now; of several visitors one computes and the others wait."""
        with self._lock:
            self._read()
            key = (filters, include_flagged)
            if key not in self._found:
                rated = fitting(self._rated, filters)
                self._found[key] = findings_of(rated, include_flagged=include_flagged)
            self._found.move_to_end(key)
            while len(self._found) > _KEPT:
                self._found.popitem(last=False)
            return self._found[key]

    def _read(self) -> None:
        stamp = self.stamp()
        if stamp != self._stamp:
            self._rated = rated_trials(self._database)
            self._found.clear()
            self._stamp = stamp
