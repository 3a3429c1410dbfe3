"""Signs of careless rating: documented rules that flag trials, and leave everything as it is.

Flags keep trials out of the figures by default and can be ignored. Nothing here deletes or changes
a rating, and nothing is proved by a flag: `docs/statistics.md` says what each rule can't know.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from db import Language, Preference, Side, TrialKind
from rating.statistics.paired import (
    Booleans,
    Floats,
    mean_over,
    side_scores,
    straight_lined,
)


class Flag(StrEnum):
    """A rule of careless rating that a trial falls under."""

    TOO_FAST = "too_fast"
    STRAIGHT_LINED = "straight_lined"
    FAILED_ATTENTION = "failed_attention"
    CONTRADICTED = "contradicted"


WORDINGS: Mapping[Flag, Mapping[str, str]] = MappingProxyType(
    {
        Flag.TOO_FAST: {
            "zh": "评分太快，来不及读完回答",
            "en": "rated faster than the answers can be read",
        },
        Flag.STRAIGHT_LINED: {
            "zh": "评分者反复给两边所有维度同一个分数",
            "en": "by a rater who gives one score throughout, again and again",
        },
        Flag.FAILED_ATTENTION: {
            "zh": "评分者多次没有通过注意力检查",
            "en": "by a rater who failed checks of attention",
        },
        Flag.CONTRADICTED: {
            "zh": "同一对回答再次评分时，结论相反",
            "en": "contradicted by the same rater on the same answers",
        },
    }
)

CHARACTERS_PER_S: Mapping[str, float] = MappingProxyType({"zh": 11.0, "en": 48.0})
"""Nobody reads faster and takes it in: twice the average of silent reading.

