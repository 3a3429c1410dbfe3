"""The compare page as it is laid out, before any browser has it."""

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest

from backends.lineup import Lineup
from backends.specs import resolve
from backends.supervisor import RemoteModel
from db import Database
from rating.session import Panel
from ui import compare


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(f"sqlite:///{tmp_path}/twopane.db")
    yield opened
    opened.close()


@pytest.mark.asyncio
async def test_while_answers_come_only_a_button_is_told_that_they_do(database: Database) -> None:
    # In a running loop, since Gradio would leave loops of its own behind.
    first, second = (resolve(f"http://127.0.0.1:9/v1#{name}") for name in "ab")
    lineup = Lineup(
        (first, second), lambda models, _: (RemoteModel(models[0]), RemoteModel(models[1]))
    )
    with gr.Blocks() as blocks:
        compare.build(blocks, Panel(database, lineup.backends, blind=True), lineup)
    dependencies = blocks.get_config_file()["dependencies"]
    watches = [one for one in dependencies if one["types"]["generator"]]
    assert watches
    for watch in watches:
        assert [type(blocks.blocks[part]) for part in watch["show_progress_on"]] == [gr.Button]
