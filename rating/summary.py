"""What the ratings say: which rated trials count, the figures of each pair, and the same as JSON.

Pairs are kept apart always, so the ratings of the built-in models never mix with others; blind and
open ratings too. Attention trials and repeats count only as signs of how carefully somebody rates.
The figures themselves are `statistics`'s, words around them `summary_markdown`'s, pages `ui`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from backends.catalog import MODELS
from db import Database, Dimension, Language, TrialKind
from db.queries import Filters
from rating import article
from rating.errors import BadFilter
from rating.frames import chosen, fitting, ratings_frame
from rating.quality import counted, excluded, flags_of
from rating.statistics.analysis import analyse
from rating.statistics.figures import (
    DimensionFigures,
    Estimate,
    Interval,
    PairFigures,
    PreferenceFigures,
    Rank,
    Results,
)
from rating.statistics.ranking import ranking
from rating.statistics.verdicts import sentence

TINY_NOTE = "tiny built-in models for trying the panel, no measure of the real ones"


def filters_from(
    *,
    pair: object = None,
    mode: object = None,
    language: object = None,
    since: object = None,
    until: object = None,
    session: object = None,
) -> Filters:
    """Return the filters that a page, a command or an API client means; all are optional.

    Args:
        pair: Two model keys, sorted and joined by "|".
        mode: "blind" or "open"; anything else is both.
        language: "zh" or "en"; anything else is both.
        since: First day, as 2026-02-28, in UTC.
        until: Last day, taken in as a whole.
        session: Id of a rating session; none is all of them and trials of no session.

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
        session=str(session) if session else None,
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


def is_builtin(models: tuple[str, str]) -> bool:
    """Whether a tiny built-in model takes part."""
    return any(key in MODELS and MODELS[key].builtin for key in models)


@dataclass(frozen=True)
class Group:
    """The rated trials of one pair, blind or open, as rows of a ratings frame.

    Attributes:
        models: The pair's keys, sorted.
        rated: All of them, attention trials and repeats too.
        counted: The regular ones that count.
        excluded: How many regular ones don't, by flag of `quality`; one trial may have several.
        n_excluded: How many that are.
    """

    models: tuple[str, str]
    blind: bool
    rated: pd.DataFrame
    counted: pd.DataFrame
    excluded: Mapping[str, int]
    n_excluded: int


def rated_trials(database: Database) -> pd.DataFrame:
    """Return all rated trials as a ratings frame, their flags of careless rating in `careless`.

    All, since habits of raters show only over all that they rated; choose from it with `fitting`.
    """
    frame = ratings_frame(database, Filters())
    return frame.assign(careless=flags_of(frame))


def careless_trials(database: Database) -> dict[str, tuple[str, ...]]:
    """Return the signs of careless rating of those trials that have some, by their ids."""
    rated = rated_trials(database)
    found = zip(rated["trial"], rated["careless"], strict=True)
    return {str(trial): tuple(flag.value for flag in flags) for trial, flags in found if flags}


def groups_of(rated: pd.DataFrame, *, include_flagged: bool = False) -> list[Group]:
    """Return the trials of each pair, blind and open apart; most trials that count first.

    Args:
        rated: Rows of what `rated_trials` returns.
        include_flagged: Whether trials with signs of careless rating count as well.
    """
    kinds = rated[["pair", "blind"]].drop_duplicates().sort_values(["pair", "blind"])
    groups = []
    for pair, blind in zip(kinds["pair"], kinds["blind"], strict=True):
        rows = ((rated["pair"] == pair) & (rated["blind"] == blind)).to_numpy(dtype=bool)
        groups.append(_group(str(pair), bool(blind), chosen(rated, rows), include_flagged))
    return sorted(groups, key=lambda group: -len(group.counted))


def _group(pair: str, blind: bool, rated: pd.DataFrame, include_flagged: bool) -> Group:
    first, second = pair.split("|")
    flags = rated["careless"]
    counted_rows = counted(rated, include_flagged=include_flagged, flags=flags)
    regular = chosen(counted_rows, (counted_rows["kind"] == TrialKind.REGULAR.value).to_numpy())
    return Group(
        models=(first, second),
        blind=blind,
        rated=rated,
        counted=regular,
        excluded=excluded(rated, include_flagged=include_flagged, flags=flags),
        n_excluded=int((rated["kind"] == TrialKind.REGULAR.value).sum()) - len(regular),
    )


