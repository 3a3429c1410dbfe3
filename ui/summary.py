"""The summary page: figures by pair, the article's beside them, and every rated trial to look at.

Shows rated trials only; and as long as its visitor has a blind trial open, no answers: both models
say much the same to the same prompt each time. The figures come from `rating.summary`.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from db import Database, Dimension, Language, Side, Trial, queries
from rating import article
from rating.dimensions import WORDINGS
from rating.session import Panel
from rating.summary import PairSummary, filters_from, load_trials, signed, summarise, two_decimals
from rating.trial import latest_if_any
from ui import markup
from ui.charts import dimensions_chart
from ui.errors import shown_errors
from ui.events import PRIVATE
from ui.language import Texts, text_key, texts_in
from ui.visitor import visitor_of

PATH = "summary"
_SHOWN_TRIALS = 100

_ANY = "any"


def build(blocks: gr.Blocks, panel: Panel, database: Database) -> None:
    """Lay out the page in `blocks`, whose route is open, and connect its events."""
    header = markup.component(js_on_load="window.twopane.attachHeader(element)")
    lead = markup.component()
    with gr.Row(elem_classes="tp-filters"):
        pair = gr.Dropdown(
            label=text_key("filter_pair"), choices=[], scale=2, elem_id="filter-pair"
        )
        mode = gr.Dropdown(
            label=text_key("filter_mode"),
            choices=[_choice(_ANY), _choice("blind"), _choice("open")],
            value=_ANY,
        )
        language = gr.Dropdown(
            label=text_key("filter_language"),
            choices=[_choice(_ANY), ("中文", Language.ZH.value), ("English", Language.EN.value)],
            value=_ANY,
        )
        since = gr.Textbox(label=text_key("filter_since"), max_lines=1)
        until = gr.Textbox(label=text_key("filter_until"), max_lines=1)
        refresh = gr.Button(text_key("refresh"), scale=0, min_width=120)
    chart = gr.Plot(show_label=False, visible=False, elem_id="chart")
    figures = markup.component(elem_id="figures")
    trials = markup.component(elem_id="trials")
    filters = [pair, mode, language, since, until]
    shown = [lead, chart, figures, trials]

    def head(request: gr.Request) -> tuple[str, Any]:
        """Offer the pairs that have ratings; their names must not wait in the page's source."""
        with shown_errors(request), database.read() as session:
            pairs = queries.rated_pairs(session)
        choices = [(key.replace("|", " · "), key) for key in pairs]
        t = texts_in(visitor_of(request).language)
        return markup.header(t, "summary"), gr.update(
            choices=choices, value=pairs[0] if pairs else None
        )

    async def show(
        pair: object,
        mode: object,
        language: object,
        since: object,
        until: object,
        request: gr.Request,
    ) -> tuple[str, Any, str, str]:
        with shown_errors(request):
            wanted = filters_from(pair=pair, mode=mode, language=language, since=since, until=until)
            visitor = visitor_of(request)
            found = await asyncio.to_thread(load_trials, database, wanted)
            hidden = await panel.is_blinded(visitor)
        return _shown(texts_in(visitor.language), found, hidden=hidden)

    blocks.load(head, None, [header, pair], **PRIVATE).then(show, filters, shown, **PRIVATE)
    gr.on(
        [refresh.click, since.submit, until.submit, *(f.input for f in (pair, mode, language))],
        show,
        filters,
        shown,
        **PRIVATE,
    )


def _choice(name: str) -> tuple[Any, str]:
    return text_key(name), name


def _shown(t: Texts, trials: Sequence[Trial], *, hidden: bool) -> tuple[str, Any, str, str]:
    """Return what the page shows; without the answers if `hidden`."""
    pairs = summarise(trials)
    chart: go.Figure | None = dimensions_chart(t, pairs[0]) if pairs else None
    return (
        markup.render("summary", t, pairs=pairs),
        gr.update(value=chart, visible=chart is not None),
        "".join(_figures(t, pair) for pair in pairs),
        markup.render(
            "trials",
            t,
            trials=[] if hidden else [_trial_row(t, trial) for trial in trials[:_SHOWN_TRIALS]],
            total=len(trials),
            hidden=hidden,
        ),
    )


def _figures(t: Texts, pair: PairSummary) -> str:
    first, second = pair.models
    counts = pair.preference
    return markup.render(
        "figures",
        t,
        pair=pair,
        first=first,
        second=second,
        dimensions=[
            (key, WORDINGS[key][t.language].name, pair.dimensions[key]) for key in Dimension
        ],
        article=article.columns_for(pair.models),
        preferences=[
            (t("preferred", model=first), counts.a),
            (t("preferred", model=second), counts.b),
            (t("tie"), counts.tie),
            (t("both_bad"), counts.both_bad),
        ],
        two_decimals=two_decimals,
        signed=signed,
    )


def _trial_row(t: Texts, trial: Trial) -> dict[str, Any]:
    """What one rated trial shows of itself, its models in the order of the sides."""
    assert trial.rating is not None  # only rated trials are loaded
    scores = {(s.side, s.dimension): s.score for s in trial.rating.scores}

    def score(side: Side, key: Dimension) -> str:
        return str(scores[side, key] or t("not_applicable"))

    return {
        "rated_at": f"{trial.rating.rated_at:%Y-%m-%d %H:%M}",
        "prompt": trial.turns[0].prompt[:80],
        "blind": trial.blind,
        "language": trial.language,
        "preference": _preference(t, trial),
        "comment": trial.rating.comment,
        "models": [f"{trial.left_model} ({t('left')})", f"{trial.right_model} ({t('right')})"],
        "scores": [
            (WORDINGS[key][t.language].name, [score(side, key) for side in Side])
            for key in Dimension
        ],
        "turns": [
            {
                "prompt": turn.prompt,
                "answers": [
                    answer.raw_text if (answer := latest_if_any(turn.answers, side)) else ""
                    for side in Side
                ],
            }
            for turn in trial.turns
        ],
    }


def _preference(t: Texts, trial: Trial) -> str:
    assert trial.rating is not None
    preferred = {"left": trial.left_model, "right": trial.right_model}.get(trial.rating.preference)
    return t("preferred", model=preferred) if preferred else t(trial.rating.preference)
