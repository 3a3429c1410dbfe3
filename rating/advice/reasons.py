"""Why a model is advised, as a code with details, and how that reads in Chinese and English.

What a reason holds is raw: bytes, seconds, shares; `sentence` writes it for a person, in the words
of `texts`. Which reasons apply is `standing`'s, `situations`'s and `choice`'s to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from backends.amounts import bytes_text
from db import Language
from rating.advice.texts import NAMES, SENTENCES, chosen

Detail = str | int | float


@dataclass(frozen=True)
class Reason:
    """One statement: `code` names the sentence, `details` fill it in.

    A detail's name ends in its unit (`took_s`, `limit_bytes`, `over_share`, `low_points`); the
    sentence has it without.
    """

    code: str
    details: Mapping[str, Detail]

    @classmethod
    def of(cls, code: str, **details: Detail) -> "Reason":
        """Return the reason with these details."""
        return cls(code, MappingProxyType(details))

    def as_json(self) -> dict[str, Any]:
        """Return the raw details beside the sentence in each language."""
        texts = {language.value: sentence(self, language) for language in Language}
        return {"code": self.code, "details": dict(self.details), **texts}


def sentence(reason: Reason, language: Language) -> str:
    """Return what the reason says. Raises KeyError for an unknown code."""
    words = dict(_shown(name, value, language) for name, value in reason.details.items())
    said = chosen(SENTENCES[reason.code], language).format(**words)
    return said[:1].upper() + said[1:] if said.startswith(words.get("figure", "\n")) else said


def _shown(name: str, value: Detail, language: Language) -> tuple[str, str]:
    """Return what a sentence calls the detail, and what it shows of it."""
    stem, _, unit = name.rpartition("_")
    match unit, value:
        case "bytes", int() | float():
            return stem, bytes_text(value)
        case "s", int() | float():
            return stem, seconds_text(value, language)
        case "share", int() | float():
            return stem, share_text(value)
        case "points", int() | float():
            return stem, f"{value + 0.0:+.2f}"
        case "figure" | "ground", str():
            return name, chosen(NAMES[value], language)
    return name, " ".join(str(value).split())


def seconds_text(seconds: float, language: Language) -> str:
    """Return for example `0.012 s`, `0.93 s` or `12.4 秒`: two digits that count at least."""
    steps = ((0.0995, 3), (9.995, 2), (99.95, 1))
    digits = next((digits for below, digits in steps if seconds < below), 0)
    return f"{seconds:.{digits}f} {chosen(('秒', 's'), language)}"


def share_text(share: float) -> str:
    """Return for example `3.1 %` or `225 %`; never 0 for what is more."""
    percent = share * 100
    return f"{percent:.0f} %" if percent >= 9.95 else f"{max(percent, 0.1):.1f} %"
