"""Fixtures: prompt sets, and sessions over the two scripted models of `tests.rating`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import select

from db import Assignment, Database, FinishReason, session_queries
from db.tables import Trial
from rating import prompt_sets
from rating.packs.pack import AnswerEntry, Header, ModelEntry, Pack, Settings
from rating.packs.store import take
from rating.prompt_sets import PromptSet
from rating.session import Visitor
from rating.sessions.sessions import Draft, Sessions
from rating.trial import TrialView
from tests.rating.conftest import ANN, Stage, entries

MODELS = ["tiny-chatglm", "tiny-qwen"]

GOLD = {"better": ["四"], "worse": ["五"]}


def prompt(name: str, *turns: str, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "language": "zh",
        "category": "reasoning",
        "turns": list(turns) or [f"问题 {name}"],
        **more,
    }


def prompt_set(*prompts: dict[str, Any]) -> PromptSet:
    return PromptSet.from_json("few", prompts)


@dataclass(frozen=True)
class Room:
    """A stage with rating sessions on it."""

    stage: Stage
    sessions: Sessions

    @property
    def database(self) -> Database:
        return self.stage.database

    def open(self, *prompts: dict[str, Any], **changes: Any) -> str:
        """Open a session over the models of the stage."""
        draft = self.draft(*prompts)
        return self.sessions.create(replace(draft, **changes), MODELS)

    def draft(self, *prompts: dict[str, Any]) -> Draft:
        chosen = prompts or (prompt("one"), prompt("two"))
        return Draft(
            name="Monday",
            prompt_set_id=prompt_sets.store(self.database, prompt_set(*chosen)),
            pack_id=None,
            models=MODELS,
            raters_per_prompt=2,
            repeat_share=0.0,
            attention_share=0.0,
        )

    def assignment(self, trial_id: str) -> Assignment:
        with self.database.read() as session:
            return session.scalars(select(Assignment).where(Assignment.trial_id == trial_id)).one()

    def given(self, session_id: str, visitor: Visitor = ANN) -> list[tuple[Assignment, Trial]]:
        with self.database.read() as session:
            return session_queries.given_to(session, session_id, visitor.id)

    async def answered(self, visitor: Visitor = ANN) -> list[TrialView]:
        """Begin the next trial and return what its rater sees until it can be rated."""
        trial = await self.stage.panel.new_trial(visitor)
        return await self.stage.ask(trial.id, "", visitor)

    async def rate_next(self, visitor: Visitor = ANN, **changes: Any) -> TrialView:
        """Have the next trial answered, and rate it."""
        *_, view = await self.answered(visitor)
        return await self.stage.panel.rate(visitor, view.id, entries(**changes))


@pytest.fixture
def room(stage: Stage) -> Room:
    return Room(stage, Sessions(stage.database))


def take_pack(database: Database, chosen: PromptSet, keys: list[str]) -> str:
    """Keep a pack in which each model names itself in each answer; return its id."""
    models = tuple(
        ModelEntry(
            key=key,
            title=f"Title of {key}",
            revision=f"packed-{key}",
            precision="int8",
            threads=None,
            settings=Settings(
                temperature=0.5, top_p=0.8, top_k=None, max_tokens=99, repetition_penalty=None
            ),
            names=(f"Name-of-{key}",),
        )
        for key in keys
    )
    answers = tuple(
        AnswerEntry(
            prompt_id=one.id,
            position=position,
            model=key,
            text=f"{one.id} {position} Name-of-{key}",
            pieces=((len(f"{one.id} {position} Name-of-{key}"), 20),),
            finish_reason=FinishReason.STOP,
            seed=7,
            prompt_tokens=5,
            completion_tokens=6,
            first_token_s=0.02,
            total_s=0.03,
        )
        for key in keys
        for one in chosen.regular
        for position in range(1, len(one.turns) + 1)
    )
    header: Mapping[str, Any] = {
        "models": models,
        "machine": {
            "cpu": "a CPU",
            "cores": 2,
            "memory_bytes": 8,
            "system": "a system",
            "versions": {},
        },
        "made_at": "2026-11-29T12:00:00+00:00",
    }
    return take(database, Pack(chosen, Header(**header), answers), "packed")
