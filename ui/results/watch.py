"""Tells a visitor's page that there is something else to show.

Every open page asks every few seconds: whether a rater is done with the sessions whose results they
may see only then is worked out when a rating or a session is new. May be late by `_TRUST_S`: what
is shown is worked out anew each time, by whoever shows it.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from db import Database
from db.queries import Filters
from db.rating_queries import rating_stamp, session_stamp
from rating.results_rule import visible_to

_TRUST_S = 60.0
_KEPT = 1_000
"""Visitors; as many pages as Gradio remembers."""

Stamp = tuple[object, ...]


class Watch:
    """What each visitor's page showed. Safe to use from several threads."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._lock = Lock()
        self._known: OrderedDict[tuple[str, bool], tuple[Stamp, float, int]] = OrderedDict()

    def look(self, rater_id: str, *, operator: bool) -> str:
        """Return what changes whenever there is something else to show, and only then."""
        with self._database.read() as session:
            rated, stamp = rating_stamp(session), session_stamp(session)
        hidden = self._hidden(rater_id, operator, (*rated, *stamp))
        return f"{rated[0]} {rated[1]} {hidden}"

    def _hidden(self, rater_id: str, operator: bool, stamp: Stamp) -> int:
        """Return of how many sessions the visitor must not see the results."""
        who, now = (rater_id, operator), self._clock()
        with self._lock:
            known = self._known.get(who)
        if known is not None and known[0] == stamp and now - known[1] < _TRUST_S:
            return known[2]
        visible = visible_to(self._database, Filters(), rater_id, operator=operator)
        hidden = len(visible.hidden_sessions)
        with self._lock:
            self._known[who] = (stamp, now, hidden)
            self._known.move_to_end(who)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return hidden
