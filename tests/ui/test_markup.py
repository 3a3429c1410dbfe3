"""What the server writes into the page: escaped, complete, and nothing that must stay hidden."""

from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest

from db import Dimension, Language, Preference, Side, TrialState
from rating.trial import (
    AnswerStatus,
    AnswerView,
    Identity,
    RatingView,
    Timing,
    TrialView,
    TurnView,
)
from ui import markup
from ui.language import Texts, texts_in

TIMING = Timing(first_token_s=0.25, total_s=2.25, prompt_tokens=7, completion_tokens=21)
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


class Form(HTMLParser):
    """The inputs of a rating form."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    @property
    def radios(self) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == "input"]

    @property
    def checked(self) -> dict[str | None, str | None]:
        return {attrs["name"]: attrs["value"] for attrs in self.radios if "checked" in attrs}


@pytest.fixture(params=Language)
def t(request: pytest.FixtureRequest) -> Texts:
    return texts_in(request.param)


def trial(turns: int = 1, state: TrialState = TrialState.RATEABLE) -> TrialView:
    answer = AnswerView("好", AnswerStatus.COMPLETE)
    turn = TurnView("问", dict.fromkeys(Side, answer))
    return TrialView(id="a" * 32, state=state, blind=True, turns=(turn,) * turns)


def test_nothing_is_preselected(t: Texts) -> None:
    form = Form(markup.rating_form(t, trial()))
    assert form.checked == {}
    assert len({radio["name"] for radio in form.radios}) == 2 * len(Dimension) + 1


def test_every_score_has_a_name_and_the_anchors_are_written_out(t: Texts) -> None:
    html = markup.rating_form(t, trial())
    form = Form(html)
    names = [r.get("aria-label") for r in form.radios if r["name"] != "preference"]
    assert all(names)
    assert html.count("<li><b>1</b>") == html.count("<li><b>5</b>") == len(Dimension)


def test_after_one_turn_memory_is_only_not_applicable(t: Texts) -> None:
    def possible(turns: int) -> set[str | None]:
        form = Form(markup.rating_form(t, trial(turns)))
        memory = [r for r in form.radios if r["name"] == "left.memory"]
        return {r["value"] for r in memory if "disabled" not in r}

    assert possible(1) == {"na"}
    assert possible(2) == {"1", "2", "3", "4", "5", "na"}


@pytest.mark.parametrize("state", [TrialState.DRAFTING, TrialState.ANSWERING, TrialState.ABANDONED])
def test_the_form_is_locked_unless_the_trial_can_be_rated(t: Texts, state: TrialState) -> None:
    def locked(view: TrialView) -> bool:
        tags = Form(markup.rating_form(t, view)).tags
        return any(tag == "fieldset" and "disabled" in attrs for tag, attrs in tags)

    assert locked(trial(state=state))
    assert not locked(trial())


def test_a_draft_comes_back(t: Texts) -> None:
    draft = {
        "scores": {"left": {"coherence": 3, "memory": "na"}},
        "preference": "tie",
        "comment": "so <b>so</b>",
        "edited_at": 12,
    }
    html = markup.rating_form(t, replace(trial(), draft=draft))
    checked = Form(html).checked
    assert checked == {"left.coherence": "3", "left.memory": "na", "preference": "tie"}
    assert "so &lt;b&gt;so&lt;/b&gt;" in html
    assert 'data-edited-at="12"' in html


@pytest.mark.parametrize(
    "draft",
    [
        {"scores": HOSTILE, "preference": HOSTILE, "comment": [HOSTILE], "edited_at": HOSTILE},
        {"scores": {"left": [HOSTILE], "right": {HOSTILE: HOSTILE}}, "comment": None},
        {"scores": {"left": {"coherence": {"a": 1}}}, "edited_at": True},
        {},
    ],
)
def test_a_broken_draft_does_no_harm(t: Texts, draft: dict[str, object]) -> None:
    html = markup.rating_form(t, replace(trial(), draft=draft))
    assert "<script" not in html
    assert "<img" not in html
    assert Form(html).checked == {}


def test_what_a_model_or_a_rater_wrote_is_escaped_everywhere(t: Texts) -> None:
    rating = RatingView({(s, d): 3 for s in Side for d in Dimension}, Preference.TIE, HOSTILE)
    view = replace(
        trial(state=TrialState.REVEALED),
        rating=rating,
        reveal={side: Identity(HOSTILE, HOSTILE, HOSTILE, masked=True) for side in Side},
    )
    view = view.with_last_answers(
        {side: AnswerView(HOSTILE, AnswerStatus.COMPLETE, timing=TIMING) for side in Side}
    )
    html = markup.reveal(t, view, tiny=False) + markup.rating_form(t, view)
    html += "".join(markup.foot(t, view, side) for side in Side)
    html += markup.suggestions(t, [HOSTILE])
    assert "<script" not in html
    assert "<img" not in html


def test_nothing_is_revealed_before_the_rating(t: Texts) -> None:
    assert markup.reveal(t, trial(), tiny=True) == ""


def test_the_reveal_shows_both_models_and_their_true_timings(t: Texts) -> None:
    rating = RatingView({}, Preference.LEFT, "")
    view = replace(
        trial(turns=2, state=TrialState.REVEALED),
        rating=rating,
        reveal={
            Side.LEFT: Identity("model-a", "rev-a", "float32", masked=True),
            Side.RIGHT: Identity("model-b", "rev-b", "", masked=False),
        },
    )
    view = view.with_last_answers(
        {side: AnswerView("好", AnswerStatus.COMPLETE, timing=TIMING) for side in Side}
    )
    view = replace(view, turns=(view.turns[1], view.turns[1]))
    html = unescape(markup.reveal(t, view, tiny=True))
    for shown in ("model-a", "model-b", "rev-a", "0.25", "2.25", "7 + 21", "10.0", t("unknown")):
        assert shown in html
    assert html.count(t("reveal_masked")) == 1
    assert t("tiny_notice") in html


def test_a_failed_side_says_why(t: Texts) -> None:
    view = trial(state=TrialState.ANSWERING).with_last_answers(
        {Side.LEFT: AnswerView("half", AnswerStatus.FAILED, error="unavailable")}
    )
    assert "tp-bad" in markup.foot(t, view, Side.LEFT)
    assert t("hint_retry") in markup.rating_form(t, view)


def test_live_timing_is_shown_only_where_the_view_has_it(t: Texts) -> None:
    view = trial(state=TrialState.ANSWERING)
    timed = AnswerView("half", AnswerStatus.STREAMING, timing=TIMING)
    streaming = AnswerView("half", AnswerStatus.STREAMING)
    view = view.with_last_answers({Side.LEFT: timed, Side.RIGHT: streaming})
    assert "10.0" in markup.foot(t, view, Side.LEFT)
    assert "tp-timing" not in markup.foot(t, view, Side.RIGHT)


def test_an_answer_from_the_cache_says_so_with_the_speed_of_its_recording(t: Texts) -> None:
    cached = AnswerView("好", AnswerStatus.STREAMING, timing=TIMING, cached=True)
    uncounted = replace(cached, timing=replace(TIMING, completion_tokens=None))
    stopped = AnswerView("好", AnswerStatus.STOPPED, cached=True)
    assert "10.0" in t("cached_rate", rate="10.0")
    for answer, said in (
        (cached, t("cached_rate", rate="10.0")),
        (uncounted, t("cached")),
        (stopped, t("cached")),
    ):
        view = trial(state=TrialState.ANSWERING).with_last_answers({Side.LEFT: answer})
        assert f'<span class="tp-timing">{said}</span>' in markup.foot(t, view, Side.LEFT)
        assert t("cached") not in markup.foot(t, view, Side.RIGHT)


def test_the_reveal_marks_each_answer_that_came_from_the_cache(t: Texts) -> None:
    timed = AnswerView("好", AnswerStatus.COMPLETE, timing=TIMING)
    sides = {side: Identity("model", "rev", "float32", masked=False) for side in Side}
    view = replace(
        trial(state=TrialState.REVEALED), rating=RatingView({}, Preference.TIE, ""), reveal=sides
    )
    neither = view.with_last_answers(dict.fromkeys(Side, timed))
    right = neither.with_last_answers({Side.RIGHT: replace(timed, cached=True)})
    both = view.with_last_answers(dict.fromkeys(Side, replace(timed, cached=True)))
    mark = t("reveal_cached")
    marks = [markup.reveal(t, each, tiny=False).count(mark) for each in (neither, right, both)]
    assert marks == [0, 1, 2]
    row = markup.reveal(t, right, tiny=False).partition(t("first_token"))[2].partition("</tr>")[0]
    assert [mark in cell for cell in row.split("</td>")[:2]] == [False, True]
    assert t("cached") not in markup.foot(t, both, Side.LEFT)  # the table says it


@pytest.mark.parametrize(
    ("state", "hint"),
    [
        (TrialState.RATEABLE, "hint_other_pair"),
        (TrialState.ANSWERING, "hint_other_pair_unfinished"),
    ],
)
def test_a_trial_whose_models_are_gone_says_what_can_still_be_done(
    t: Texts, state: TrialState, hint: str
) -> None:
    assert t(hint) not in unescape(markup.rating_form(t, trial(state=state)))
    assert t(hint) in unescape(
        markup.rating_form(t, replace(trial(state=state), other_models=True))
    )