def results_of(groups: Sequence[Group]) -> Results:
    """Return the figures of each group, in their order, and the ranking by blind preferences."""
    blind = [group.counted for group in groups if group.blind]
    return Results(
        pairs=[
            replace(
                analyse(
                    group.counted,
                    group.models,
                    blind=group.blind,
                    excluded=group.excluded,
                    repeated=group.rated,
                ),
                n_excluded=group.n_excluded,
            )
            for group in groups
        ],
        ranking=ranking(pd.concat(blind)) if len(blind) > 1 else (),
    )


def summarise(database: Database, filters: Filters, *, include_flagged: bool = False) -> Results:
    """Return the figures of each pair and the ranking; of no ratings, none."""
    rated = fitting(rated_trials(database), filters)
    return results_of(groups_of(rated, include_flagged=include_flagged))


def as_json(results: Results) -> dict[str, Any]:
    """Return the summary as plain data: `{"pairs": [...], "ranking": [...], "article": {...}}`.

    In a pair, `mean` is by model key; `a` and `b` of `preference` are the first and the second of
    `models`; `difference` is the second one's mean minus the first one's. What the data can't give
    is None.
    """
    return {
        "pairs": [_pair_json(pair) for pair in results.pairs],
        "ranking": [_rank_json(rank) for rank in results.ranking],
        "article": {
            "models": list(article.MODELS),
            "dimensions": {key.value: list(scores) for key, scores in article.SCORES.items()},
        },
    }


def _pair_json(pair: PairFigures) -> dict[str, Any]:
    return {
        "models": list(pair.models),
        "blind": pair.blind,
        "n_trials": pair.n_trials,
        "n_prompts": pair.n_prompts,
        "n_raters": pair.n_raters,
        "dimensions": {
            key.value: _dimension_json(pair.dimensions[key], pair.models, key) for key in Dimension
        },
        "preference": _preference_json(pair.preference),
        "bias": {
            each.name: _estimate_json(getattr(pair.bias, each.name)) for each in fields(pair.bias)
        },
        "n_excluded": pair.n_excluded,
        "excluded": dict(pair.excluded),
        **({"note": TINY_NOTE} if is_builtin(pair.models) else {}),
    }


def _dimension_json(
    figures: DimensionFigures, models: tuple[str, str], key: Dimension
) -> dict[str, Any]:
    agreement, verdict = figures.agreement, figures.verdict
    return {
        "n_prompts": figures.n_prompts,
        "n_ratings": figures.n_ratings,
        "mean": {model: figures.mean.get(model) for model in models},
        "difference": figures.difference,
        "interval": _interval_json(figures.interval),
        "p": figures.p,
        "p_holm": figures.p_holm,
        "effect": figures.effect,
        "alpha": agreement.alpha if agreement else None,
        "alpha_interval": _interval_json(agreement.interval if agreement else None),
        "verdict": {
            "kind": verdict.kind.value,
            **{language.value: sentence(figures, key, models, language) for language in Language},
        },
        "more_prompts": verdict.more_prompts,
    }


def _preference_json(preference: PreferenceFigures) -> dict[str, Any]:
    return vars(preference) | {"interval": _interval_json(preference.interval)}


def _estimate_json(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {
        "value": estimate.value,
        "interval": _interval_json(estimate.interval),
        "n": estimate.n,
    }


def _rank_json(rank: Rank) -> dict[str, Any]:
    return vars(rank) | {"interval": _interval_json(rank.interval)}


def _interval_json(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def two_decimals(value: float | None) -> str:
    """Return a mean for a table; "–" where there is none."""
    return "–" if value is None else f"{value:.2f}"


def signed(value: float | None) -> str:
    """Return a difference for a table; "–" where there is none."""
    return "–" if value is None else f"{value:+.2f}"
