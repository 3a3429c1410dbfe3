"""Ratings as PAIR's LLM Comparator shows them: one JSON file for one pair of models.

The same answers shown to several raters are one example with several ratings. A is the pair's
first model (keys sorted), whichever side it was on. The format:
https://github.com/PAIR-code/llm-comparator#json-data-format
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any, BinaryIO

from backends.catalog import MODELS
from db import Dimension, Preference, Side
from rating.errors import BadExport
from rating.exchange.counted import LeftOut, counted
from rating.exchange.records import TrialRecord
from rating.summary import TINY_NOTE


def write(
    records: Iterable[TrialRecord],
    out: BinaryIO,
    left_out: Counter[LeftOut],
    *,
    include_flagged: bool = False,
) -> None:
    """Write the ratings of a pair to `out`.

    Raises:
        BadExport: Of several pairs, of none, or blind and open ones are mixed.
    """
    examples: dict[tuple[str, ...], list[TrialRecord]] = {}
    pairs = set()
    for record in counted(records, left_out, include_flagged=include_flagged):
        shown = _shown(record)
        if shown is None:
            left_out[LeftOut.NO_ANSWERS] += 1
            continue
        pairs.add(_models(record))
        examples.setdefault(shown, []).append(record)
    models = _only(pairs)
    data = {
        "metadata": {"source_path": _source(models), "custom_fields_schema": _schema()},
        "models": [{"name": key} for key in models],
        "examples": [_example(shown, rated) for shown, rated in examples.items()],
    }
    out.write(json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1).encode() + b"\n")


def _models(record: TrialRecord) -> tuple[str, str]:
    first, second = sorted((record.left_model, record.right_model))
    return first, second


def _side_of_a(record: TrialRecord) -> Side:
    return Side.LEFT if record.left_model == _models(record)[0] else Side.RIGHT


def _only(pairs: set[tuple[str, str]]) -> tuple[str, str]:
    if not pairs:
        raise BadExport("export_none", "No rating fits that this format has a place for.")
    if len(pairs) > 1:
        names = ", ".join("|".join(models) for models in sorted(pairs))
        raise BadExport(
            "export_pairs",
            f"LLM Comparator shows one pair of models. Choose one with --pair: {names}",
            names=names,
        )
    return pairs.pop()


def _shown(record: TrialRecord) -> tuple[str, ...] | None:
    """Return what one example is of: language, prompts, A's answers, B's; None without answers."""
    a = _side_of_a(record)
    b = Side.RIGHT if a is Side.LEFT else Side.LEFT
    texts = [_conversation([turn.prompt for turn in record.turns])]
    for side in (a, b):
        answers = [turn.last(side) for turn in record.turns]
        if None in answers:
            return None
        texts.append(_conversation([answer.raw_text for answer in answers if answer]))
    return (record.language.value, *texts)


def _conversation(parts: Sequence[str]) -> str:
    """Return one text of all turns; those of several are numbered."""
    if len(parts) == 1:
        return parts[0]
    return "\n\n".join(f"[{number}] {part}" for number, part in enumerate(parts, start=1))


def _example(shown: tuple[str, ...], rated: Sequence[TrialRecord]) -> dict[str, Any]:
    language, prompt, answer_a, answer_b = shown
    ratings = [_rating(record) for record in rated]
    return {
        "input_text": prompt,
        "tags": [language],
        "output_text_a": answer_a,
        "output_text_b": answer_b,
        "score": fmean(rating["score"] for rating in ratings),
        "individual_rater_scores": ratings,
        "rationale_list": [],
        "custom_fields": _fields(rated),
    }


def _rating(record: TrialRecord) -> dict[str, Any]:
    """Return one rating; its score is 1 for A, -1 for B: how much better nobody has said."""
    a = _side_of_a(record)
    if record.rating.preference in (Preference.TIE, Preference.BOTH_BAD):
        score, label = 0.0, "same" if record.rating.preference is Preference.TIE else "both bad"
    elif record.rating.preference.value == a.value:
        score, label = 1.0, "A is better"
    else:
        score, label = -1.0, "B is better"
    return {
        "score": score,
        "rating_label": label,
        "is_flipped": a is Side.RIGHT,
        "rationale": record.rating.comment,
        "custom_fields": {"rater": record.rater},
    }


def _schema() -> list[dict[str, str]]:
    return [
        {"name": "prompt_id", "type": "string"},
        {"name": "ratings", "type": "number"},
        {"name": "both_bad", "type": "number"},
        *({"name": dimension.value, "type": "per_model_number"} for dimension in Dimension),
        {"name": "rater", "type": "per_rating_string"},
    ]


def _fields(rated: Sequence[TrialRecord]) -> dict[str, Any]:
    both_bad = sum(record.rating.preference is Preference.BOTH_BAD for record in rated)
    return {
        "prompt_id": rated[0].prompt_id or "",
        "ratings": len(rated),
        "both_bad": both_bad,
        **{dimension.value: _means(rated, dimension) for dimension in Dimension},
    }


def _means(rated: Sequence[TrialRecord], dimension: Dimension) -> list[float | None]:
    """Return the mean score of A and of B over the ratings; None where it never applied."""
    means: list[float | None] = []
    for is_a in (True, False):
        scores = [
            score
            for record in rated
            for side in Side
            if (side is _side_of_a(record)) is is_a
            and (score := record.rating.scores[side][dimension]) is not None
        ]
        means.append(fmean(scores) if scores else None)
    return means


def _source(models: Sequence[str]) -> str:
    tiny = any(key in MODELS and MODELS[key].builtin for key in models)
    return "Twopane" + (f": {TINY_NOTE}" if tiny else "")
