"""All pages in one Gradio app, and the programming interface beside them."""

import gradio as gr

from backends.lineup import Lineup
from backends.resources import Monitor
from db import Database
from rating.measuring.background import Measuring
from rating.session import Panel
from ui import api, compare, measure, models, results, sessions
from ui.operator import Operator
from ui.results.finder import Finder

_EVENTS = 1_000
"""Events at a time. Each page that watches an answer holds one; of Gradio's 40, nobody could save
while 40 raters watch."""

_SESSIONS = 1_000
"""Page loads that Gradio remembers, at 87 kB each (2026-11-22); what lasts is in the database."""

PATHS = (
    "/",
    *(f"/{path}" for path in (results.PATH, sessions.PATH, models.PATH, measure.PATH)),
)


def build_pages(
    panel: Panel,
    database: Database,
    lineup: Lineup,
    measuring: Measuring,
    monitor: Monitor,
    *,
    operator_key: str | None = None,
) -> gr.Blocks:
    """Return the pages with their events; serving them is `web`'s.

    Args:
        panel: What the pages ask.
        database: What the results are made of.
        lineup: What runs the panel's models.
        measuring: The app's measurement.
        monitor: Reads what the app and its models take.
        operator_key: What makes a visitor the operator; see `ui.operator`.
    """
    blocks = gr.Blocks(title="Twopane", analytics_enabled=False, delete_cache=(3600, 3600))
    blocks.max_threads = _EVENTS
    blocks.state_session_capacity = _SESSIONS
    operator = Operator(operator_key)
    finder = Finder(database)
    with blocks:
        api.build(panel, finder, operator)  # first, since the pages' events would take its names
        compare.build(blocks, panel, lineup)
    with blocks.route("Results", results.PATH, show_in_navbar=False):
        results.build(blocks, panel, finder, operator)
    with blocks.route("Sessions", sessions.PATH, show_in_navbar=False):
        sessions.build(blocks, panel, operator, database)
    with blocks.route("Models", models.PATH, show_in_navbar=False):
        models.build(blocks, panel, lineup, operator)
    with blocks.route("Measure", measure.PATH, show_in_navbar=False):
        measure.build(blocks, panel, lineup, operator, measuring, monitor, finder)
    blocks.queue(api_open=False, default_concurrency_limit=None)
    return blocks
