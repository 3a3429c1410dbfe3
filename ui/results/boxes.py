"""The results page's boxes: which ratings are meant, which trials are listed, where charts stand.

Connects nothing (that is `page`'s).
"""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from db import Dimension, Language
from rating.dimensions import HIGHEST, LOWEST
from ui.components import Components
from ui.language import text_key

ANY = "any"

_SCORES = [str(score) for score in range(LOWEST, HIGHEST + 1)]


@dataclass(frozen=True)
class FilterBoxes(Components):
    """Which ratings are meant, in the order of `_Events`' arguments."""

    pair: gr.Dropdown
    mode: gr.Dropdown
    language: gr.Dropdown
    since: gr.Textbox
    until: gr.Textbox
    session: gr.Dropdown
    include_flagged: gr.Checkbox


@dataclass(frozen=True)
class AboutBoxes(Components):
    """Which trials are listed, in the order of `_Events.list_trials`' last arguments."""

    dimension: gr.Dropdown
    model: gr.Dropdown
    score: gr.Dropdown
    words: gr.Textbox


@dataclass(frozen=True)
class Shown(Components):
    """What the ratings say, in the order of `_Events.show`."""

    lead: gr.HTML
    forest: gr.Plot
    radar: gr.Plot
    distribution: gr.Plot
    progress: gr.Plot
    figures: gr.HTML


def plot(elem_id: str) -> gr.Plot:
    """Return a place for a chart, hidden until there is one."""
    return gr.Plot(show_label=False, visible=False, elem_id=elem_id, min_width=320)


def filter_boxes() -> FilterBoxes:
    """Lay out the choice of ratings."""
    return FilterBoxes(
        pair=gr.Dropdown(label=text_key("filter_pair"), choices=[], scale=2, elem_id="filter-pair"),
        mode=gr.Dropdown(
            label=text_key("filter_mode"),
            choices=[_choice(ANY), _choice("blind"), _choice("open")],
            value=ANY,
        ),
        language=gr.Dropdown(
            label=text_key("filter_language"),
            choices=[_choice(ANY), ("中文", Language.ZH.value), ("English", Language.EN.value)],
            value=ANY,
        ),
        since=gr.Textbox(label=text_key("filter_since"), max_lines=1),
        until=gr.Textbox(label=text_key("filter_until"), max_lines=1),
        session=gr.Dropdown(
            label=text_key("filter_session"), choices=[], visible=False, elem_id="filter-session"
        ),
        include_flagged=gr.Checkbox(
            label=text_key("include_flagged"), elem_id="include-flagged", min_width=220
        ),
    )


def about_boxes() -> AboutBoxes:
    """Lay out the choice of trials."""
    return AboutBoxes(
        dimension=gr.Dropdown(
            label=text_key("dimension"),
            choices=[
                _choice(ANY),
                *((text_key(f"dimension_{key}"), key.value) for key in Dimension),
            ],
            value=ANY,
            elem_id="about-dimension",
        ),
        model=gr.Dropdown(label=text_key("model"), choices=[], elem_id="about-model"),
        score=gr.Dropdown(
            label=text_key("score"),
            choices=[_choice(ANY), *((score, score) for score in _SCORES)],
            value=ANY,
            elem_id="about-score",
        ),
        words=gr.Textbox(label=text_key("about_words"), max_lines=1, elem_id="about-words"),
    )


def _choice(name: str) -> tuple[Any, str]:
    return text_key(name), name
