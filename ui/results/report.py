"""The results as one HTML file to hand around: figures and drawings, nothing from elsewhere.

Has no answers, comments or raters in it. Which ratings it may tell of is decided by whoever asks.
"""

from db import utc_now
from rating.findings import Findings
from ui import markup
from ui.charts import COLOURS
from ui.language import LOCALES, Texts
from ui.results import drawings, views
from ui.results.charts import SCORE_COLOURS


def report_html(t: Texts, findings: Findings) -> str:
    """Return the whole file."""
    return markup.render(
        "report",
        t,
        lang=LOCALES[t.language],
        made_at=f"{utc_now():%Y-%m-%d %H:%M}",
        pairs=[
            {
                "verdicts": views.pair(t, found, findings, None),
                "forest": drawings.forest(t, found.figures),
                "models": found.figures.models,
                "bars": drawings.bars(t, found),
                "figures": views.figures_table(t, found, None),
            }
            for found in findings.pairs
        ],
        ranking=views.ranking(t, findings),
        width=drawings.WIDTH,
        colours=COLOURS,
        score_colours=SCORE_COLOURS,
    )
