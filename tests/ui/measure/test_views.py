"""What the measure page shows of a measurement: figures with their spread, and why some miss."""

import base64
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import plotly.graph_objects as go
import pytest

from backends.measurement import Plan, Resources, Step, TimedAnswer
from backends.resources import Alarm, Kind, Limits, Monitor, ProcessReading, Snapshot
from backends.specs import resolve
from db import Language, MeasurementState
from rating.advice.candidates import Spread, candidates
from rating.advice.choice import Advice, Point, advise, limits_from
from rating.measuring.background import Progress
from rating.measuring.measurements import MeasurementView, PlanView
from tests.ui.conftest import lineup_of_nobody
from tests.ui.measure.measurements import MACHINE
from ui.language import texts_in
from ui.measure import advice_view, charts, views

EN, ZH = texts_in(Language.EN), texts_in(Language.ZH)
PAIR = ("qwen1.5-0.5b-chat", "chatglm-6b-int4")
PROMPTS = Plan(models=()).prompts


def answer(model: str, prompt: int, repeat: int, total_s: float, **more: object) -> TimedAnswer:
    timed = TimedAnswer(
        *(model, prompt, repeat, False, total_s / 4, total_s),
        prompt_tokens=8,
        completion_tokens=31,
        characters=50,
    )
    return replace(timed, **more)  # type: ignore[arg-type]


def view(**more: object) -> MeasurementView:
    """Both of the article's models, each alone; ChatGLM-6B was asked once only."""
    began = datetime(2026, 11, 23, 1, 2, tzinfo=UTC)
    whole = MeasurementView(
        id="m1",
        state=MeasurementState.DONE,
        started_at=began,
        finished_at=began + timedelta(minutes=5),
        error="",
        machine=MACHINE,
        plan=PlanView(PAIR, PROMPTS, repeats=2, together=True),
        models=(
            Resources(
                PAIR[0],
                together=False,
                precision="int8",
                threads=2,
                size_bytes=1_200_000_000,
                peak_bytes=1_500_000_000,
                cold_start_s=18.26,
                warm_start_s=9.1,
                cpu_share=0.87,
                disk_free_bytes=50_000_000_000,
            ),
            Resources(PAIR[1], together=False, peak_bytes=4_600_000_000),
        ),
        answers=(
            answer(PAIR[0], 1, 1, 1.0),
            answer(PAIR[0], 1, 2, 3.0),
            answer(PAIR[1], 1, 1, 4.0),
        ),
    )
    return replace(whole, **more)  # type: ignore[arg-type]


def row(html: str, table: str, name: str) -> list[str]:
    """What the cells of that row say, without their markup."""
    body = html.partition(f'id="{table}"')[2].partition("</table>")[0]
    found = next(row for row in body.split("<tr>") if f">{name}</th>" in row)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", found, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]*>", " ", cell).split()) for cell in cells]


# --- tables ---------------------------------------------------------------------------------------


def test_resources_stand_beside_the_article_s() -> None:
    html = views.results(EN, view())
    table = "tp-resources-alone"
    assert row(html, table, "Peak memory") == ["1.5 GB", "4.6 GB", "&lt; 2.1 GB", "&gt; 6.5 GB"]
    assert row(html, table, "Cold start, once") == ["18.3 s", "–", "12 s", "310 s"]
    assert row(html, table, "Average CPU use while answering") == ["87 %", "–", "65 %", "95-100 %"]
    fits = "Free disk left (article: does it fit on the system disk?)"
    assert row(html, table, fits) == ["50.0 GB", "–", "it fits", EN("fits_disk_not")]
    assert "Qwen1.5-0.5B-Chat (article)" in html


def test_latency_stands_with_its_spread_beside_the_article_s() -> None:
    html = views.results(EN, view())
    table = "tp-latency-alone"
    assert row(html, table, PROMPTS[0]) == [
        "2.00 ± 1.41 1.00–3.00, n 2",
        "4 n 1",
        "1.8",
        "4.7",
    ]
    assert row(html, table, PROMPTS[1]) == ["–", "–", "3.2", "7.9"]
    first = ["0.500 ± 0.354 0.250–0.750, n 2", "1 n 1", "0.9", "3.1"]
    assert row(html, table, "First token (s)") == first
    assert row(html, table, "Tokens a second") == [
        "26.7 ± 18.9 13.3–40.0, n 2",
        "10 n 1",
        *("–", "–"),
    ]
    assert row(html, table, "Answer (tokens)")[0] == "31 n 2"


def test_what_ran_together_has_tables_of_its_own() -> None:
    assert "together" not in views.results(EN, view())
    both = (
        *view().answers,
        answer(PAIR[0], 1, 1, 2.0, together=True),
        answer(PAIR[1], 1, 1, 8.0, together=True),
    )
    html = views.results(EN, view(answers=both))
    assert row(html, "tp-latency-together", PROMPTS[0])[:2] == ["2 n 1", "8 n 1"]
    assert row(html, "tp-latency-alone", PROMPTS[0])[1] == "4 n 1"
    assert "(article, alone)" in html


