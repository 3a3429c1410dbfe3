from dataclasses import replace

import pytest

from db import Dimension, Language
from rating.statistics.figures import DimensionFigures, Interval, Verdict, VerdictKind
from rating.statistics.verdicts import p_text, rounded_up, sentence

NAMES = ("Qwen", "ChatGLM")
FIGURES = DimensionFigures(
    n_prompts=48,
    n_ratings=96,
    mean={"one": 3.0, "two": 3.62},
    difference=0.621,
    interval=Interval(0.312, 0.934),
    p=0.0008,
    p_holm=0.0032,
    effect=0.5,
    agreement=None,
    verdict=Verdict(VerdictKind.SECOND_BETTER),
)


def said(
    verdict: Verdict, language: Language = Language.EN, dimension: str = "reasoning", **changes: int
) -> str:
    figures = replace(FIGURES, verdict=verdict, **changes)  # type: ignore[arg-type]
    return sentence(figures, Dimension(dimension), NAMES, language)


def test_who_is_better_is_said_with_how_much_and_how_sure() -> None:
    assert said(Verdict(VerdictKind.SECOND_BETTER)) == (
        "Logical reasoning: ChatGLM is better than Qwen, by 0.62 points on average (95 % interval "
        "0.31 to 0.93; p = 0.004 after correction over the dimensions; 48 prompts)."
    )
    assert said(Verdict(VerdictKind.SECOND_BETTER), Language.ZH) == (
        "逻辑推理能力：ChatGLM 优于 Qwen，平均高 0.62 分（95% 区间 0.31 至 0.93；p = 0.004，"
        "已按各维度校正；48 个问题）。"
    )


def test_it_is_said_from_the_better_model_whichever_that_is() -> None:
    figures = replace(
        FIGURES,
        difference=-0.621,
        interval=Interval(-0.934, 0.004),
        verdict=Verdict(VerdictKind.FIRST_BETTER),
    )
    assert sentence(figures, Dimension.REASONING, NAMES, Language.EN).startswith(
        "Logical reasoning: Qwen is better than ChatGLM, by 0.62 points on average "
        "(95 % interval 0.00 to 0.93;"
    )


@pytest.mark.parametrize(("margin", "text"), [(0.3101, "0.32"), (0.31, "0.31"), (0.5, "0.50")])
def test_a_margin_is_rounded_up(margin: float, text: str) -> None:
    assert said(Verdict(VerdictKind.NO_DIFFERENCE, margin=margin)) == (
        f"Logical reasoning: no difference larger than {text} points between Qwen and ChatGLM "
        "(48 prompts)."
    )


def test_what_is_missing_is_said_with_a_plan_and_in_memory_with_prompts_that_have_it() -> None:
    open_ = Verdict(VerdictKind.UNDECIDED, more_prompts=123)
    assert said(open_) == (
        "Logical reasoning: can't tell yet whether Qwen or ChatGLM is better: about 130 more "
        "prompts (so far 48)."
    )
    assert said(open_, Language.ZH, "memory") == (
        "多轮对话记忆：还看不出 Qwen 与 ChatGLM 哪个更好，大约还需要 130 个多轮问题（已有 48 个）。"
    )


def test_too_few_prompts_and_an_unforeseeable_end_are_said_as_what_they_are() -> None:
    open_ = Verdict(VerdictKind.UNDECIDED)
    assert "it takes at least 6 prompts (so far 5)" in said(open_, n_prompts=5)
    assert "至少要有 6 个问题（已有 5 个）" in said(open_, Language.ZH, n_prompts=5)
    assert "nor how many more prompts it takes (so far 48)" in said(open_)


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("kind", VerdictKind)
@pytest.mark.parametrize("dimension", Dimension)
def test_every_verdict_is_one_sentence_that_names_the_dimension_and_both_models(
    dimension: Dimension, kind: VerdictKind, language: Language
) -> None:
    figures = replace(FIGURES, verdict=Verdict(kind, margin=0.2, more_prompts=7))
    text = sentence(figures, dimension, NAMES, language)
    assert all(name in text for name in NAMES)
    assert text.endswith("." if language is Language.EN else "。")
    assert "{" not in text


def test_without_data_no_number_is_needed() -> None:
    nothing = DimensionFigures(
        *(0, 0, {}, None, None, None, None, None, None, Verdict(VerdictKind.NO_DATA))
    )
    assert sentence(nothing, Dimension.MEMORY, NAMES, Language.EN) == (
        "Multi-turn memory: there are no prompts of several turns yet on which both Qwen and "
        "ChatGLM were scored."
    )


def test_numbers_never_promise_more_than_there_is() -> None:
    assert [p_text(p) for p in (0.00004, 0.0491, 0.05, 0.9999)] == [
        "p < 0.001",
        "p = 0.050",
        "p = 0.050",
        "p = 1.000",
    ]
    assert [rounded_up(n) for n in (1, 19, 99, 101, 123, 1_201)] == [1, 19, 99, 110, 130, 1_300]
