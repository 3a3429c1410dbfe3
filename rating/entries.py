"""What a rater enters: scores, preference, comment; checked before anything is stored.

`parse_rating` takes what came from a browser or an API call, untrusted, and returns a complete
rating or says what is missing. Knows nothing of states: whether a trial may be rated is `trial`'s.
"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, field_validator

from db import Dimension, Preference, Side
from rating.dimensions import HIGHEST, LOWEST, can_be_scored
from rating.errors import BadRating, TrialError
from rating.trial import RatingView

COMMENT_LIMIT = 4_000
"""Longest comment, in characters."""

DRAFT_LIMIT = 20_000
"""Longest stored draft, in characters of its JSON."""

NOT_APPLICABLE = "na"

NO_IDEA = "none"
"""What a rater enters who can't guess which model is on which side."""

_UNFIT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")

Entry = Annotated[StrictInt, Field(ge=LOWEST, le=HIGHEST)] | Annotated[str, Field(pattern="^na$")]


class _Form(BaseModel):
    model_config = ConfigDict(extra="ignore")

    scores: dict[Side, dict[Dimension, Entry | None]] = {}
    preference: Preference | None = None
    comment: str = Field(default="", max_length=COMMENT_LIMIT)
    guess: Side | Literal["none"] | None = None

    @field_validator("comment", mode="before")
    @classmethod
    def _clean(cls, comment: Any) -> Any:
        return clean_text(comment).strip() if isinstance(comment, str) else comment


def parse_rating(payload: Any, turns: int, *, asks_guess: bool = False) -> RatingView:
    """Check what a rater sent.

    Args:
        payload: `{"scores": {side: {dimension: 1..5 or "na"}}, "preference": .., "comment": ..}`,
            and `"guess"`, the side on which the pair's first model is believed to be, or "none".
        turns: How many turns the trial has; memory can't be scored after one.
        asks_guess: Whether a guess belongs to it; without that one is passed over.

    Raises:
        BadRating: Something is missing, out of range or doesn't apply; says what.
    """
    try:
        form = _Form.model_validate(payload)
    except ValidationError as error:
        raise _not_allowed(error) from error
    missing = _missing(form)
    if asks_guess and form.guess is None:
        missing.append("guess")
    if missing:
        raise BadRating(
            "rating_incomplete",
            f"{len(missing)} entries are missing: {', '.join(missing)}.",
            count=len(missing),
        )
    scores = {
        (side, dimension): None if entry == NOT_APPLICABLE else entry
        for side, entries in form.scores.items()
        for dimension, entry in entries.items()
    }
    for (_, dimension), score in scores.items():
        if score is not None and not can_be_scored(dimension, turns):
            raise BadRating(
                "memory_needs_turns",
                'memory can\'t be scored after one turn: choose "not applicable".',
            )
    assert form.preference is not None
    guess = Side(form.guess) if asks_guess and form.guess in set(Side) else None
    return RatingView(scores, form.preference, form.comment, guess)  # type: ignore[arg-type]


def _missing(form: _Form) -> list[str]:
    missing = [
        f"{side}.{dimension}"
        for side in Side
        for dimension in Dimension
        if form.scores.get(side, {}).get(dimension) is None
    ]
    return missing if form.preference else [*missing, "preference"]


def _not_allowed(error: ValidationError) -> BadRating:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"][:3])
    if where == "comment" and first["type"] == "string_too_long":
        return BadRating(
            "comment_too_long",
            f"The comment is longer than {COMMENT_LIMIT} characters.",
            limit=COMMENT_LIMIT,
        )
    # The names in `where` may be the sender's own.
    return BadRating("rating_not_allowed", f"{clean_text(where)[:60] or 'rating'}: {first['msg']}")


def parse_draft(payload: Any) -> dict[str, Any]:
    """Check what a rater has entered so far, whatever it is.

    Raises:
        TrialError: It is no form, or too large.
    """
    try:
        text = json.dumps(payload, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise _draft_not_allowed() from error
    if not isinstance(payload, dict) or len(text) > DRAFT_LIMIT:
        raise _draft_not_allowed()
    draft: dict[str, Any] = json.loads(clean_text(text))
    return draft


def is_older(draft: dict[str, Any], other: Mapping[str, Any] | None) -> bool:
    """Whether `draft` was entered before `other`; they may arrive in another order."""
    entered, before = draft.get("edited_at"), (other or {}).get("edited_at")
    return isinstance(entered, int) and isinstance(before, int) and entered < before


def _draft_not_allowed() -> TrialError:
    return TrialError("draft_not_allowed", "These entries can't be kept.")


def clean_text(text: str) -> str:
    """Drop what no database and no model can take: NUL, other control codes, lone surrogates."""
    return _UNFIT.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
