"""Fixtures: a database of the test's own, two scripted models, and a panel over them."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from db import Answer, Database, Dimension, FinishReason, Language, Side, Trial, queries
from rating import answering, record, run
from rating.run import Outcome
from rating.session import Panel, Visitor
from rating.trial import Timing, TrialView
from tests.rating.fake_models import FakeModel

ANN = Visitor("a" * 32, Language.ZH)
BOB = Visitor("b" * 32, Language.EN)
PAIR = "tiny-chatglm|tiny-qwen"


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One migrated SQLite file, to be copied: migrating takes ten times as long."""
    file = tmp_path_factory.mktemp("migrated") / "twopane.db"
    Database.open(f"sqlite:///{file}").close()
    return file


@pytest.fixture
def database(migrated_file: Path, tmp_path: Path) -> Iterator[Database]:
    file = shutil.copy(migrated_file, tmp_path)
    opened = Database.open(f"sqlite:///{file}", busy_timeout_s=2.0)
    yield opened
    opened.close()


@dataclass(frozen=True)
class Stage:
    """Two models, the database, and a panel over them; what a page would have behind it."""

    database: Database
    models: dict[str, FakeModel]
    panel: Panel

    def another_panel(self, *, blind: bool = True) -> Panel:
        """A panel on the same database and models, as after a restart of the app."""
        first, second = self.models.values()
        return Panel(self.database, (first, second), blind=blind)

    def stored(self, trial_id: str, visitor: Visitor = ANN) -> Trial:
        """The trial as the database has it, with turns, answers and rating."""
        with self.database.read() as opened:
            trial = queries.load_trial(opened, trial_id, visitor.id)
        assert trial is not None
        return trial

    def answers(self, trial_id: str) -> list[Answer]:
        """All answers of the trial, in the order in which they were begun."""
        with self.database.read() as opened:
            found = opened.scalars(select(Answer).order_by(Answer.id))
            return [answer for answer in found if answer.turn.trial_id == trial_id]

    def on(self, trial_id: str, side: Side, visitor: Visitor = ANN) -> FakeModel:
        """The model that plays `side` in the trial."""
        trial = self.stored(trial_id, visitor)
        return self.models[trial.left_model if side is Side.LEFT else trial.right_model]

    async def new_trial(self, visitor: Visitor = ANN) -> tuple[str, FakeModel, FakeModel]:
        """Begin a trial; return its id and the models on the left and on the right."""
        trial_id = (await self.panel.new_trial(visitor)).id
        left, right = (self.on(trial_id, side, visitor) for side in Side)
        return trial_id, left, right

    async def watched(self, trial_id: str, visitor: Visitor = ANN) -> list[TrialView]:
        """Every view that a page gets until the answers are recorded."""
        return [view async for view in self.panel.watch(visitor, trial_id)]

    async def ask(
        self, trial_id: str, prompt: str = "你好", visitor: Visitor = ANN
    ) -> list[TrialView]:
        """Ask, and return what was shown from the question to the end."""
        first = await self.panel.ask(visitor, trial_id, prompt)
        return [first, *await self.watched(trial_id, visitor)]

    async def retry(self, trial_id: str, *sides: Side) -> list[TrialView]:
        """Ask sides again, and return what was shown until they ended."""
        first = await self.panel.retry(ANN, trial_id, sides)
        return [first, *await self.watched(trial_id)]

    async def rateable_trial(self, visitor: Visitor = ANN) -> str:
        """A trial of one turn, whose answers are written at once instead of shown at a pace."""
        trial_id = (await self.panel.new_trial(visitor)).id
        with self.database.write() as opened:
            trial = queries.load_trial(opened, trial_id, visitor.id)
            assert trial is not None
            turn = record.open_turn(trial, "你好", None)
            for side in Side:
                chat_model = self.models[trial.model_on(side)]
                record.open_answer(turn, side, chat_model, seed=1)
            opened.flush()
            record.close_answers(opened, [outcome_of(answer) for answer in turn.answers])
        return trial_id


@pytest.fixture
async def stage(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """Two models that answer at once, and a blind panel over them.

    The panes move on three times as often as they do for a browser: most of the time of these
    tests is waiting for that.
    """
    monkeypatch.setattr(run, "FLUSH_INTERVAL_S", 0.03)
    monkeypatch.setattr(answering, "FLUSH_INTERVAL_S", 0.03)
    models = {key: FakeModel(key) for key in ("tiny-qwen", "tiny-chatglm")}
    async with AsyncExitStack() as stack:
        for model in models.values():
            await stack.enter_async_context(model.serving())
        first, second = models.values()
        panel = Panel(database, (first, second), blind=True)
        stack.push_async_callback(panel.close)
        yield Stage(database, models, panel)


def outcome_of(
    answer: Answer,
    reason: FinishReason = FinishReason.STOP,
    *,
    error: str | None = None,
    masked: bool = False,
) -> Outcome:
    """How the answer ended: with words by which one can tell whose they are."""
    return Outcome(
        side=answer.side,
        answer_id=answer.id,
        text="我是█████",
        raw_text=f"我是{answer.model_key}",
        reason=reason,
        error=error,
        timing=Timing(0.5, 2.5, 7, 9),
        masked=masked,
    )


def entries(score: int = 4, preference: str = "left", comment: str = "", **changes: Any) -> Any:
    """A complete rating of a trial of one turn, as a browser sends it."""
    scores = {
        side.value: {key.value: "na" if key is Dimension.MEMORY else score for key in Dimension}
        for side in Side
    }
    return {"scores": scores, "preference": preference, "comment": comment} | changes


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it never came to be")
