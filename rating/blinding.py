"""What keeps a rater from telling the sides apart: a mask over names, one pace for both panes.

`NameMask` hides names by which an answer gives its model away, also when a name comes in pieces.
`SharedPace` says how much of both answers may be on the screen at a moment. Neither knows where the
text comes from, where it goes, or which model is which.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import regex

MASK = "█████"
"""Of one length for every name: a longer mask would say which name it hides."""

_JOINT = r"[\s\p{Cf}\p{Pd}_.·*`~'’\"”]"
"""What may stand between two characters of a name: blanks, hyphens, Markdown, invisible marks."""

_SHORT = 4
"""A Latin name of fewer letters is masked as a whole word only: "phi" also begins "philosophy"."""

_FLAGS = regex.IGNORECASE | regex.VERSION1


@dataclass(frozen=True)
class Pace:
    """How fast an answer comes: seconds before its first character, then characters a second."""

    first_s: float
    chars_per_s: float

    @staticmethod
    def slowest(paces: Iterable["Pace"]) -> "Pace | None":
        """Return the later start and the slower growth of all; None of none."""
        known = list(paces)
        if not known:
            return None
        return Pace(
            first_s=max(pace.first_s for pace in known),
            chars_per_s=min(pace.chars_per_s for pace in known),
        )


class NameMask:
    """Masks names in one answer that arrives in pieces.

    What may still become a name is held back until it is clear, so the joined output never
    depends on where the pieces were cut.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """`names` in any script; case, full-width forms and joints inside a name don't matter."""
        self._pattern = _pattern_of(names)
        self._before = ""  # the last character let go: a short name must not follow a letter
        self._held = ""
        self.found = False

    def feed(self, piece: str) -> str:
        """Take the next piece; return the text that is now safe to show."""
        self._held += piece
        safe = ""
        while match := self._search(partial=True):
            safe += self._let_go(match.start() - len(self._before))
            if self._pattern.fullmatch(self._held, partial=True):
                return safe  # a name so far; more of it may come
            safe += self._hide(match)
        return safe + self._let_go(len(self._held))

    def close(self) -> str:
        """Return what was held back, masked where it is a name after all."""
        safe = ""
        while match := self._search(partial=False):
            safe += self._let_go(match.start() - len(self._before)) + self._hide(match)
        return safe + self._let_go(len(self._held))

    def _search(self, partial: bool) -> "regex.Match[str] | None":
        text = self._before + self._held
        return self._pattern.search(text, pos=len(self._before), partial=partial)

    def _let_go(self, length: int) -> str:
        """Take so many characters from what is held."""
        gone, self._held = self._held[:length], self._held[length:]
        self._before = (self._before + gone)[-1:]
        return gone

    def _hide(self, match: "regex.Match[str]") -> str:
        """Put the mask in place of `match`, which stands at the start of what is held."""
        self._let_go(match.end() - match.start())
        self.found = True
        return MASK


def _pattern_of(names: Iterable[str]) -> "regex.Pattern[str]":
    longest_first = sorted(set(names), key=lambda name: (-len(name), name))
    return regex.compile("|".join(filter(None, map(_spelled, longest_first))) or r"(?!)", _FLAGS)


def _spelled(name: str) -> str:
    """A pattern for `name` in any width and with joints; a short one only as a word of its own."""
    letters = [char for char in name if not regex.fullmatch(_JOINT, char)]
    spelled = f"{_JOINT}{{0,3}}".join(map(_either_width, letters))
    if name.isascii() and 0 < len(letters) < _SHORT:
        return rf"(?<![A-Za-z]){spelled}(?![A-Za-z])"
    return spelled


def _either_width(char: str) -> str:
    """A pattern for `char` in its ASCII and its full-width form."""
    if "!" <= char <= "~":
        return f"[{regex.escape(char)}{chr(ord(char) + 0xFEE0)}]"
    return regex.escape(char)


@dataclass(frozen=True)
class Progress:
    """How far one side is: characters ready to be shown, and whether no more will come."""

    ready: int
    ended: bool


class SharedPace:
    """One cursor for both panes, so that neither's speed shows.

    Both panes start when both sides have something, and grow at a little less than the slower
    side's average: that keeps a small reserve, which hides the rhythm in which tokens come. When
    one side has ended, the other goes on at the pace reached by then. A side that is answered alone
    (asked again, or its neighbour failed) keeps the slower model's usual pace, `reference`.
    """

    _RESERVE = 0.95
    _SETTLING_S = 0.5
    _UNKNOWN = Pace(first_s=0.0, chars_per_s=20.0)

    def __init__(self, reference: Pace | None) -> None:
        """`reference` is None where no earlier turn of this pair has been timed."""
        self._reference = reference or self._UNKNOWN
        self._started_s: float | None = None
        self._chars_per_s: float | None = None
        self._shown = 0.0
        self._last_s = 0.0

    def advance(self, sides: Sequence[Progress], elapsed_s: float) -> int:
        """Return how many characters of each side may be shown, `elapsed_s` after the question.

        Never falls from one call to the next.
        """
        coming = [side for side in sides if not side.ended]
        if self._started_s is None:
            if not self._may_start(sides, coming, elapsed_s):
                return 0
            self._started_s = self._last_s = elapsed_s
            if len(sides) > 1 and not coming and all(side.ready for side in sides):
                self._shown = max(side.ready for side in sides)  # both came at once
        self._shown = max(self._shown, self._limit(sides, coming, elapsed_s))
        self._last_s = elapsed_s
        return int(self._shown)

    def _may_start(
        self, sides: Sequence[Progress], coming: Sequence[Progress], elapsed_s: float
    ) -> bool:
        if not all(side.ready for side in coming):
            return False
        together = len(sides) > 1 and all(side.ready for side in sides)
        return together or elapsed_s >= self._reference.first_s

    def _limit(
        self, sides: Sequence[Progress], coming: Sequence[Progress], elapsed_s: float
    ) -> float:
        reachable = min((side.ready for side in coming), default=max(s.ready for s in sides))
        running_s = elapsed_s - (self._started_s or 0.0)
        if len(coming) > 1:
            if running_s < self._SETTLING_S:
                return reachable
            self._chars_per_s = self._RESERVE * reachable / running_s
        elif self._chars_per_s is None:
            self._chars_per_s = self._alone(sides, running_s)
        return min(reachable, self._shown + self._chars_per_s * (elapsed_s - self._last_s))

    def _alone(self, sides: Sequence[Progress], running_s: float) -> float:
        if self._shown and len(sides) > 1:
            return self._shown / max(running_s, self._SETTLING_S)
        return self._reference.chars_per_s
