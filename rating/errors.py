"""What can go wrong with a trial, for the person who must act.

    TrialError
    ├── TrialNotFound     no such trial, or another rater's
    ├── WrongState        not possible in the trial's present state
    ├── BadPrompt         nothing to ask, or too long
    ├── PairInUse         its models can't be exchanged or measured now
    ├── BadRating         entries are missing or not allowed
    ├── NothingToRate     the rating session has no trial for this rater, or not now
    ├── BadSession        a rating session can't be made so, or not do that now
    ├── BadFilter         a choice of rated trials can't be understood
    ├── BadExport         ratings can't be written like that
    ├── BadImport         a file of ratings can't be taken as it is
    ├── BadPromptSet      a file holds no prompt set, or one with mistakes
    ├── BadPack           a file is no answer pack, or not a whole one
    └── BadLimit          a limit is no positive number (in `advice.choice`)

`code` names the message in the page's own language (`ui/locales`), `details` fills it in; the
English text is for logs and API callers. None names a model but
those of files, which no rater has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


class TrialError(Exception):
    """Something about a trial that its rater can put right."""

    def __init__(self, code: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.code = code
        self.details = details


class TrialNotFound(TrialError):  # noqa: N818 -- it is what happened
    """The rater has no such trial."""

    def __init__(self) -> None:
        super().__init__("trial_not_found", "There is no such trial. Start a new one.")


class WrongState(TrialError):  # noqa: N818
    """The trial's present state does not allow it."""


class PairInUse(TrialError):  # noqa: N818
    """Raters are at trials of the models that somebody wants to exchange or measure."""

    def __init__(self, count: int, minutes: int) -> None:
        super().__init__(
            "pair_in_use",
            f"Trials that are being answered or wait for their rating: {count}. Each must be rated "
            "or left for a new one first; it no longer counts once nothing has been done in it "
            f"for {minutes} minutes.",
            count=count,
            minutes=minutes,
        )


class BadPrompt(TrialError):  # noqa: N818
    """The prompt can't be asked as it is."""


class BadRating(TrialError):  # noqa: N818
    """The rating can't be saved as it is; what was entered stays on the page."""


class NothingToRate(TrialError):  # noqa: N818
    """The rating session gives this rater nothing: for good, for some minutes, or while paused."""


class BadSession(TrialError):  # noqa: N818
    """A rating session can't be made as it is described, or not be what it is asked to be."""


class BadFilter(TrialError):  # noqa: N818
    """A choice of rated trials can't be understood."""


class BadExport(TrialError):  # noqa: N818
    """Ratings can't be written in that form, or to that place."""


class BadImport(TrialError):  # noqa: N818
    """A file of ratings can't be taken as it is; nothing of it was."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("bad_import", "\n".join(reasons), reasons="\n".join(reasons))


@dataclass(frozen=True)
class Problem:
    """One mistake in a file: `code` names its text, `details` fills that in.

    Attributes:
        line: Where it is, counted from 1; None where it is the file as a whole.
        message: The text in English.
    """

    line: int | None
    code: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


class BadPromptSet(TrialError):  # noqa: N818
    """A file can't be used as a prompt set; `problems` has every mistake in it."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        words = "\n".join(map(str, problems))
        super().__init__("bad_prompt_set", f"{name} can't be used as a prompt set:\n{words}")
        self.name = name
        self.problems = tuple(problems)


class BadPack(TrialError):  # noqa: N818
    """A file can't be used as an answer pack."""
