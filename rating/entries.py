"""What a rater enters: scores, preference, comment; checked before anything is stored.

`parse_rating` takes what came from a browser or an API call, untrusted, and returns a complete
rating or says what is missing. Knows nothing of states: whether a trial may be rated is `trial`'s.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from db import Dimension, Preference, Side
from rating.dimensions import HIGHEST, LOWEST, can_be_scored
from rating.errors import BadRating
from rating.trial import RatingView

COMMENT_LIMIT = 4_000
"""Longest comment, in characters."""

DRAFT_LIMIT = 20_000
"""Longest stored draft, in characters of its JSON."""

NOT_APPLICABLE = "na"

Entry = Annotated[StrictInt, Field(ge=LOWEST, le=HIGHEST)] | Annotated[str, Field(pattern="^na$")]


class _Form(BaseModel):
    model_config = ConfigDict(extra="ignore")

    scores: dict[Side, dict[Dimension, Entry | None]] = {}
    preference: Preference | None = None
    comment: str = Field(default="", max_length=COMMENT_LIMIT)


def parse_rating(payload: Any, turns: int) -> RatingView:
    """Check what a rater sent.

    Args:
        payload: `{"scores": {side: {dimension: 1..5 or "na"}}, "preference": .., "comment": ..}`
        turns: How many turns the trial has; memory can't be scored after one.

    Raises:
        BadRating: Something is missing, out of range or doesn't apply; says what.
    """
    try:
        form = _Form.model_validate(payload)
    except ValidationError as error:
        raise _not_allowed(error) from error
    missing = _missing(form)
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
    return RatingView(scores, form.preference, _clean(form.comment))  # type: ignore[arg-type]


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
    return BadRating("rating_not_allowed", f"{where or 'rating'}: {first['msg']}")


def _clean(text: str) -> str:
    return clean_text(text).strip()


def clean_text(text: str) -> str:
    """Drop what no database and no model can take: NUL, other control codes, lone surrogates."""
    return "".join(
        char
        for char in text.replace("\r\n", "\n")
        if (char >= " " or char in "\n\t") and not "\ud800" <= char <= "\udfff" and char != "\x7f"
    )
