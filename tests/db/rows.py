"""Valid rows to start from; each test changes what it is about."""

from typing import Any, TypeVar

from db import (
    Answer,
    AnswerPack,
    Assignment,
    Base,
    CachedAnswer,
    Dimension,
    FinishReason,
    Language,
    MeasuredAnswer,
    MeasuredModel,
    Measurement,
    PackedAnswer,
    Preference,
    PromptSet,
    Rater,
    Rating,
    RatingSession,
    ResultsRule,
    Score,
    Side,
    Trial,
    Turn,
    utc_now,
)

Row = TypeVar("Row", bound=Base)


def _row(kind: type[Row], values: dict[str, Any], changes: dict[str, Any]) -> Row:
    """Make a row of `values`; `trial_id=...` in `changes` stands in for the object `trial`."""
    given = {name.removesuffix("_id") for name in changes}
    kept = {name: value for name, value in values.items() if name not in given}
    return kind(**kept | changes)


def rater(**changes: Any) -> Rater:
    return _row(Rater, {"language": Language.ZH}, changes)


def trial(**changes: Any) -> Trial:
    values = {
        "rater": rater(),
        "pair": "tiny-chatglm|tiny-qwen",
        "left_model": "tiny-qwen",
        "right_model": "tiny-chatglm",
        "blind": True,
        "language": Language.ZH,
    }
    return _row(Trial, values, changes)


def turn(**changes: Any) -> Turn:
    return _row(Turn, {"trial": trial(), "position": 1, "prompt": "你好"}, changes)


def answer(**changes: Any) -> Answer:
    values = {
        "turn": turn(),
        "side": Side.LEFT,
        "attempt": 1,
        "text": "你好！",
        "raw_text": "你好！",
        "finish_reason": FinishReason.STOP,
        "seed": 2**63 - 1,
        "settings": {"temperature": 0.7, "stop": ["<eop>"]},
        "model_key": "tiny-qwen",
        "model_revision": "1",
        "precision": "float32",
        "cached": False,
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "first_token_s": 0.25,
        "total_s": 0.5,
        "finished_at": utc_now(),
    }
    return _row(Answer, values, changes)


def rating(**changes: Any) -> Rating:
    """Make a complete rating: five dimensions, both sides."""
    rated = changes.pop("trial", None) or trial()
    values = {
        "trial": rated,
        "rater": rated.rater,
        "preference": Preference.RIGHT,
        "scores": [
            Score(side=side, dimension=dimension, score=4)
            for side in Side
            for dimension in Dimension
        ],
    }
    return _row(Rating, values, changes)


def score(**changes: Any) -> Score:
    values = {
        "rating": rating(scores=[]),
        "side": Side.LEFT,
        "dimension": Dimension.REASONING,
        "score": 4,
    }
    return _row(Score, values, changes)


def cached_answer(**changes: Any) -> CachedAnswer:
    values = {
        "key": "0" * 64,
        "text": "你好！",
        "pieces": [[2, 250], [1, 500]],
        "finish_reason": FinishReason.STOP,
        "seed": 2**63 - 1,
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "first_token_s": 0.25,
        "total_s": 0.5,
        "size_bytes": 29,
    }
    return _row(CachedAnswer, values, changes)


def measurement(**changes: Any) -> Measurement:
    values = {
        "machine": {"cpu": "a CPU", "cores": 2},
        "plan": {"models": ["tiny-qwen"], "prompts": ["你好"], "repeats": 5},
    }
    return _row(Measurement, values, changes)


def measured_model(**changes: Any) -> MeasuredModel:
    values = {
        "measurement": measurement(),
        "model_key": "tiny-qwen",
        "together": False,
        "remote": False,
        "revision": "1",
        "precision": "float32",
        "threads": 2,
        "size_bytes": 4_000_000,
        "peak_bytes": 2**40,  # more than an Integer of PostgreSQL holds
        "cold_start_s": 2.5,
        "warm_start_s": 1.5,
        "cpu_share": 0.5,
        "others_share": 0.05,
        "disk_free_bytes": 2**40,
    }
    return _row(MeasuredModel, values, changes)


def measured_answer(**changes: Any) -> MeasuredAnswer:
    values = {
        "measurement": measurement(),
        "model_key": "tiny-qwen",
        "together": False,
        "prompt": 1,
        "repeat": 1,
        "first_token_s": 0.25,
        "total_s": 0.5,
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "characters": 4,
    }
    return _row(MeasuredAnswer, values, changes)


PROMPTS = [{"id": "greeting", "language": "zh", "category": "understanding", "turns": ["你好"]}]


def prompt_set(**changes: Any) -> PromptSet:
    return _row(PromptSet, {"id": "5" * 64, "name": "five", "prompts": PROMPTS}, changes)


def answer_pack(**changes: Any) -> AnswerPack:
    values = {
        "id": "6" * 64,
        "name": "six",
        "prompt_set": prompt_set(),
        "models": [{"key": "tiny-qwen"}, {"key": "tiny-chatglm"}],
        "made_at": utc_now(),
    }
    return _row(AnswerPack, values, changes)


def packed_answer(**changes: Any) -> PackedAnswer:
    values = {
        "pack_id": "6" * 64,
        "prompt_id": "greeting",
        "position": 1,
        "model_key": "tiny-qwen",
        "text": "你好！",
        "pieces": [[2, 250], [1, 500]],
        "finish_reason": FinishReason.STOP,
        "seed": 2**63 - 1,
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "first_token_s": 0.25,
        "total_s": 0.5,
    }
    return _row(PackedAnswer, values, changes)


def rating_session(**changes: Any) -> RatingSession:
    values = {
        "name": "first",
        "prompt_set": prompt_set(),
        "models": ["tiny-chatglm", "tiny-qwen"],
        "raters_per_prompt": 3,
        "blind": True,
        "results": ResultsRule.OWN_DONE,
        "repeat_share": 0.05,
        "attention_share": 0.1,
        "asks_guess": True,
        "seed": 2**63 - 1,
    }
    return _row(RatingSession, values, changes)


def assignment(**changes: Any) -> Assignment:
    values = {"trial": trial(), "session": rating_session(), "prompt_id": "greeting"}
    return _row(Assignment, values, changes)
