"""All pages in one Gradio app, and the programming interface beside them."""

import gradio as gr

from db import Database
from rating.session import Panel
from ui import api, compare, summary
from ui.compare import Statuses

PATHS = ("/", f"/{summary.PATH}")


def build_pages(panel: Panel, database: Database, statuses: Statuses) -> gr.Blocks:
    """Return the pages with their events; serving them is `web`'s."""
    blocks = gr.Blocks(title="Twopane", analytics_enabled=False, delete_cache=(3600, 3600))
    with blocks:
        api.build(panel, database)  # first, since the pages' events would take its names
        compare.build(blocks, panel, statuses)
    with blocks.route("Summary", summary.PATH, show_in_navbar=False):
        summary.build(blocks, database)
    blocks.queue(api_open=False, default_concurrency_limit=None)
    return blocks
