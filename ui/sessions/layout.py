"""The boxes of the sessions page: what a session is to be, and what comes in.

Connects nothing; what the boxes do is `page`'s.
"""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from db import ResultsRule
from ui import markup
from ui.components import Components
from ui.language import text_key

BLIND, OPEN = "blind", "open"


@dataclass(frozen=True)
class Description(Components):
    """What a session is to be, in the order of `_Events.create`."""

    name: gr.Textbox
    prompt_set: gr.Dropdown
    pack: gr.Dropdown
    models: gr.Dropdown
    raters: gr.Number
    mode: gr.Radio
    results: gr.Dropdown
    repeats: gr.Number
    attention: gr.Number
    guess: gr.Checkbox
    at_once: gr.Checkbox


@dataclass(frozen=True)
class Incoming(Components):
    """What comes in: a prompt set as text, or a pack by its path."""

    file_name: gr.Textbox
    content: gr.Textbox
    add_set: gr.Button
    pack_path: gr.Textbox
    add_pack: gr.Button


def description() -> tuple[Description, gr.Button]:
    """Lay out what describes a session, and the button that makes it."""
    with gr.Row():
        name = gr.Textbox(label=text_key("session_name_label"), max_lines=1, elem_id="session-name")
        prompt_set = _choice("session_set_label", "session-set")
        pack = _choice("session_pack_label", "session-pack")
        models = _choice("session_models_label", "session-models", multiselect=True)
    with gr.Row():
        raters = _number("session_raters_label", 3, "session-raters")
        repeats = _number("session_repeats_label", 5, "session-repeats")
        attention = _number("session_attention_label", 5, "session-attention")
    with gr.Row():
        mode = gr.Radio(
            [(text_key(one), one) for one in (BLIND, OPEN)],
            label=text_key("filter_mode"),
            value=BLIND,
            elem_id="session-mode",
        )
        results = gr.Dropdown(
            [(text_key(f"results_{rule}"), rule.value) for rule in ResultsRule],
            value=ResultsRule.OWN_DONE.value,
            label=text_key("session_results_label"),
            elem_id="session-results",
        )
        with gr.Column(min_width=240):
            guess = gr.Checkbox(label=text_key("session_guess_label"), elem_id="session-guess")
            at_once = gr.Checkbox(label=text_key("session_at_once_label"), elem_id="session-once")
    create = gr.Button(text_key("session_create"), variant="primary", elem_id="session-create")
    described = Description(
        *(name, prompt_set, pack, models, raters, mode, results),
        *(repeats, attention, guess, at_once),
    )
    return described, create


def _choice(label: str, elem_id: str, **more: Any) -> gr.Dropdown:
    return gr.Dropdown(label=text_key(label), choices=[], value=None, elem_id=elem_id, **more)


def _number(label: str, value: float, elem_id: str) -> gr.Number:
    return gr.Number(label=text_key(label), value=value, elem_id=elem_id, min_width=160)


def incoming() -> tuple[Incoming, gr.HTML, gr.HTML]:
    """Lay out what takes in sets and packs, and the lists of both."""
    with gr.Row():
        file_name = gr.Textbox(
            label=text_key("set_file_label"),
            placeholder="prompts.yaml",
            max_lines=1,
            elem_id="set-file",
        )
        content = gr.Textbox(
            label=text_key("set_content_label"),
            lines=4,
            max_lines=12,
            scale=3,
            elem_id="set-content",
        )
    add_set = gr.Button(text_key("set_add"), elem_id="set-add")
    sets = markup.component(elem_id="sets")
    with gr.Row(elem_classes="tp-filters", equal_height=True):
        pack_path = gr.Textbox(
            label=text_key("pack_path_label"),
            info=text_key("pack_path_info"),
            max_lines=1,
            elem_id="pack-path",
        )
        add_pack = gr.Button(text_key("pack_add"), scale=0, min_width=160, elem_id="pack-add")
    packs = markup.component(elem_id="packs")
    return Incoming(file_name, content, add_set, pack_path, add_pack), sets, packs
