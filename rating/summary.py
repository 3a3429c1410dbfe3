"""What the ratings say: rated trials as pandas frames, figures by pair, as JSON and Markdown.

Pairs are kept apart always, so the ratings of the built-in models never mix with others; blind and
open ratings too. The
figures themselves are `statistics`'s, pages and charts are `ui`'s.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from backends.catalog import MODELS
from db import Database, Dimension, Language, Trial, queries
from db.queries import Filters
from rating import article
from rating.dimensions import WORDINGS
from rating.errors import BadFilter
from rating.statistics.descriptive import (
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
    """The figures of one pair, blind or open; `models` are its keys, sorted."""

    models: tuple[str, str]
    blind: bool
    n_trials: int
    n_prompts: int
    dimensions: Mapping[Dimension, DimensionFigures]
    preference: PreferenceCounts

    @property
    def builtin(self) -> bool:
        """Whether a tiny built-in model takes part."""
        return any(key in MODELS and MODELS[key].builtin for key in self.models)


def filters_from(
    *,
    pair: object = None,
    mode: object = None,
    language: object = None,
    since: object = None,
    until: object = None,
) -> Filters:
    """Return the filters that a page, a command or an API client means; all are optional.

    Args:
        pair: Two model keys, sorted and joined by "|".
        mode: "blind" or "open"; anything else is both.
        language: "zh" or "en"; anything else is both.
        since: First day, as 2026-02-28, in UTC.
        until: Last day, taken in as a whole.

    Raises:
        BadFilter: A date is none.
    """
    last_day = _day(until)
    return Filters(
        pair=str(pair) if pair else None,
        blind={"blind": True, "open": False}.get(str(mode)),
        language=Language(str(language)) if str(language) in set(Language) else None,
        since=_day(since),
        until=last_day + timedelta(days=1) if last_day else None,
    )


def _day(text: object) -> datetime | None:
    words = str(text or "").strip()
    if not words:
        return None
    try:
        day = datetime.strptime(words, "%Y-%m-%d").replace(tzinfo=UTC)
        _ = day + timedelta(days=1)  # the last day of all has no next one
    except (ValueError, OverflowError) as error:
        raise BadFilter(
            "bad_date", f"{words[:40]!r} is no date. Write it as 2026-02-28.", text=words[:40]
        ) from error
    return day


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
            trial.model_on(score.side),
            score.dimension.value,
            score.score,
        )
        for trial in trials
        if trial.rating is not None
        for score in trial.rating.scores
    ]
    return pd.DataFrame(rows, columns=_SCORE_COLUMNS).astype({"score": float})


def summarise(trials: Sequence[Trial]) -> list[PairSummary]:
    """Return the figures of each pair, blind and open apart; most trials first; of none, none."""
    groups: dict[tuple[str, bool], list[Trial]] = defaultdict(list)
    for trial in trials:
        groups[trial.pair, trial.blind].append(trial)
    return [
        _summarise_pair(pair, blind, group)
        for (pair, blind), group in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]


def _summarise_pair(pair: str, blind: bool, trials: Sequence[Trial]) -> PairSummary:
    rated, scores = trials_frame(trials), scores_frame(trials)
    first, second = pair.split("|")
    models = (first, second)
    return PairSummary(
        models=models,
        blind=blind,
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
                "blind": pair.blind,
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
        f"## {first} and {second}, {'blind' if pair.blind else 'open'}",
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