def test_both_machines_are_named_in_both_languages() -> None:
    for t, ours, theirs in (
        (EN, "Some CPU, 4 usable cores, 8.0 GB of memory", "Ubuntu 20.04, 4 CPU cores, 8 GB"),
        (ZH, "Some CPU，4 个可用核心，8.0 GB 内存", "Ubuntu 20.04，4 个 CPU 核心，8 GB 内存"),
    ):
        html = views.results(t, view())
        assert ours in html
        assert theirs in html
        assert "torch 2.13" in html


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (MeasurementState.RUNNING, "still running"),
        (MeasurementState.DONE, "Complete."),
        (MeasurementState.STOPPED, "stopped before its end"),
        (MeasurementState.FAILED, "It failed"),
    ],
)
def test_how_it_ended_is_said(state: MeasurementState, words: str) -> None:
    html = views.results(EN, view(state=state, error="no <space> left"))
    assert words in html
    assert "no &lt;space&gt; left" in html


def test_each_failure_is_said_of_its_model() -> None:
    failed = answer(PAIR[1], 2, 1, 1.0, error="it <died>")
    taken = (replace(view().models[1], error="out of memory"),)
    html = views.results(EN, view(models=taken, answers=(*view().answers, failed)))
    said = re.sub(r"<[^>]*>", "", html.split(EN("failures_title"))[1])
    assert "ChatGLM-6B (int4) (alone): out of memory" in said
    assert "ChatGLM-6B (int4) (alone), 1 answers: it &lt;died&gt;" in said


def test_a_remote_model_is_said_to_be_measured_for_latency_only() -> None:
    remote = Resources("far@host", together=False, remote=True)
    plan = PlanView(("far@host",), PROMPTS, 2, together=False)
    html = views.results(EN, view(plan=plan, models=(remote,), answers=()))
    assert row(html, "tp-resources-alone", "Runs")[0] == "elsewhere: latency only"


def test_downloads_hold_what_was_measured() -> None:
    html = views.results(EN, view())
    links = re.findall(
        r'<a href="data:([\w/]+);charset=utf-8;base64,([^"]*)" download="([^"]*)"', html
    )
    assert [(kind, name) for kind, _, name in links] == [
        ("text/markdown", "twopane-20261123-0102.md"),
        ("application/json", "twopane-20261123-0102.json"),
    ]
    markdown, plain = (base64.b64decode(data).decode() for _, data, _ in links)
    assert "| 1.5 GB | 4.6 GB |" in markdown
    assert len(json.loads(plain)["answers"]) == 3


# --- progress, what is taken now ------------------------------------------------------------------


def progress(**more: object) -> str:
    plan = Plan((resolve("tiny-qwen"),))
    return views.progress(EN, replace(Progress(plan), **more), "")  # type: ignore[arg-type]


def test_how_far_it_is_says_step_model_and_what_is_done() -> None:
    html = progress(step=Step(4, 16, "answer", "chatglm-6b-int4"), left_s=200.0)
    assert "ChatGLM-6B (int4) · answers" in html
    assert "3 min left" in html
    assert "Step 4 of 16" in html
    assert 'value="0.188"' in html
    assert "All models · answer at the same time" in progress(step=Step(9, 16, "together"))
    assert EN("step_making_room") in progress()
    assert EN("measure_stopping") in progress(stopping=True)


@pytest.mark.parametrize("kind", ["prepare", "cold_start", "warm_start", "answer", "together"])
def test_every_step_has_its_words(kind: str) -> None:
    for t in (EN, ZH):
        assert t(f"step_{kind}")


def test_a_measurement_that_broke_says_so_and_one_that_ended_says_nothing() -> None:
    assert EN("measure_broken") in views.progress(EN, None, "measure_broken")
    assert views.progress(EN, None, "") == ""


class Read(Monitor):
    """A monitor that has read what a test says: a machine can't be told to be full."""

    def __init__(self, *snapshots: Snapshot, limits: Limits | None = None) -> None:
        super().__init__(lineup_of_nobody("a", "b"), limits)
        self.memory_bytes, self.cores = 8_000_000_000, 4
        self._history.extend(snapshots)


def snapshot(*alarms: Alarm, seconds: int = 0) -> Snapshot:
    at = datetime(2026, 11, 23, 1, 2, tzinfo=UTC) + timedelta(seconds=seconds)
    app = ProcessReading("", 1, 200_000_000, 250_000_000, 3.0, None)
    server = ProcessReading("chatglm-6b-int4", 2, 4_000_000_000, 6_000_000_000, 9.0, 0.5)
    return Snapshot((app, server), alarms, at)


