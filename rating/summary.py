"""What the ratings say: rated trials as pandas frames, figures by pair, as JSON and Markdown.

Pairs are kept apart always, so the ratings of the built-in models never mix with others. The
figures themselves are `statistics`'s, pages and charts are `ui`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from backends.catalog import MODELS
from db import Database, Dimension, Language, Side, Trial, queries
from db.queries import Filters
from rating import article
from rating.dimensions import WORDINGS
from rating.statistics import (
    DimensionFigures,
    PreferenceCounts,
    dimension_figures,
    preference_counts,
)

TINY_NOTE = "tiny built-in models for trying the panel, no measure of the real ones"

_TRIAL_COLUMNS = ["trial", "prompt", "pair", "left_model", "right_model", "preference"]
_SCORE_COLUMNS = ["trial", "prompt", "pair", "model", "dimension", "score"]


@dataclass(frozen=True)
class PairSummary:
    """The figures of one pair; `models` are its keys, sorted."""

    models: tuple[str, str]
    n_trials: int
    n_prompts: int
    dimensions: Mapping[Dimension, DimensionFigures]
    preference: PreferenceCounts

    @property
    def builtin(self) -> bool:
        """Whether a tiny built-in model takes part."""
        return any(key in MODELS and MODELS[key].builtin for key in self.models)


def load_trials(database: Database, filters: Filters) -> list[Trial]:
    """Return the rated trials that fit, newest first."""
    with database.read() as session:
        return queries.rated_trials(session, filters)


def trials_frame(trials: Sequence[Trial]) -> pd.DataFrame:
    """Return one row a trial."""
    rows = [
        (t.id, _prompt(t), t.pair, t.left_model, t.right_model, t.rating.preference.value)
        for t in trials
        if t.rating is not None
    ]
    return pd.DataFrame(rows, columns=_TRIAL_COLUMNS)


def scores_frame(trials: Sequence[Trial]) -> pd.DataFrame:
    """Return one row for each trial, side and dimension; NaN is "not applicable"."""
    rows = [
        (
            trial.id,
            _prompt(trial),
            trial.pair,
            trial.left_model if score.side is Side.LEFT else trial.right_model,
            score.dimension.value,
            score.score,
        )
        for trial in trials
        if trial.rating is not None
        for score in trial.rating.scores
    ]
    return pd.DataFrame(rows, columns=_SCORE_COLUMNS).astype({"score": float})


def summarise(trials: Sequence[Trial]) -> list[PairSummary]:
    """Return the figures of each pair, the one with most trials first; of none, none."""
    rated, scores = trials_frame(trials), scores_frame(trials)
    return [
        _summarise_pair(str(pair), rated[rated["pair"] == pair], scores[scores["pair"] == pair])
        for pair in rated["pair"].value_counts().index
    ]


def _summarise_pair(pair: str, rated: pd.DataFrame, scores: pd.DataFrame) -> PairSummary:
    first, second = pair.split("|")
    models = (first, second)
    return PairSummary(
        models=models,
        n_trials=len(rated),
        n_prompts=rated["prompt"].nunique(),
        dimensions={
            dimension: dimension_figures(scores[scores["dimension"] == dimension.value], models)
            for dimension in Dimension
        },
        preference=preference_counts(rated, models),
    )


def _prompt(trial: Trial) -> str:
    """What trials of the same prompt share: its id in a prompt set, else its first words."""
    return trial.turns[0].prompt_id or trial.turns[0].prompt


def as_json(pairs: Sequence[PairSummary]) -> dict[str, Any]:
    """Return the summary as plain data: `{"pairs": [...], "article": {...}}`.

    In a pair, `mean` and `n` are by model key; `a` and `b` of `preference` are the first and the
    second of `models`; `difference` is the second one's mean minus the first one's.
    """
    return {
        "pairs": [
            {
                "models": list(pair.models),
                "n_trials": pair.n_trials,
                "n_prompts": pair.n_prompts,
                "dimensions": {key.value: asdict(f) for key, f in pair.dimensions.items()},
                "preference": asdict(pair.preference),
                **({"note": TINY_NOTE} if pair.builtin else {}),
            }
            for pair in pairs
        ],
        "article": {
            "models": list(article.MODELS),
            "dimensions": {key.value: list(scores) for key, scores in article.SCORES.items()},
        },
    }


def as_markdown(pairs: Sequence[PairSummary]) -> str:
    """Return the summary as Markdown tables, the article's figures in columns of their own."""
    if not pairs:
        return "No ratings yet."
    return "\n\n".join(_pair_markdown(pair) for pair in pairs)


def _pair_markdown(pair: PairSummary) -> str:
    first, second = pair.models
    columns = article.columns_for(pair.models)
    lines = [
        f"## {first} and {second}",
        "",
        f"{pair.n_trials} rated trials, {pair.n_prompts} different first prompts."
        + (f" These are {TINY_NOTE}." if pair.builtin else ""),
        "",
        f"| dimension | {first} | n | {second} | n | difference "
        f"| {columns[0].model} (article) | {columns[1].model} (article) |",
        "|---|---|---|---|---|---|---|---|",
        *(_dimension_row(pair, key) for key in Dimension),
        "",
        f"Preference: {first} {pair.preference.a}, {second} {pair.preference.b}, "
        f"tie {pair.preference.tie}, both bad {pair.preference.both_bad}.",
        "",
        "Means alone do not prove a difference. The article's figures are given for reference: it "
        "names no number of raters, no interval and no blinding.",
    ]
    return "\n".join(lines)


def _dimension_row(pair: PairSummary, key: Dimension) -> str:
    figures = pair.dimensions[key]
    cells = [WORDINGS[key][Language.EN].name]
    for model in pair.models:
        cells += [two_decimals(figures.mean[model]), str(figures.n[model])]
    cells += [
        signed(figures.difference),
        *(f"{column.scores[key]:.1f}" for column in article.columns_for(pair.models)),
    ]
    return f"| {' | '.join(cells)} |"


def two_decimals(value: float | None) -> str:
    """Return a mean for a table; "–" where there is none."""
    return "–" if value is None else f"{value:.2f}"


def signed(value: float | None) -> str:
    """Return a difference for a table; "–" where there is none."""
    return "–" if value is None else f"{value:+.2f}"
