import json
import re
import string
from collections.abc import Mapping
from dataclasses import replace

import pytest

from db import Language
from rating.advice.candidates import Candidate, Ground
from rating.advice.choice import LIMITED, Advice, Limits, State, advise
from rating.advice.reasons import Reason, seconds_text, sentence, share_text
from rating.advice.report import as_json, as_markdown
from rating.advice.situations import SITUATIONS as ARTICLES
from rating.advice.situations import Agreement
from rating.advice.standing import Figure
from rating.advice.texts import NAMES, SENTENCES, SITUATIONS, WORDS, Text
from tests.rating.advice.candidates import CHATGLM, QWEN, article_pair, candidate, rated

CLEAR = [0.7, 0.8, 0.6, 0.9, 0.5, 0.7, 0.8]
UNCLEAR = [0.7, -0.8, 0.6, -0.9, 0.5, -0.4, 0.2]


def placeholders(text: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(text)} - {None}


def every_advice() -> list[Advice]:
    """Advice in which, taken together, every reason occurs."""
    small, large = article_pair()
    better = rated(large, small, CLEAR)
    remote = candidate("a@host", remote=True, peak_bytes=None, n_failed=1, error="it\nbroke | off")
    other = candidate("tiny-qwen", builtin=True, rated_as=frozenset({("1", "int8")}))
    return [
        advise([]),
        advise([Candidate("dead", error="out of memory")]),
        advise([candidate("alpha", peak_bytes=None)], Limits(memory_bytes=1e9)),
        advise([small], Limits(memory_bytes=2e9)),
        advise([small], Limits(memory_bytes=2.2e9)),
        advise([small, Candidate("dead", error="x"), Candidate("later")]),
        advise([small, large]),
        advise([small, small_twin(small)]),
        advise([small, replace(large, others_share=0.4)]),
        advise(better),
        advise(better, Limits(memory_bytes=4e9)),
        advise(better, Limits(memory_bytes=1e6)),
        advise(rated(large, small, UNCLEAR, blind=False)),
        advise(rated(large, small, CLEAR[:3])),
        advise([remote, precise(other)], Limits(memory_bytes=4e9, answer_s=9.0)),
    ]


def small_twin(small: Candidate) -> Candidate:
    return candidate("twin", peak_bytes=small.peak_bytes, first_s=0.9, answer_s=3.03)


def precise(one: Candidate) -> Candidate:
    return candidate(one.model_key, builtin=True, precision="int4", rated_as=one.rated_as)


def test_every_reason_that_can_be_given_has_a_sentence_and_every_sentence_a_reason() -> None:
    given = {
        reason.code
        for advice in every_advice()
        for reason in (*advice.reasons, *(r for f in advice.findings for r in f.reasons))
    }
    assert given == set(SENTENCES)


@pytest.mark.parametrize("language", Language)
def test_every_sentence_is_filled_in_as_a_whole(language: Language) -> None:
    for advice in every_advice():
        for reason in advice.reasons:
            said = sentence(reason, language)
            assert said
            assert not set("{}\n") & set(said)
            assert " None" not in said


@pytest.mark.parametrize("texts", [SENTENCES, NAMES, SITUATIONS, WORDS])
def test_both_languages_have_the_same_to_fill_in(texts: Mapping[str, Text]) -> None:
    for name, (chinese, english) in texts.items():
        assert placeholders(chinese) == placeholders(english), name
        assert english.isascii(), name
        assert not chinese.isascii(), name


def test_every_figure_ground_situation_state_and_agreement_has_its_word() -> None:
    assert {*Figure, *Ground} == set(NAMES)
    assert {situation.key for situation in ARTICLES} == set(SITUATIONS)
    assert {*State, *Agreement} <= set(WORDS)


def test_figures_are_written_with_their_units() -> None:
    reason = Reason.of(
        *("over",), model="alpha", figure="answer", took_s=4.5, limit_s=2, over_share=1.25
    )
    assert sentence(reason, Language.EN) == (
        "alpha is out: time for an answer 4.50 s, 125 % over the limit of 2.00 s."
    )
    assert sentence(reason, Language.ZH) == (
        "alpha 不合格：完整回答时间为 4.50 秒，比限制 2.00 秒 多 125 %。"
    )
    memory = Reason.of(
        *("less",),
        figure="memory",
        model="alpha",
        other="beta",
        took_bytes=2_100_000_000,
        other_took_bytes=6.5e9,
    )
    assert sentence(memory, Language.EN) == "Peak memory: alpha 2.1 GB, beta 6.5 GB."
    assert sentence(memory, Language.ZH) == "峰值内存：alpha 为 2.1 GB，beta 为 6.5 GB。"