English: 238 words a minute (M. Brysbaert, "How many words do we read per minute?", Journal of
Memory and Language 109 (2019), 104047), a word taken as six characters with its space. Chinese: 255
characters a minute aloud (S. Trauzettel-Klosinski and K. Dietz, "Standardized Assessment of Reading
Performance: The New International Reading Speed Texts IReST", Investigative Ophthalmology & Visual
Science 53 (2012), 5452-5461), times 1.3, as in English silent reading is to reading aloud (238 to
183, Brysbaert).
"""

ENTRY_S = 0.2
"""Each score and the preference take a keystroke: that of a skilled typist in S. K. Card,
T. P. Moran and A. Newell, "The Keystroke-Level Model", Communications of the ACM 23 (1980)."""

FEWEST_STRAIGHT_LINED = 5
SLIP = 0.1
"""How often somebody careful fails a check of attention all the same."""

_SURE = 0.05
_SURE_OF_HABIT = 0.01


def flags_of(frame: pd.DataFrame) -> "pd.Series[Any]":
    """Return the flags of each trial, a tuple of `Flag`, under the frame's own index.

    A flag that a trial brings along from elsewhere stays: what it rests on need not be here.

    Args:
        frame: A ratings frame with all trials of its raters, of all kinds and pairs: habits of
            raters show only over all that they rated.
    """
    rules: Mapping[Flag, Callable[[pd.DataFrame], Booleans]] = {
        Flag.TOO_FAST: too_fast,
        Flag.STRAIGHT_LINED: by_straight_liners,
        Flag.FAILED_ATTENTION: by_inattentive,
        Flag.CONTRADICTED: contradicted,
    }
    found = {flag: rule(frame) | _brought(frame, flag) for flag, rule in rules.items()}
    which = sum(hit * 2**place for place, hit in enumerate(found.values()))
    named = [
        tuple(flag for place, flag in enumerate(found) if which >> place & 1)
        for which in range(2 ** len(found))
    ]
    return pd.Series([named[each] for each in which], index=frame.index, dtype=object)


def _brought(frame: pd.DataFrame, flag: Flag) -> Booleans:
    return np.fromiter((flag in stored for stored in frame["flags"]), dtype=bool, count=len(frame))


def counted(
    frame: pd.DataFrame, *, include_flagged: bool, flags: "pd.Series[Any] | None" = None
) -> pd.DataFrame:
    """Return the trials that count: all, or those without a flag.

    Args:
        frame: A ratings frame.
        include_flagged: Whether flags are ignored.
        flags: Of its trials, where they are known already (at least of these rows).
    """
    if include_flagged or not len(frame):
        return frame
    flags = flags_of(frame) if flags is None else flags.loc[frame.index]
    return frame[~flags.map(bool).to_numpy(dtype=bool)]


def excluded(
    frame: pd.DataFrame, *, include_flagged: bool, flags: "pd.Series[Any] | None" = None
) -> dict[str, int]:
    """Return how many regular trials `counted` leaves out, by flag; one may have several.

    Args:
        frame: A ratings frame.
        include_flagged: Whether flags are ignored; then nothing is left out.
        flags: Of its trials, where they are known already.
    """
    if include_flagged or not len(frame):
        return {}
    flags = flags_of(frame) if flags is None else flags.loc[frame.index]
    regular = flags[frame["kind"] == TrialKind.REGULAR.value]
    counts = regular.explode().dropna().value_counts()
    return {flag.value: int(counts[flag.value]) for flag in Flag if flag.value in counts}


def too_fast(frame: pd.DataFrame) -> Booleans:
    """Return which trials were rated sooner than both sides' answers can be read and scored.

    Counted from when the first prompt was sent, so that what is read while it streams is not held
    against anybody. By the language of the page, as that of the text is not known. Where time or
    lengths are unknown, nothing is said.
    """
    characters = frame[["left_chars", "right_chars"]].to_numpy(dtype=float).sum(axis=1)
    speed = frame["language"].map(CHARACTERS_PER_S).fillna(max(CHARACTERS_PER_S.values()))
    entries = 1 + sum((~np.isnan(side_scores(frame, side))).sum(axis=1) for side in Side)
    needed = characters / speed.to_numpy(dtype=float) + ENTRY_S * entries
    return np.asarray(frame["rating_s"].to_numpy(dtype=float) < needed, dtype=bool)


def by_straight_liners(frame: pd.DataFrame) -> Booleans:
    """Return the trials of raters with a habit of giving one score throughout.

    One such trial says nothing: two answers can be equally bad in everything. A habit is the same
    score throughout in at least five regular trials that are half of the rater's, and more often
    than others do (binomial test at 1 %), where others rate: bad models are straight-lined by
    everybody. All of the rater's trials are flagged, since leaving out only their straight-lined
    ones, where no difference was found, would make differences look larger.
    """
    regular = frame[frame["kind"] == TrialKind.REGULAR.value]
    straight = straight_lined(regular)
    score = mean_over(np.hstack([side_scores(regular, side) for side in Side]))
    data = pd.DataFrame({"rater": regular["rater"].to_numpy(), "straight": straight})
    same = data.assign(score=score)[straight].groupby(["rater", "score"]).size()
    raters = data.groupby("rater")["straight"].agg(["sum", "size"])
    raters["same"] = same.groupby("rater").max()
    suspects = raters[
        (raters["same"] >= FEWEST_STRAIGHT_LINED) & (raters["same"] >= raters["size"] / 2)
    ]
    hits, trials = int(straight.sum()), len(regular)
    habit = [
        rater
        for rater, own_hits, own_trials in zip(
            suspects.index, suspects["sum"], suspects["size"], strict=True
        )
        if _more_than_others(own_hits, own_trials, hits - own_hits, trials - own_trials)
    ]
    return np.asarray(frame["rater"].isin(habit), dtype=bool)


def _more_than_others(hits: int, trials: int, other_hits: int, others: int) -> bool:
    from scipy.special import bdtrc  # noqa: PLC0415 -- takes long to import

    if not others:
        return True
    usual = (other_hits + 0.5) / (others + 1)
    return bool(bdtrc(hits - 1, trials, usual) < _SURE_OF_HABIT)


def by_inattentive(frame: pd.DataFrame) -> Booleans:
    """Return failed checks of attention, and all trials of raters who failed more than by slips.

    A check is failed where the better side is not preferred, or its mean score not higher. Somebody
    careful slips one time in ten (`SLIP`): a rater is flagged where so many failures among so many
    checks then have a chance below 5 %, as two of two or three, and never one alone.
    """
    failed = _failed(frame)
    checks = frame["kind"].to_numpy(dtype=object) == TrialKind.ATTENTION.value
    data = pd.DataFrame({"rater": frame["rater"].to_numpy(), "failed": failed})[checks]
    by_rater = data.groupby("rater")["failed"].agg(["sum", "size"])
    by_rater = by_rater[by_rater["sum"] > 0]
    if not len(by_rater):
        return failed
    from scipy.special import bdtrc  # noqa: PLC0415 -- takes long to import

    chance = bdtrc(by_rater["sum"].to_numpy() - 1, by_rater["size"].to_numpy(), SLIP)
    careless = by_rater.index[(chance < _SURE) & (by_rater["sum"].to_numpy() > 1)]
    return np.asarray(failed | frame["rater"].isin(careless).to_numpy(), dtype=bool)


def _failed(frame: pd.DataFrame) -> Booleans:
    """Return the checks of attention that were failed."""
    better = frame["better"].to_numpy(dtype=object)
    checks = frame["kind"].to_numpy(dtype=object) == TrialKind.ATTENTION.value
    left, right = (side_scores(frame, side) for side in Side)
    ahead = mean_over(left - right)
    ahead = np.where(better == Side.RIGHT.value, -ahead, ahead)
    wrong = frame["preference"].to_numpy(dtype=object) != better
    return np.asarray(checks & (wrong | (ahead <= 0)), dtype=bool)


def contradicted(frame: pd.DataFrame) -> Booleans:
    """Return repeats that say the opposite, and the trials whose answers they showed again.

    Opposite are both the clear preference and the sign of the mean difference in scores, by model.
    """
    repeats = frame[frame["repeat_of"].notna()]
    if not len(repeats):
        return np.zeros(len(frame), dtype=bool)
    verdicts = pd.DataFrame(
        {"trial": frame["trial"].to_numpy(), "won": _preferred(frame), "ahead": _ahead(frame)}
    ).set_index("trial")
    again = verdicts.loc[repeats["trial"]].to_numpy()
    before = verdicts.reindex(repeats["repeat_of"]).to_numpy()
    opposite = ((again * before) < 0).all(axis=1)
    trials = {*repeats["trial"][opposite], *repeats["repeat_of"][opposite]}
    return np.asarray(frame["trial"].isin(trials), dtype=bool)


def _model_sign(frame: pd.DataFrame) -> Floats:
    """Return 1 where the first of the two models, by key, is on the left, else -1."""
    return np.where((frame["left_model"] < frame["right_model"]).to_numpy(dtype=bool), 1.0, -1.0)


def _preferred(frame: pd.DataFrame) -> Floats:
    sides = {Preference.LEFT.value: 1.0, Preference.RIGHT.value: -1.0}
    return _model_sign(frame) * frame["preference"].map(sides).fillna(0.0).to_numpy(dtype=float)


def _ahead(frame: pd.DataFrame) -> Floats:
    left, right = (side_scores(frame, side) for side in Side)
    return _model_sign(frame) * mean_over(left - right)


def wording(flag: Flag, language: Language) -> str:
    """Return what a flag means, in words."""
    return WORDINGS[flag][language.value]
