"""The rated trials behind a figure: which they are, and each with its answers to look at.

Shows what it is given; who may see answers is decided in `page`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from db import Database, Dimension, Side, Trial, TrialKind
from db.queries import Filters, trials_with
from rating.dimensions import HIGHEST, LOWEST, WORDINGS
from rating.findings import scores_of
from rating.frames import fitting
from rating.quality import Flag, wording
from rating.summary import Group, groups_of
from rating.trial import latest_if_any
from ui import markup
from ui.language import Texts

SHOWN = 50

_ANY_SCORE = range(LOWEST, HIGHEST + 1)


@dataclass(frozen=True)
class Behind:
    """The first trials behind a figure, as rows of a ratings frame, and how many there are."""

    first: pd.DataFrame
    total: int


@dataclass(frozen=True)
class About:
    """Which trials are meant; None is no limit.

    Attributes:
        dimension: Both models are scored in it; the largest differences come first.
        model: The one whose score is meant.
        score: That a model, or either, got in the dimension, or in any.
        words: In the first prompt, or its id in a prompt set.
    """

    dimension: Dimension | None = None
    model: str | None = None
    score: int | None = None
    words: str = ""

    @classmethod
    def of(cls, dimension: object, model: object, score: object, words: object) -> "About":
        """Return what a page or an address means; what is no choice is no limit."""
        return cls(
            dimension=Dimension(str(dimension)) if str(dimension) in set(Dimension) else None,
            model=str(model) if model else None,
            score=int(str(score)) if str(score) in {str(n) for n in _ANY_SCORE} else None,
            words=str(words or "").strip()[:200],
        )


def found(
    filters: Filters, about: About, include_flagged: bool, rated: pd.DataFrame
) -> Behind | None:
    """Return the trials behind a figure of the pair that is shown first; None without a pair.

    Of all that `rating.summary.rated_trials` returned.
    """
    groups = groups_of(fitting(rated, filters), include_flagged=include_flagged)
    return behind(groups[0], about) if groups else None


def behind(group: Group, about: About) -> Behind:
    """Return the trials that are meant, in the order in which they are shown.

    Behind figures are trials that count; without a figure all are listed, whether they count or
    not.
    """
    models = group.models
    regular = (group.rated["kind"] == TrialKind.REGULAR.value).to_numpy(dtype=bool)
    trials = group.counted if about.dimension or about.score else group.rated[regular]
    if about.words:
        said = trials["prompt"].str.contains(about.words, case=False, regex=False)
        trials = trials[said.to_numpy(dtype=bool)]
    if about.score is not None:
        trials = trials[_has_score(trials, models, about)]
    if about.dimension is not None:
        first, second = (scores_of(trials, model, about.dimension) for model in models)
        apart = np.abs(second - first)
        order = np.argsort(-np.where(np.isnan(apart), -1.0, apart), kind="stable")
        trials = trials.iloc[order[: int(np.count_nonzero(~np.isnan(apart)))]]
    return Behind(trials.head(SHOWN), len(trials))


def _has_score(trials: pd.DataFrame, models: Sequence[str], about: About) -> Any:
    meant = [model for model in models if about.model in (None, model)] or models
    dimensions = [about.dimension] if about.dimension else list(Dimension)
    hits = [scores_of(trials, model, key) == about.score for model in meant for key in dimensions]
    return np.any(hits, axis=0)


def shown(t: Texts, database: Database, behind: Behind) -> str:
    """Return these trials with all that was said and scored in them."""
    first = behind.first
    with database.read() as session:
        found = trials_with(session, [str(trial) for trial in first["trial"]])
    flags = dict(zip(first["trial"], first["careless"], strict=True))
    return markup.render(
        "trials",
        t,
        trials=[_row(t, trial, flags[trial.id]) for trial in found if trial.rating is not None],
        total=behind.total,
        hidden=False,
    )


def hidden(t: Texts) -> str:
    """Return why no trials are shown."""
    return markup.render("trials", t, trials=[], total=0, hidden=True)


def _row(t: Texts, trial: Trial, flags: Sequence[Flag]) -> dict[str, Any]:
    """What one rated trial shows of itself, its models in the order of the sides."""
    assert trial.rating is not None  # only rated trials are shown
    scores = {(s.side, s.dimension): s.score for s in trial.rating.scores}

    def score(side: Side, key: Dimension) -> str:
        return str(scores.get((side, key)) or t("not_applicable"))

    return {
        "rated_at": f"{trial.rating.rated_at:%Y-%m-%d %H:%M}",
        "prompt": trial.turns[0].prompt[:80] if trial.turns else "",
        "blind": trial.blind,
        "language": trial.language,
        "preference": _preference(t, trial),
        "comment": trial.rating.comment,
        "flags": [wording(flag, t.language) for flag in flags],
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