def test_seconds_and_shares_keep_the_digits_that_matter() -> None:
    texts = [seconds_text(seconds, Language.EN) for seconds in (0.0104, 0.934, 12.44, 309.7)]
    assert texts == ["0.010 s", "0.93 s", "12.4 s", "310 s"]
    assert [share_text(share) for share in (0.0001, 0.031, 0.0999, 2.25)] == [
        *("0.1 %", "3.1 %", "10 %", "225 %"),
    ]


def test_the_markdown_has_verdict_reasons_models_and_the_articles_advice() -> None:
    small, large = article_pair()
    text = as_markdown(
        advise(rated(large, small, CLEAR), Limits(memory_bytes=4e9, answer_s=60)), Language.EN
    )
    assert text.startswith("## Which model to take\n\n**Take qwen1.5-0.5b-chat: ")
    assert "Limits: peak memory 4.0 GB, time for an answer 60.0 s\n" in text
    assert "\n- chatglm-6b-int4 is out: peak memory 6.5 GB, 62 % over the limit of 4.0 GB." in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    heads, _, first, second, article_heads, _, *situations = rows
    assert heads.split(" | ")[2:5] == [
        *("peak memory", "time to the first token (s)", "time for an answer (s)"),
    ]
    assert first.startswith(f"| {CHATGLM} | no | 6.5 GB | 3.10 ± ")
    assert second.startswith(f"| {QWEN} | yes | 2.1 GB | 0.900 ± ")
    assert len(situations) == len(ARTICLES)
    assert {line.count("|") for line in (article_heads, *situations)} == {7}
    assert situations[0].startswith(
        f"| 4.2 edge device | Qwen1.5-0.5B-Chat | peak memory, size of the files | {QWEN} | agree |"
    )
    assert "ChatGLM-6B (int4) (with a GPU) | naturalness, reasoning" in situations[-1]


def test_the_chinese_markdown_has_no_english_sentence() -> None:
    small, large = article_pair()
    text = as_markdown(advise(rated(large, small, CLEAR), Limits(answer_s=5)), Language.ZH)
    assert "**建议选用 qwen1.5-0.5b-chat：" in text
    for _, english in SENTENCES.values():
        words = re.sub(r"{\w+}", "", english)
        assert words.strip() not in text
    assert "limit" not in text
    assert "| 4.2 边缘设备 |" in text


def test_the_markdown_of_nothing_measured_is_its_verdict_alone() -> None:
    text = as_markdown(advise([]), Language.EN)
    assert text == "## Which model to take\n\n**Nothing has been measured yet. Measure first.**"


def test_what_an_error_says_breaks_no_line_and_no_table() -> None:
    small, _ = article_pair()
    dead = Candidate(CHATGLM, error="it\nbroke | off")
    text = as_markdown(advise([small, dead]), Language.EN)
    assert f"\n- {CHATGLM} gave no answer: it broke | off\n" in text
    row = next(line for line in text.splitlines() if line.startswith("| 4.2 edge device"))
    assert row.endswith("it broke \\| off |")


def test_the_json_has_everything_as_plain_data_without_nan() -> None:
    for advice in every_advice():
        data = json.loads(json.dumps(as_json(advice), allow_nan=False))
        assert set(data) == {"limits", "choice", "reasons", "models", "article", "scatter"}
        assert len(data["article"]) == len(ARTICLES)
        assert [reason["code"] for reason in data["reasons"]] == [
            reason.code for reason in advice.reasons
        ]


def test_the_json_keeps_raw_figures_and_the_sentence_in_both_languages() -> None:
    data = as_json(advise(article_pair(), Limits(memory_bytes=4e9)))
    over = next(reason for reason in data["reasons"] if reason["code"] == "over")
    assert over["details"]["took_bytes"] == 6_500_000_000
    assert over["en"].startswith("chatglm-6b-int4 is out")
    assert over["zh"].startswith("chatglm-6b-int4 不合格")
    model = data["models"][1]
    assert (model["model"], model["state"], model["answer_s"]["n"]) == (QWEN, "fits", 15)
    assert data["limits"] == {"memory_bytes": 4e9, "first_token_s": None, "answer_s": None}
    assert data["article"][0] == {
        "situation": "edge",
        "section": "4.2",
        "takes": "Qwen1.5-0.5B-Chat",
        "gpu": False,
        "supports": QWEN,
        "agreement": "agrees",
        "reasons": data["article"][0]["reasons"],
    }
    assert data["scatter"] == []


def test_limits_are_told_apart_from_what_has_none() -> None:
    text = as_markdown(advise(article_pair()), Language.EN)
    assert "\nLimits: none\n" in text
    assert all(f.value in NAMES for f in LIMITED)
