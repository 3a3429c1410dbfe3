"""Prompt sets: what raters are asked to try, the set that comes with Twopane, how sets are kept.

A prompt has a language, a dimension that it exercises, and one to eight turns. One with a `gold`
is an attention item: two answers are written down with it, of which one is plainly better. How a
set is read from a file is `prompt_files`'s. Knows nothing of who rates which prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from db import Database, Dimension, Language, pack_queries
from db import PromptSet as PromptSetRow
from rating.canonical import content_hash
from rating.entries import clean_text

TURNS_LIMIT = 8
"""Turns of a prompt, at most."""

TURN_LIMIT = 20_000
"""Longest turn, or answer of an attention item, in characters."""

_BUILT_IN = Path(__file__).parent / "prompts" / "built_in.yaml"
_SUGGESTIONS = 6
_SUGGESTED = (
    *("article-self", "article-poem", "article-explain"),
    *("memory-name-zh", "reasoning-sum-zh", "advice-sleep-zh"),
    *("self-en", "explain-en", "reasoning-sum-en"),
)


def _checked(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not text:
        raise PydanticCustomError("prompts_empty", "it is empty")
    if clean_text(text) != text:
        raise PydanticCustomError("prompts_unfit", "it has control characters")
    return text


def _checked_count(texts: tuple[str, ...]) -> tuple[str, ...]:
    if not texts:  # `min_length` would count a text that is refused as missing
        raise PydanticCustomError("prompts_empty", "it is empty")
    return texts


def _checked_id(text: str) -> str:
    text = text.strip()
    if not text:
        raise PydanticCustomError("prompts_empty", "it is empty")
    if not text.isprintable():
        raise PydanticCustomError("prompts_unfit", "it has control characters")
    return text


_Text = Annotated[str, Field(max_length=TURN_LIMIT), AfterValidator(_checked)]
_Texts = Annotated[tuple[_Text, ...], Field(max_length=TURNS_LIMIT), AfterValidator(_checked_count)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Gold(_Part):
    """The two answers of an attention item, each with a text for every turn of the prompt."""

    better: _Texts
    worse: _Texts


class Prompt(_Part):
    """One prompt of a set; its turns follow each other in one trial."""

    id: Annotated[str, Field(max_length=200), AfterValidator(_checked_id)]
    language: Language
    category: Dimension
    turns: _Texts
    gold: Gold | None = None

    @model_validator(mode="after")
    def _check_gold(self) -> "Prompt":
        for texts in (self.gold.better, self.gold.worse) if self.gold else ():
            if len(texts) != len(self.turns):
                raise PydanticCustomError("prompts_gold", "gold must have a text for each turn")
        return self

    def as_json(self) -> dict[str, Any]:
        """Return what `Prompt.model_validate` makes this prompt of again."""
        return self.model_dump(mode="json", exclude_none=True)


@dataclass(frozen=True)
class PromptSet:
    """Prompts in their order; no two share an id. The name is for people and not part of `id`."""

    name: str
    prompts: tuple[Prompt, ...]

    @cached_property
    def id(self) -> str:
        """The SHA-256 over the prompts as canonical JSON: the same prompts are the same set."""
        return content_hash([prompt.as_json() for prompt in self.prompts])

    @cached_property
    def regular(self) -> tuple[Prompt, ...]:
        """The prompts that models answer."""
        return tuple(prompt for prompt in self.prompts if prompt.gold is None)

    @cached_property
    def attention(self) -> tuple[Prompt, ...]:
        """The attention items, whose answers stand in the set."""
        return tuple(prompt for prompt in self.prompts if prompt.gold is not None)

    @cached_property
    def by_id(self) -> Mapping[str, Prompt]:
        """Each prompt by its id."""
        return {prompt.id: prompt for prompt in self.prompts}

    @classmethod
    def from_json(cls, name: str, prompts: Sequence[Mapping[str, Any]]) -> "PromptSet":
        """Return the set whose prompts are these.

        Raises:
            ValueError: They are no prompts, or two share an id.
        """
        checked = tuple(map(Prompt.model_validate, prompts))
        if len({prompt.id for prompt in checked}) < len(checked):
            raise ValueError("two prompts share an id")
        return cls(name, checked)

    def as_json(self) -> list[dict[str, Any]]:
        """Return the prompts as `from_json` takes them."""
        return [prompt.as_json() for prompt in self.prompts]


# --- the set that comes with Twopane --------------------------------------------------------------


@cache
def built_in() -> PromptSet:
    """Return the set that comes with Twopane, the published comparison's three prompts first."""
    from rating.prompt_files import read_prompt_set  # noqa: PLC0415 -- which needs this module

    return read_prompt_set(_BUILT_IN.read_bytes(), _BUILT_IN.name, name="Twopane")


def suggested(language: Language, prompt_set: PromptSet | None = None) -> Sequence[str]:
    """Return first turns to suggest: the article's three, then some in the reader's language.

    Of a set without these, its first ones in the reader's language, or else in the other.
    """
    known = (prompt_set or built_in()).by_id
    if prompts := [known[name] for name in _SUGGESTED if name in known]:
        own = [p for p in prompts if p.id.startswith("article-") or p.language is language]
    else:
        regular = prompt_set.regular if prompt_set else ()
        own = [p for p in regular if p.language is language] or list(regular)
    return [prompt.turns[0] for prompt in own[:_SUGGESTIONS]]


def prompt_id(text: str) -> str | None:
    """Return the id of the built-in prompt that begins with `text`, if there is one."""
    return next((p.id for p in built_in().regular if p.turns[0] == text.strip()), None)


# --- in the database ------------------------------------------------------------------------------


@dataclass(frozen=True)
class StoredSet:
    """What a list of prompt sets says of one; the counts are of prompts."""

    id: str
    name: str
    regular: int
    attention: int
    created_at: datetime


def store(database: Database, prompt_set: PromptSet) -> str:
    """Keep the set, unless it is there already, under whatever name; return its id."""
    row = PromptSetRow(id=prompt_set.id, name=prompt_set.name, prompts=prompt_set.as_json())
    with database.write() as session:
        pack_queries.store_prompt_set(session, row)
    return prompt_set.id


def load(database: Database, set_id: str) -> PromptSet:
    """Return the set of that id.

    Raises:
        LookupError: There is none.
    """
    with database.read() as session:
        row = pack_queries.load_prompt_set(session, set_id)
    if row is None:
        raise LookupError(f"there is no prompt set {set_id}")
    return PromptSet.from_json(row.name, row.prompts)


def list_sets(database: Database) -> list[StoredSet]:
    """Return what is kept, the newest first."""
    with database.read() as session:
        rows = pack_queries.list_prompt_sets(session)
    return [_listed(row) for row in rows]


def _listed(row: PromptSetRow) -> StoredSet:
    attention = sum("gold" in prompt for prompt in row.prompts)
    regular = len(row.prompts) - attention
    return StoredSet(row.id, row.name, regular, attention, row.created_at)
