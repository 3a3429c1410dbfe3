"""The tables of a measurement: every mean with its spread, the article's figures kept apart."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from backends.measurement import ARTICLE_PROMPTS, Machine, Resources, TimedAnswer
from db import MeasurementState
from rating import article
from rating.advice.candidates import Spread
from rating.measuring.figures import (
    ALL_PROMPTS,
    FIGURES,
    Failure,
    answers_frame,
    as_json,
    builtin_models,
    exit_code,
    failures,
    latency_frame,
    resources_frame,
    spreads,
    tokens_per_s,
)
from rating.measuring.measurements import MeasurementView, PlanView
from rating.measuring.report import as_markdown, number_text, spread_text

QWEN, GLM = "qwen1.5-0.5b-chat", "chatglm-6b-int4"
MACHINE = Machine("Zen 5", 2, 8_000_000_000, "Linux 6.1", {"Python": "3.11.9", "torch": "2.13.0"})
NOON = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
TAKEN = Resources(
    QWEN,
    together=False,
    revision="4d14e384a4b037942bb3f3016665157c8bcb70ea",
    precision="int8",
    threads=2,
    size_bytes=1_239_173_352,
    peak_bytes=1_480_000_000,
    cold_start_s=9.87,
    warm_start_s=4.32,
    cpu_share=0.934,
    disk_free_bytes=52_000_000_000,
)


def answer(
    prompt: int = 1, repeat: int = 1, total_s: float | None = 3.0, **changes: Any
) -> TimedAnswer:
    values: dict[str, Any] = {
        "model_key": QWEN,
        "together": False,
        "first_token_s": 1.0,
        "prompt_tokens": 12,
        "completion_tokens": 21,
        "characters": 30,
    }
    return TimedAnswer(prompt=prompt, repeat=repeat, total_s=total_s, **values | changes)


def failed(reason: str, **changes: Any) -> TimedAnswer:
    values: dict[str, Any] = {"model_key": QWEN, "prompt": 1, "repeat": 9, "together": False}
    return TimedAnswer(**values | {"error": reason} | changes)


def view(
    answers: Sequence[TimedAnswer] = (),
    models: Sequence[Resources] = (TAKEN,),
    *,
    keys: Sequence[str] = (QWEN, GLM),
    prompts: Sequence[str] = ARTICLE_PROMPTS,
    state: MeasurementState = MeasurementState.DONE,
    error: str = "",
) -> MeasurementView:
    plan = PlanView(tuple(keys), tuple(prompts), 5, together=True)
    return MeasurementView(
        "f" * 32, state, NOON, NOON, error, MACHINE, plan, tuple(models), tuple(answers)
    )


def table(text: str, title: str) -> list[list[str]]:
    """The cells of the Markdown table below the heading that begins so, its head first."""
    section = text.partition(f"## {title}")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert set(rows[1]) == {"|", "-", " "}
    cells = [[cell.strip() for cell in row[1:-1].split(" | ")] for row in (rows[0], *rows[2:])]
    assert {len(row) for row in cells} == {len(cells[0])}
    return cells


def test_a_figure_is_the_mean_with_its_spread_and_number() -> None:
    times = [1.5, 2.0, 4.0, 2.25, 1.75]
    found = spreads(view([answer(repeat=n, total_s=s) for n, s in enumerate(times, start=1)]))
    assert found[QWEN, False, 1, "total_s"] == Spread(
        mean=2.3, sd=statistics.stdev(times), low=1.5, high=4.0, n=5
    )
    assert found[QWEN, False, 1, "prompt_tokens"] == Spread(12, 0, 12, 12, 5)


def test_prompts_models_and_conditions_are_kept_apart_and_all_prompts_added() -> None:
    found = spreads(
        view(
            [
                answer(1, total_s=1.5),
                answer(2, total_s=2.5),
                answer(1, total_s=7.0, model_key=GLM),
                answer(1, total_s=9.0, together=True),
            ]
        )
    )
    totals = {of[:3]: (s.mean, s.n) for of, s in found.items() if of[3] == "total_s"}
    assert totals == {
        (QWEN, False, 1): (1.5, 1),
        (QWEN, False, 2): (2.5, 1),
        (QWEN, False, ALL_PROMPTS): (2.0, 2),
        (GLM, False, 1): (7.0, 1),
        (GLM, False, ALL_PROMPTS): (7.0, 1),
        (QWEN, True, 1): (9.0, 1),
        (QWEN, True, ALL_PROMPTS): (9.0, 1),
    }


def test_one_answer_has_no_spread() -> None:
    assert spreads(view([answer()]))[QWEN, False, 1, "total_s"].sd is None


def test_a_failed_answer_counts_in_no_figure() -> None:
    found = spreads(view([answer(), failed("It died.", first_token_s=0.1, characters=5)]))
    assert {spread.n for spread in found.values()} == {1}


def test_speed_is_counted_from_the_first_token_on() -> None:
    assert tokens_per_s(answer(total_s=3.0, first_token_s=1.0, completion_tokens=21)) == 10.0


@pytest.mark.parametrize(
    "unknown",
    [
        {"completion_tokens": None},
        {"first_token_s": None},
        {"total_s": None},
        {"completion_tokens": 1},
        {"completion_tokens": 0},
        {"first_token_s": 3.0},
    ],
)
def test_a_speed_that_can_not_be_told_is_none(unknown: dict[str, Any]) -> None:
    one = replace(answer(), **unknown)
    assert tokens_per_s(one) is None
    assert (QWEN, False, 1, "tokens_per_s") not in spreads(view([one]))


def test_the_frames_have_a_row_for_each_figure_answer_and_model() -> None:
    one = view([answer(), answer(2, 1), failed("It died.")], [TAKEN, replace(TAKEN, together=True)])
    latency = latency_frame(one)
    assert len(latency) == 3 * len(FIGURES)  # two prompts, and both
    assert latency["sd"].isna().sum() == 2 * len(FIGURES)
    of_all = latency[(latency["prompt"] == ALL_PROMPTS) & (latency["figure"] == "total_s")]
    assert of_all[["mean", "low", "high", "n"]].values.tolist() == [[3.0, 3.0, 3.0, 2]]
    answers = answers_frame(one)
    assert answers["text"].tolist() == [*ARTICLE_PROMPTS[:2], ARTICLE_PROMPTS[0]]
    assert answers["total_s"].isna().tolist() == [False, False, True]
    resources = resources_frame(one)
    assert resources["together"].tolist() == [False, True]
    assert resources["peak_bytes"].tolist() == [1_480_000_000] * 2


def test_the_frames_of_nothing_are_empty() -> None:
    nothing = view([], [])
    frames = [frame(nothing) for frame in (latency_frame, answers_frame, resources_frame)]
    assert [len(frame) for frame in frames] == [0, 0, 0]
    assert latency_frame(nothing)["mean"].dtype == float


def test_the_resources_stand_beside_the_articles() -> None:
    rows = table(as_markdown(view()), "Resources, alone")
    assert rows[0] == ["", QWEN, "Qwen1.5-0.5B-Chat (article)"]
    assert rows[1:] == [
        ["model size on disk", "1.2 GB", "~1.1 GB"],
        ["peak memory", "1.5 GB", "< 2.1 GB"],
        ["cold start, once", "9.87 s", "12 s"],
        ["warm start, once", "4.32 s", "–"],
        ["average CPU use while answering", "93 %", "65 %"],
        ["free disk left (the article: does it fit on the system disk?)", "52.0 GB", "yes"],
        ["precision", "int8", "–"],
        ["threads", "2", "–"],
        ["revision", "4d14e384a4b03794", "–"],
        ["runs", "on this machine", "–"],
    ]


def test_the_times_stand_beside_the_articles_for_its_own_prompts_only() -> None:
    prompts = (ARTICLE_PROMPTS[1], "Hi | there\nyou")
    answers = [
        *(answer(1, n, total_s) for n, total_s in enumerate((2.5, 3.5), start=1)),
        answer(2, total_s=1.25, first_token_s=0.25),
        answer(1, total_s=30.0, model_key=GLM),
    ]
    rows = table(as_markdown(view(answers, prompts=prompts)), "Seconds for an answer, alone")
    assert rows[0] == [
        *("prompt", QWEN, GLM, "Qwen1.5-0.5B-Chat (article)", "ChatGLM-6B (int4) (article)")
    ]
    assert rows[1:4] == [
        [prompts[0], "3.00 ± 0.71 (2.50–3.50, n 2)", "30 (n 1)", "3.2", "7.9"],
        ["Hi \\| there you", "1.25 (n 1)", "–", "–", "–"],
        ["first token, all prompts", "0.750 ± 0.433 (0.250–1.000, n 3)", "1 (n 1)", "0.9", "3.1"],
    ]
    assert rows[4][0] == "tokens a second, all prompts"
    assert rows[4][3:] == ["–", "–"]


def test_each_prompt_has_a_row_with_every_figure() -> None:
    answers = [answer(), answer(3, model_key=GLM, prompt_tokens=None)]
    rows = table(as_markdown(view(answers)), "Each prompt, alone")
    assert rows[1:] == [
        [QWEN, ARTICLE_PROMPTS[0], *(f"{n} (n 1)" for n in (3, 1, 10, 12, 21, 30))],
        [GLM, ARTICLE_PROMPTS[2], *("3 (n 1)", "1 (n 1)", "10 (n 1)", "–", "21 (n 1)", "30 (n 1)")],
    ]


def test_what_was_measured_together_has_tables_of_its_own() -> None:
    beside = replace(TAKEN, together=True, peak_bytes=1_600_000_000, cold_start_s=None)
    text = as_markdown(view([answer(), answer(together=True, total_s=4.0)], [TAKEN, beside]))
    rows = table(text, "Resources, with all models running")
    assert rows[0][2] == "Qwen1.5-0.5B-Chat (article, alone)"
    assert ["peak memory", "1.6 GB", "< 2.1 GB"] in rows
    assert "cold start, once" not in {row[0] for row in rows}
    assert table(text, "Seconds for an answer, with all models running")[1][1] == "4 (n 1)"
    assert table(text, "Seconds for an answer, alone")[1][1] == "3 (n 1)"


def test_a_measurement_of_models_alone_says_nothing_of_them_together() -> None:
    assert "with all models running" not in as_markdown(view([answer()]))


def test_the_machines_time_versions_and_plan_are_said() -> None:
    head = as_markdown(view()).partition("\n## ")[0]
    for words in (
        *("2026-11-23 12:30 UTC", "Zen 5, 2 usable cores, 8.0 GB of memory", "Linux 6.1"),
        *(
            "Python 3.11.9, torch 2.13.0",
            "Ubuntu 20.04, 4 CPU cores, 8 GB",
            "of each prompt: 5 times",
        ),
        "State: complete.",
    ):
        assert words in head


def test_each_reason_is_said_once_with_how_many_answers_it_cost() -> None:
    dead = Resources(GLM, together=False, error="It can't be started: was ended by SIGKILL.")
    short = replace(TAKEN, error="2 of 5 answers failed. It died.")
    one = view(
        [answer(), failed("It died."), failed("It died."), failed("No | answer.", together=True)],
        [short, dead],
    )
    assert failures(one) == [
        Failure(QWEN, False, 0, "2 of 5 answers failed. It died."),
        Failure(GLM, False, 0, dead.error),
        Failure(QWEN, True, 1, "No | answer."),
    ]
    text = as_markdown(one)
    assert table(text, "What is missing, and why")[1:] == [
        [QWEN, "alone", "the model", "2 of 5 answers failed. It died."],
        [GLM, "alone", "the model", dead.error],
        [QWEN, "with all models running", "1 answers", "No \\| answer."],
    ]
    assert ["peak memory", "1.5 GB", "–", "< 2.1 GB", "> 6.5 GB"] in table(text, "Resources, alone")


def test_a_remote_model_is_said_to_be_measured_for_latency_only() -> None:
    remote = Resources("llama3@host:11434", together=False, remote=True)
    rows = table(as_markdown(view([], [remote], keys=[remote.model_key])), "Resources, alone")
    assert [row[:2] for row in rows[1:]] == [["runs", "elsewhere: latency only"]]


@pytest.mark.parametrize(
    ("state", "error", "said"),
    [
        (MeasurementState.STOPPED, "", "State: stopped before its end; the figures until then."),
        (MeasurementState.FAILED, "interrupted", "State: failed; the figures until then: interr"),
        (MeasurementState.RUNNING, "", "State: still running; the figures so far."),
    ],
)
def test_a_measurement_that_is_not_complete_says_so(
    state: MeasurementState, error: str, said: str
) -> None:
    one = view([answer()], state=state, error=error)
    assert said in as_markdown(one)
    assert as_json(one)["state"] == state.value
    assert as_json(one)["error"] == error


def test_tiny_models_are_called_what_they_are() -> None:
    tiny = view(keys=("tiny-qwen", GLM))
    assert builtin_models(tiny) == ("tiny-qwen",)
    assert "- tiny-qwen: tiny built-in models for trying the panel, no measure" in as_markdown(tiny)
    assert as_json(tiny)["builtin"] == ["tiny-qwen"]
    assert "no measure of the real ones" in as_json(tiny)["note"]
    assert "tiny" not in as_markdown(view())
    assert "note" not in as_json(view())


def test_the_json_holds_every_answer_and_every_figure() -> None:
    one = view([answer(), answer(repeat=2, total_s=5.0), failed("It died.")], [TAKEN])
    data = json.loads(json.dumps(as_json(one), allow_nan=False))
    assert data["machine"]["versions"] == {"Python": "3.11.9", "torch": "2.13.0"}
    assert data["plan"]["prompts"] == list(ARTICLE_PROMPTS)
    assert data["started_at"] == data["finished_at"] == "2026-11-23T12:30:00+00:00"
    assert data["resources"][0]["peak_bytes"] == 1_480_000_000
    assert [row["error"] for row in data["answers"]] == ["", "", "It died."]
    assert [row["tokens_per_s"] for row in data["answers"]] == [10.0, 5.0, None]
    (total,) = (row for row in data["latency"] if row["figure"] == "total_s" and row["prompt"] == 1)
    assert total == {
        "model": QWEN,
        "together": False,
        "prompt": 1,
        "figure": "total_s",
        "mean": 4.0,
        "sd": statistics.stdev([3.0, 5.0]),
        "low": 3.0,
        "high": 5.0,
        "n": 2,
    }
    assert data["failures"] == [
        {"model": QWEN, "together": False, "answers": 1, "reason": "It died."}
    ]


def test_the_json_holds_the_articles_figures_and_hardware() -> None:
    published = json.loads(json.dumps(as_json(view())))["article"]
    assert "Ubuntu 20.04, 4 CPU cores, 8 GB" in published["hardware"]
    qwen, chatglm = published["models"]
    assert qwen["model"] == "Qwen1.5-0.5B-Chat"
    assert list(qwen["latency_s"].values()) == [1.8, 3.2, 4.1]
    assert chatglm["resources"] == {
        "size_bytes": "~3.8 GB",
        "peak_bytes": "> 6.5 GB",
        "cold_start_s": 310.0,
        "cpu_share": "95-100 %",
        "fits_on_disk": "no (risk of running out)",
    }
    assert chatglm["first_token_s"] == 3.1


@pytest.mark.parametrize(
    ("models", "columns"),
    [
        ((QWEN, GLM), [0, 1]),
        (("tiny-chatglm", "tiny-qwen"), [1, 0]),
        (("Qwen2@x", "qwen2.5@x"), [0]),
        (("llama@x", "glm-4@x", "Qwen2@x", "glm-3@x"), [1, 0]),
        (("llama@x",), [0, 1]),
    ],
)
def test_the_articles_columns_are_those_of_the_models_families_in_their_order(
    models: tuple[str, ...], columns: list[int]
) -> None:
    expected = [article.MODELS[index] for index in columns]
    assert [one.model for one in article.references_beside(models)] == expected


@pytest.mark.parametrize(
    ("state", "answers", "code"),
    [
        (MeasurementState.DONE, [answer()], 0),
        (MeasurementState.DONE, [failed("It died.")], 1),
        (MeasurementState.FAILED, [answer()], 1),
        (MeasurementState.STOPPED, [answer()], 130),
        (MeasurementState.STOPPED, [], 130),
    ],
)
def test_a_command_ends_well_only_with_figures(
    state: MeasurementState, answers: list[TimedAnswer], code: int
) -> None:
    assert exit_code(view(answers, state=state)) == code


def test_numbers_are_written_with_three_digits_that_count() -> None:
    numbers = (0.0213, 1.234, 12.34, 123.4, 310.0, 0.0)
    assert [number_text(value) for value in numbers] == [
        *("0.021", "1.23", "12.3", "123", "310", "0")
    ]
    assert spread_text(None) == "–"
    assert spread_text(Spread.of([1.79, 1.9, 1.8])) == "1.83 ± 0.06 (1.79–1.90, n 3)"
    assert spread_text(Spread.of([12, 13])) == "12.5 ± 0.7 (12.0–13.0, n 2)"
    assert spread_text(Spread.of([12, 12])) == "12 (n 2)"


@pytest.mark.parametrize(
    ("changes", "credible"),
    [
        ({}, True),
        ({"total_s": 0.253}, False),
        ({"characters": 1, "completion_tokens": 2_000_000_000}, False),
    ],
)
def test_a_burst_or_a_count_that_can_not_be_gives_no_tokens_a_second(
    changes: dict[str, Any], credible: bool
) -> None:
    answer = TimedAnswer(
        *("tiny-qwen", 1, 1, False),
        **{"first_token_s": 0.25, "total_s": 0.5, "prompt_tokens": 5}
        | {"completion_tokens": 11, "characters": 20}
        | changes,
    )
    assert (tokens_per_s(answer) is not None) is credible
