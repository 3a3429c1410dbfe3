"""A small answer pack: two prompts of three turns together, an attention item, two models."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from backends.catalog import MODELS
from db import Dimension, FinishReason, Language
from rating.packs.pack import AnswerEntry, Header, Key, MachineEntry, ModelEntry, Pack, wanted
from rating.prompt_sets import Gold, Prompt, PromptSet

SET = PromptSet(
    "Small",
    (
        Prompt(
            id="color",
            language=Language.ZH,
            category=Dimension.MEMORY,
            turns=("我爱蓝。", "哪种？"),
        ),
        Prompt(id="sum", language=Language.EN, category=Dimension.REASONING, turns=("2 + 3?",)),
        Prompt(
            id="gold",
            language=Language.EN,
            category=Dimension.REASONING,
            turns=("1 + 1?",),
            gold=Gold(better=("2",), worse=("It is three, since 1 + 1 = 4.",)),
        ),
    ),
)
MACHINE = MachineEntry(
    cpu="a CPU", cores=2, memory_bytes=8_000_000_000, system="Linux", versions={"Python": "3.11"}
)


def model_entry(name: str, **changes: Any) -> ModelEntry:
    model = replace(MODELS[name], revision=f"revision-of-{name}")
    return ModelEntry.of(model, "float32").model_copy(update=changes)


def answer(key: Key, **changes: Any) -> AnswerEntry:
    """An answer in two pieces, 10 and 20 ms after its question."""
    text = f"{key[0]} {key[1]}，{key[2]}"
    values: dict[str, Any] = {
        "prompt_id": key[0],
        "position": key[1],
        "model": key[2],
        "text": text,
        "pieces": ((1, 10), (len(text) - 1, 20)),
        "finish_reason": FinishReason.STOP,
        "seed": 7,
        "prompt_tokens": 12,
        "completion_tokens": 2,
        "first_token_s": 0.01,
        "total_s": 0.0205,
    }
    return AnswerEntry.model_validate(values | changes)


def pack(**changes: Any) -> Pack:
    models = (model_entry("tiny-qwen"), model_entry("tiny-chatglm"))
    header = Header(models=models, machine=MACHINE, made_at=datetime(2026, 11, 29, tzinfo=UTC))
    answers = tuple(map(answer, wanted(SET, [model.key for model in models])))
    return replace(Pack(SET, header, answers), **changes)
