"""What the pages have behind them in these tests."""

from collections.abc import AsyncGenerator

import gradio as gr

from backends.lineup import Lineup
from backends.measurement import Event, Plan, Step
from backends.resources import Monitor
from backends.specs import resolve
from backends.supervisor import RemoteModel
from db import Database
from rating.measuring.background import Measuring
from rating.measuring.measurements import Measurements
from rating.session import Panel
from ui.pages import build_pages


async def measure_nothing(plan: Plan) -> AsyncGenerator[Event, None]:
    """A measurement that is over at once: no model is there to be measured."""
    yield Step(1, 1, "prepare", plan.models[0].key)


def lineup_of_nobody(*names: str) -> Lineup:
    """Two endpoints that nobody serves: no page needs them to be there."""
    first, second = (resolve(f"http://127.0.0.1:9/v1#{name}") for name in names)
    return Lineup(
        (first, second), lambda models, _: (RemoteModel(models[0]), RemoteModel(models[1]))
    )


def pages_over(database: Database, lineup: Lineup) -> gr.Blocks:
    """The app's pages."""
    panel = Panel(database, lineup.backends, blind=True)
    measuring = Measuring(panel, lineup, Measurements(database), measure_nothing)
    return build_pages(panel, database, lineup, measuring, Monitor(lineup))