def test_what_is_taken_now_is_said_of_each_process_and_of_all() -> None:
    html = views.live(EN, Read(snapshot(), snapshot(seconds=4)))
    words = " ".join(re.sub(r"<[^>]*>", " ", html).split())
    assert "The app 200 MB 250 MB –" in words
    assert "ChatGLM-6B (int4) 4.0 GB 6.0 GB 50 %" in words
    assert "Together 4.2 GB 50 %" in words
    assert "8.0 GB of memory and 4 usable cores" in words
    assert "No alarm is set." in words
    assert "the last 4 s" in words
    memory, cpu = re.findall(r'points="([^"]*)"', html)
    assert memory == "0.0,15.2 160.0,15.2"  # 4.2 of 8 GB: a little above the middle of 32
    assert cpu == "0.0,16.0 160.0,16.0"


def test_alarms_say_what_is_too_much_since_when_and_by_whom() -> None:
    began = datetime(2026, 11, 23, 0, 58, tzinfo=UTC)
    limits = Limits(memory=0.5, cpu=0.4)
    html = views.live(
        EN,
        Read(
            snapshot(
                Alarm(Kind.MEMORY, 0.525, 0.5, "chatglm-6b-int4", 0.5, began),
                Alarm(Kind.CPU, 0.6, 0.4, "", 0.35, began),
            ),
            limits=limits,
        ),
    )
    assert html.count('role="alert"') == 2
    assert "4.2 GB, above the limit of 50 % of the machine, since 00:58 UTC" in html
    assert "Most by ChatGLM-6B (int4): 4.0 GB." in html
    assert "60 % of all cores, above the limit of 40 %" in html
    assert "Most by The app: 35 %." in html
    assert "Alarm above: Memory 50 % · CPU 40 %." in html


def test_nothing_is_said_before_the_first_reading() -> None:
    assert views.live(EN, Read()) == ""


# --- charts ---------------------------------------------------------------------------------------


def names(chart: go.Figure | None) -> list[str]:
    assert chart is not None
    return [trace.name for trace in chart.data]


def test_the_chart_of_latencies_has_spreads_and_the_article_s_bars() -> None:
    chart = charts.latency_chart(EN, view())
    assert names(chart) == [
        "Qwen1.5-0.5B-Chat (alone)",
        "ChatGLM-6B (int4) (alone)",
        "Qwen1.5-0.5B-Chat (article)",
        "ChatGLM-6B (int4) (article)",
    ]
    assert chart is not None
    qwen, _, article, _ = chart.data
    assert list(qwen.y) == [2.0, None, None]
    assert qwen.error_y.array[0] == pytest.approx(2**0.5)
    assert list(article.y) == [1.8, 3.2, 4.1]


def test_the_chart_of_memory_sets_together_beside_alone() -> None:
    together = replace(view().models[0], together=True, peak_bytes=1_600_000_000)
    chart = charts.memory_chart(EN, view(models=(*view().models, together)))
    assert names(chart) == ["alone", "all models running"]
    assert chart is not None
    assert list(chart.data[0].y) == [1.5, 4.6]
    assert list(chart.data[1].x) == ["Qwen1.5-0.5B-Chat"]


def test_the_chart_of_first_tokens_goes_through_the_answers_in_their_order() -> None:
    chart = charts.first_token_chart(EN, view())
    assert chart is not None
    assert [list(trace.y) for trace in chart.data] == [[0.25, 0.75], [1.0]]


def test_the_chart_of_the_choice_shows_memory_as_area() -> None:
    points = [
        Point("a", Spread(2.0, 0.5, 1.5, 2.5, 5), 4.0, 3.5, 4.4, 8, 1_000),
        Point("b", Spread(8.0, None, 8.0, 8.0, 1), 4.6, None, None, 3, 4_000),
    ]
    chart = charts.choice_chart(EN, points)
    assert chart is not None
    first, second = chart.data
    assert (first.marker.size / second.marker.size) ** 2 == pytest.approx(1 / 4)
    assert (first.x[0], first.y[0]) == (2.0, 4.0)
    assert (first.error_y.array[0], first.error_y.arrayminus[0]) == pytest.approx((0.4, 0.5))
    assert second.error_y.visible is False


def test_without_figures_there_is_no_chart() -> None:
    nothing = view(models=(), answers=())
    assert charts.latency_chart(EN, nothing) is None
    assert charts.memory_chart(EN, nothing) is None
    assert charts.first_token_chart(EN, nothing) is None
    assert charts.choice_chart(EN, ()) is None


# --- advice ---------------------------------------------------------------------------------------


def advice(memory_gb: float | None = None) -> Advice:
    return advise(candidates(view().models, view().answers), limits_from(memory_gb=memory_gb))


def test_the_advice_says_which_model_why_and_what_the_article_says() -> None:
    html = advice_view.advice(EN, advice(memory_gb=2))
    verdict = html.split("<strong>")[1].split("</strong>")[0]
    assert verdict.startswith("Take qwen1.5-0.5b-chat")
    assert "ChatGLM-6B (int4) (with a GPU)" in html
    assert EN("no_points") in html
    assert "建议选用 qwen1.5-0.5b-chat" in advice_view.advice(ZH, advice(memory_gb=2))


def test_a_model_that_breaks_a_limit_is_said_to() -> None:
    html = advice_view.advice(EN, advice(memory_gb=2))
    assert "chatglm-6b-int4 is out: peak memory 4.6 GB" in html
