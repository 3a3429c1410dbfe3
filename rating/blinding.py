"""What keeps a rater from telling the sides apart: a mask over names, one pace for both panes.

`NameMask` hides names by which an answer gives its model away, also when a name comes in pieces.
`SharedPace` says how much of both answers may be on the screen at a moment. Neither knows where the
text comes from, where it goes, or which model is which.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

MASK = "█████"
"""Of one length for every name: a longer mask would say which name it hides."""

_JOINTS = frozenset("\t_.·*`~'’\"”\\")
_JOINT_CATEGORIES = frozenset({"Zs", "Pd", "Cf", "Mn", "Mc", "Me"})
"""What may stand between two characters of a name: blanks, hyphens, Markdown, invisible marks. Not
the end of a line: in a list or a poem it has all sorts of neighbours."""

_INVISIBLE_CATEGORIES = frozenset({"Cf", "Mn", "Mc", "Me"})
_MOST_JOINTS = 3

_VERSION = re.compile(r"(?:[-_]?\d{1,3}(?:[.．]\d{1,2})?[bm]?){0,2}", re.IGNORECASE)
_VERSION_BEGUN = re.compile(r"[-_.．\dbm]{0,16}", re.IGNORECASE)
"""A version or size goes with the name before it: "█████-0.5B" would tell as much as the name."""

_SHORT = 4
"""A Latin name of fewer letters is masked as a whole word only: "phi" also begins "philosophy"."""


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
        self._names = _Names(names)
        self._before = ""  # the last character let go: a short name must not follow a letter
        self._held = ""
        self.found = False

    def feed(self, piece: str) -> str:
        """Take the next piece; return the text that is now safe to show."""
        return self._release(self._held + piece, at_end=False)

    def close(self) -> str:
        """Return what was held back, masked where it is a name after all."""
        return self._release(self._held, at_end=True)

    def _release(self, new: str, *, at_end: bool) -> str:
        """Let go all at the end, else up to where a name may have begun."""
        text, at = self._before + new, len(self._before)
        safe: list[str] = []
        while at < len(text):
            end, clear = self._names.at(text, at)
            if not clear and not at_end:
                break
            if end > at:
                self.found = True
            safe.append(MASK if end > at else text[at])
            at = max(end, at + 1)
        self._before, self._held = text[max(at - 1, 0) : at], text[at:]
        return "".join(safe)


@dataclass
class _Node:
    """A place in the tree of names: the letters that may follow, and whether a name ends here."""

    following: dict[str, "_Node"] = field(default_factory=dict)
    ends: bool = False
    as_word: bool = False
    latin: bool = False


class _Names:
    """Names as a tree of letters, to be found in a text with joints between the letters."""

    def __init__(self, names: Iterable[str]) -> None:
        self._root = _Node()
        for name in names:
            self._add(name)

    def _add(self, name: str) -> None:
        letters = [_folded(char) for char in name if not (char.isspace() or _is_joint(char))]
        node = self._root
        for letter in letters:
            node = node.following.setdefault(letter, _Node())
        if letters:
            node.ends, node.latin = True, name.isascii()
            node.as_word = node.latin and len(letters) < _SHORT

    def at(self, text: str, start: int) -> tuple[int, bool]:
        """Find the longest name that begins at `start`.

        Returns:
            Where it ends, which is `start` if there is none; and whether that is clear: it is not
            where more text could change it.
        """
        node, at, end, jointed = self._root, start, start, False
        while at < len(text) and (node_after := node.following.get(_folded(text[at]))):
            node, at = node_after, at + 1
            if node.ends and (not (node.as_word or jointed) or _is_word(text, start, at, node)):
                end = at
            behind = _skip_joints(text, at)
            jointed = jointed or any(map(_is_visible, text[at:behind]))
            at = behind
        if end == start:
            return start, at < len(text) or not node.following
        clear = at < len(text) and not _VERSION_BEGUN.fullmatch(text, end)
        version = _VERSION.match(text, end)
        return version.end() if version else end, clear


def _is_word(text: str, start: int, end: int, node: _Node) -> bool:
    """Whether the name from `start` to `end` stands apart from other Latin letters.

    With joints inside it must: "all a man" holds a llama. Of a Chinese name it can't be told, since
    there are no blanks between words.
    """
    if not node.latin:
        return True
    return not (_is_latin(text[start - 1 : start]) or _is_latin(text[end : end + 1]))


def _skip_joints(text: str, at: int) -> int:
    end = at
    while end < min(len(text), at + _MOST_JOINTS) and _is_joint(text[end]):
        end += 1
    return end


@lru_cache(maxsize=4096)
def _folded(char: str) -> str:
    """Return `char` in lower case and of common width."""
    return unicodedata.normalize("NFKC", char).casefold()


@lru_cache(maxsize=4096)
def _is_joint(char: str) -> bool:
    return _folded(char) in _JOINTS or unicodedata.category(char) in _JOINT_CATEGORIES


def _is_visible(char: str) -> bool:
    return unicodedata.category(char) not in _INVISIBLE_CATEGORIES


def _is_latin(char: str) -> bool:
    return _folded(char).isascii() and _folded(char).isalpha()


@dataclass(frozen=True)
class Progress:
    """How far one side is: characters ready to be shown, and whether no more will come."""

    ready: int
    ended: bool


class SharedPace:
    """One cursor for both panes, so that neither's speed shows.

    Both panes start when both sides have something, and grow at a little less than the average of
    the side they wait for: that keeps a small reserve, which hides the rhythm in which tokens come.
    When that side has ended, the other one's rest is shown at the same pace, or the end would tell
    which side was waited for. Where two sides can't be compared, the pace is the slower model's
    usual one, `reference`: one had ended before the other began, or a side is answered alone (asked
    again, or its neighbour failed before it began).
    """

    _RESERVE = 0.95
    _SETTLING_S = 0.5
    _UNKNOWN = Pace(first_s=0.0, chars_per_s=20.0)

    # A model that hung for minutes must not slow down the rest as much: the pace never falls below
    # this share of the usual one, or so many characters a second where none is known.
    _STALLED = 0.5
    _CRAWL = 1.0

    def __init__(self, reference: Pace | None) -> None:
        """`reference` is None where no earlier turn of this pair has been timed."""
        self._reference = reference
        self._floor = self._STALLED * reference.chars_per_s if reference else self._CRAWL
        self._started_s: float | None = None
        self._at_start: list[int] = []  # characters that each side had ready
        self._coming = 0  # how many sides still came at the last call
        self._chars_per_s: float | None = None
        self._most_chars_per_s = math.inf
        self._fixed = False  # the pace stays, whoever is still coming
        self._shown = 0.0
        self._last_s = 0.0

    def advance(self, sides: Sequence[Progress], elapsed_s: float) -> int:
        """Return how many characters of each side may be shown, `elapsed_s` after the question.

        `sides` are always in the same order. Never falls from one call to the next.
        """
        coming = [side.ready for side in sides if not side.ended]
        reachable = min(coming) if coming else max(side.ready for side in sides)
        if self._started_s is None:
            if not self._may_start(sides, elapsed_s):
                return 0
            self._started_s = self._last_s = elapsed_s
            self._at_start, self._coming = [side.ready for side in sides], len(coming)
            if self._reference:
                self._chars_per_s = self._usual()
                if len(coming) < len(sides):
                    self._most_chars_per_s = self._chars_per_s
        self._set_pace(sides, elapsed_s - self._started_s)
        self._shown = max(self._shown, min(reachable, self._grown(elapsed_s)))
        self._last_s, self._coming = elapsed_s, len(coming)
        return int(self._shown)

    def _may_start(self, sides: Sequence[Progress], elapsed_s: float) -> bool:
        if not all(side.ready or side.ended for side in sides):
            return False
        if len(sides) > 1 and all(side.ready for side in sides):
            return True
        self._fixed, self._chars_per_s = True, self._usual()  # answered alone
        return elapsed_s >= (self._reference or self._UNKNOWN).first_s

    def _set_pace(self, sides: Sequence[Progress], running_s: float) -> None:
        """Measure the pace of the side that is waited for, as long as one is."""
        coming = [side.ready for side in sides if not side.ended]
        if 0 < len(coming) < self._coming:
            ended = min(side.ready for side in sides if side.ended)
            self._fixed = self._fixed or ended <= min(coming)
        if self._fixed or not coming:
            if self._chars_per_s is None:
                self._chars_per_s = self._usual(running_s)
        elif running_s >= self._SETTLING_S:
            grown = min(
                side.ready - ready
                for side, ready in zip(sides, self._at_start, strict=True)
                if not side.ended
            )
            measured = self._RESERVE * grown / running_s
            self._chars_per_s = min(measured, self._most_chars_per_s)

    def _usual(self, running_s: float = 0.0) -> float:
        """The pace where none could be measured."""
        if self._reference is None and self._shown:
            return self._shown / max(running_s, self._SETTLING_S)
        return self._RESERVE * (self._reference or self._UNKNOWN).chars_per_s

    def _grown(self, elapsed_s: float) -> float:
        """Return where the cursor may be by now; anywhere until the pace has settled."""
        if self._chars_per_s is None:
            return math.inf
        step_s = elapsed_s - self._last_s
        return self._shown + max(self._chars_per_s, self._floor) * step_s
