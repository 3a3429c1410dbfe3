"""Prompt sets: what raters are asked to try.

A set is a YAML file of prompts with an id, a language and one or more turns. Knows nothing of who
rates which prompt.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from db import Language

_BUILT_IN = Path(__file__).parent / "prompts.yaml"


class Prompt(BaseModel):
    """One prompt of a set; further turns follow in the same trial."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1, max_length=200)
    language: Language
    turns: tuple[str, ...] = Field(min_length=1)


def load_prompts(file: Path) -> tuple[Prompt, ...]:
    """Read a prompt set. Raises pydantic's ValidationError or yaml's YAMLError if it is none."""
    text = file.read_text(encoding="utf-8")
    return TypeAdapter(tuple[Prompt, ...]).validate_python(yaml.safe_load(text))


@cache
def built_in_prompts() -> tuple[Prompt, ...]:
    """Return the prompts that come with Twopane, the published comparison's three first."""
    return load_prompts(_BUILT_IN)


def suggested(language: Language) -> Sequence[str]:
    """Return first turns to suggest: the article's three, then those in the reader's language."""
    prompts = built_in_prompts()
    return [
        prompt.turns[0]
        for prompt in prompts
        if prompt.id.startswith("article-") or prompt.language is language
    ]


def prompt_id(text: str) -> str | None:
    """Return the id of the built-in prompt that begins with `text`, if there is one."""
    return next((p.id for p in built_in_prompts() if p.turns[0] == text.strip()), None)
