"""The box for the operator's key, and what a page of the operator's does once it is open.

Who is the operator is `operator`'s to say; what the page shows them is the page's.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import gradio as gr

from ui.errors import shown_errors
from ui.events import PRIVATE
from ui.language import text_key
from ui.operator import Operator
from ui.visitor import connection_of

Handler = Callable[[gr.Request], Awaitable[tuple[Any, ...]]]


class OperatorEntry:
    """A row with the box and its button, hidden until the page's `open` shows it."""

    def __init__(self, operator: Operator, *, key_id: str, enter_id: str) -> None:
        """Lay it out where the page is being laid out; the ids are those of the elements."""
        with gr.Row(visible=False, elem_classes="tp-filters", equal_height=True) as row:
            key = gr.Textbox(
                label=text_key("operator_key"), type="password", max_lines=1, elem_id=key_id
            )
            enter = gr.Button(text_key("enter"), scale=0, min_width=120, elem_id=enter_id)
        self.row = row
        self._operator = operator
        self._key = key
        self._enter = enter

    def connect(
        self,
        blocks: gr.Blocks,
        opened: tuple[Handler, Sequence[Any]],
        looked: tuple[Handler, Sequence[Any]],
        timer: gr.Timer,
    ) -> None:
        """Open the page when it is loaded and when the key is entered; look at each tick.

        Args:
            blocks: The page.
            opened: Lays the page out for who is there, and what it fills.
            looked: Says how things are, and what it fills; follows each opening too.
            timer: Ticks while somebody may look.
        """
        (open_page, parts), (look, looks) = opened, looked
        entered = gr.on(
            [self._enter.click, self._key.submit], self._admit, self._key, self._key, **PRIVATE
        )
        for shown in (
            blocks.load(open_page, None, parts, **PRIVATE),
            entered.success(open_page, None, parts, **PRIVATE),
        ):
            shown.then(look, None, looks, **PRIVATE)
        timer.tick(look, None, looks, **PRIVATE)

    def _admit(self, key: object, request: gr.Request) -> str:
        """Admit who knows the key; it leaves the page at once."""
        with shown_errors(request):
            self._operator.enter(connection_of(request), key)
        return ""
