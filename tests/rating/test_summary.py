import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from db import Database, Dimension, Language, Preference, Score, Side, Trial, TrialState
from db.queries import Filters
from rating import article
from rating.errors import BadFilter
from rating.summary import (
    as_json,
    as_markdown,
    filters_from,
    load_trials,
    scores_frame,
    signed,
    summarise,
    trials_frame,
    two_decimals,
)
from tests.db import rows

TINY = ("tiny-chatglm", "tiny-qwen")
OTHER = ("alpha@host", "beta@host")
NOON = datetime(2026, 2, 28, 12, tzinfo=UTC)


def rated(
    models: tuple[str, str] = TINY,
    *,
    left: int = 0,
    scores: tuple[int | None, int | None] = (4, 2),
    preference: Preference = Preference.TIE,
    prompt: str = "你好",
    prompt_id: str | None = None,
    rated_at: datetime = NOON,
    state: TrialState = TrialState.REVEALED,
    **changes: Any,
) -> Trial:
    """A rated trial of one turn; `scores` are those of `models`, `left` is which one is left."""
    by_side = dict(zip(Side, (models[left], models[1 - left]), strict=True))
    trial = rows.trial(
        pair="|".join(models),
        left_model=by_side[Side.LEFT],
        right_model=by_side[Side.RIGHT],
        state=state,
        flags=[],
        **changes,
    )
    turn = rows.turn(trial=trial, prompt=prompt, prompt_id=prompt_id)
    for side, key in by_side.items():
        rows.answer(turn=turn, side=side, model_key=key)
    rows.rating(
        trial=trial,
        preference=preference,
        rated_at=rated_at,
        scores=[
            Score(side=side, dimension=dimension, score=scores[models.index(key)])
            for side, key in by_side.items()
            for dimension in Dimension
        ],
    )
    return trial


def store(database: Database, *trials: Trial) -> None:
    with database.write() as session:
        session.add_all(trials)


def summary(database: Database, filters: Filters | None = None) -> list[dict[str, Any]]:
    """The pairs of the JSON, read back from its text."""
    data = as_json(summarise(load_trials(database, filters or Filters())))
    pairs: list[dict[str, Any]] = json.loads(json.dumps(data, allow_nan=False))["pairs"]
    return pairs


def test_an_empty_database_has_no_pairs_and_the_article(database: Database) -> None:
    data = as_json(summarise(load_trials(database, Filters())))
    assert json.loads(json.dumps(data)) == {
        "pairs": [],
        "article": {
            "models": ["Qwen1.5-0.5B-Chat", "ChatGLM-6B (int4)"],
            "dimensions": {
                "understanding": [4.0, 4.7],
                "coherence": [3.8, 4.6],
                "memory": [3.5, 4.5],
                "naturalness": [4.0, 4.8],
                "reasoning": [3.2, 4.3],
            },
        },
    }
    assert as_markdown([]) == "No ratings yet."


def test_one_rating_gives_the_figures_of_its_pair(database: Database) -> None:
    store(database, rated(scores=(5, 2), preference=Preference.LEFT))
    (pair,) = summary(database)
    assert pair["models"] == list(TINY)
    assert (pair["n_trials"], pair["n_prompts"]) == (1, 1)
    assert pair["preference"] == {"a": 1, "b": 0, "tie": 0, "both_bad": 0}
    assert set(pair["dimensions"]) == set(Dimension)
    assert pair["dimensions"]["reasoning"] == {
        "n": {"tiny-chatglm": 1, "tiny-qwen": 1},
        "mean": {"tiny-chatglm": 5.0, "tiny-qwen": 2.0},
        "n_ratings": 1,
        "n_prompts": 1,
        "difference": -3.0,
    }


def test_scores_and_preferences_belong_to_the_model_not_to_the_side(database: Database) -> None:
    store(
        database,
        rated(left=0, scores=(5, 1), preference=Preference.LEFT),
        rated(left=1, scores=(3, 1), preference=Preference.RIGHT),
        rated(left=1, scores=(4, 4), preference=Preference.LEFT),
    )
    (pair,) = summary(database)
    assert pair["preference"] == {"a": 2, "b": 1, "tie": 0, "both_bad": 0}
    assert pair["dimensions"]["coherence"]["mean"] == {"tiny-chatglm": 4.0, "tiny-qwen": 2.0}


def test_pairs_never_mix_even_where_they_share_a_model(database: Database) -> None:
    shared = ("alpha@host", "tiny-qwen")
    store(
        database,
        *(rated(scores=(5, 5)) for _ in range(3)),
        *(rated(OTHER, scores=(1, 1)) for _ in range(2)),
        rated(shared, scores=(3, 2)),
    )
    pairs = summary(database)
    assert [tuple(pair["models"]) for pair in pairs] == [TINY, OTHER, shared]
    assert [pair["n_trials"] for pair in pairs] == [3, 2, 1]
    assert pairs[0]["dimensions"]["memory"]["mean"] == {"tiny-chatglm": 5.0, "tiny-qwen": 5.0}
    assert pairs[2]["dimensions"]["memory"]["mean"] == {"alpha@host": 3.0, "tiny-qwen": 2.0}


def test_tiny_models_are_called_what_they_are(database: Database) -> None:
    store(database, rated(), rated(), rated(("alpha@host", "tiny-qwen")), rated(OTHER))
    notes = {tuple(pair["models"]): "note" in pair for pair in summary(database)}
    assert notes == {TINY: True, ("alpha@host", "tiny-qwen"): True, OTHER: False}


def test_not_applicable_on_one_side_leaves_the_other_sides_score(database: Database) -> None:
    store(database, rated(scores=(None, 3)), rated(scores=(5, 4)), rated(scores=(None, None)))
    (pair,) = summary(database)
    figures = pair["dimensions"]["memory"]
    assert figures["n"] == {"tiny-chatglm": 1, "tiny-qwen": 2}
    assert figures["mean"] == {"tiny-chatglm": 5.0, "tiny-qwen": 3.5}
    assert (figures["n_ratings"], figures["difference"]) == (1, -1.0)


def test_a_dimension_that_never_applied_has_no_mean(database: Database) -> None:
    store(database, rated(scores=(None, None)))
    (pair,) = summary(database)
    figures = pair["dimensions"]["memory"]
    assert figures["mean"] == {"tiny-chatglm": None, "tiny-qwen": None}
    assert "| – | 0 | – | 0 | – |" in as_markdown(summarise(load_trials(database, Filters())))


@pytest.mark.parametrize(
    "state", [s for s in TrialState if s not in (TrialState.RATED, TrialState.REVEALED)]
)
def test_only_rated_trials_count(database: Database, state: TrialState) -> None:
    trial = rows.trial(state=state)
    rows.turn(trial=trial)
    store(database, trial)
    assert summary(database) == []


def test_a_rating_counts_before_its_reveal_too(database: Database) -> None:
    store(database, rated(state=TrialState.RATED))
    assert len(summary(database)) == 1


def test_a_prompt_of_a_set_is_known_by_its_id_another_by_its_words(database: Database) -> None:
    store(
        database,
        *(rated(prompt="你好。", prompt_id="hello"), rated(prompt="你好！", prompt_id="hello")),
        *(rated(prompt="再见。"), rated(prompt="再见。"), rated(prompt="再见！")),
    )
    (pair,) = summary(database)
    assert (pair["n_trials"], pair["n_prompts"]) == (5, 3)


def test_filters_choose_pair_mode_and_language(database: Database) -> None:
    store(
        database,
        rated(),
        rated(blind=False),
        rated(language=Language.EN),
        rated(OTHER, blind=False, language=Language.EN),
    )

    def number(filters: Filters) -> int:
        return len(load_trials(database, filters))

    assert number(Filters()) == 4
    assert number(Filters(pair="|".join(OTHER))) == 1
    assert number(Filters(blind=True)) == 2
    assert number(Filters(blind=False)) == 2
    assert number(Filters(language=Language.EN)) == 2
    assert number(Filters(blind=False, language=Language.ZH)) == 1
    assert number(Filters(pair="no|such")) == 0


def test_the_first_moment_is_in_and_the_last_one_out(database: Database) -> None:
    moment = timedelta(microseconds=1)
    store(database, *(rated(rated_at=NOON + n * moment) for n in range(3)))

    def found(since: datetime | None, until: datetime | None) -> int:
        return len(load_trials(database, Filters(since=since, until=until)))

    assert found(NOON, NOON + 2 * moment) == 2
    assert found(NOON + moment, None) == 2
    assert found(None, NOON) == 0
    assert found(NOON, NOON) == 0
    east = datetime.fromisoformat("2026-02-28T20:00:00+08:00")
    assert found(east, None) == 3
    assert found(None, east) == 0


def test_trials_come_newest_first(database: Database) -> None:
    hours = [3, 1, 2]
    store(database, *(rated(prompt=str(h), rated_at=NOON + timedelta(hours=h)) for h in hours))
    trials = load_trials(database, Filters())
    assert [trial.turns[0].prompt for trial in trials] == ["3", "2", "1"]


def test_the_frames_have_a_row_for_each_trial_and_each_score(database: Database) -> None:
    store(database, rated(scores=(None, 3)), rated(OTHER))
    trials = load_trials(database, Filters())
    assert len(trials_frame(trials)) == 2
    scores = scores_frame(trials)
    assert len(scores) == 2 * 2 * 5
    assert scores["score"].dtype == float
    assert scores["score"].isna().sum() == 5


def test_the_markdown_keeps_the_articles_figures_in_columns_of_their_own(
    database: Database,
) -> None:
    store(database, rated(scores=(5, 2), preference=Preference.LEFT))
    text = as_markdown(summarise(load_trials(database, Filters())))
    head, _, first, *_ = (line for line in text.splitlines() if line.startswith("|"))
    assert head.count("|") == first.count("|") == 9
    assert head.split("|")[7].strip() == "ChatGLM-6B (int4) (article)"
    assert [cell.strip() for cell in first.split("|")[1:-1]] == [
        *("Semantic understanding", "5.00", "1", "2.00", "1", "-3.00", "4.7", "4.0"),
    ]
    assert "Preference: tiny-chatglm 1, tiny-qwen 0, tie 0, both bad 0." in text
    assert "no measure of the real ones" in text


@pytest.mark.parametrize(
    ("models", "first"),
    [
        (("tiny-chatglm", "tiny-qwen"), "ChatGLM-6B (int4)"),
        (("Qwen2@x", "glm-4@x"), "Qwen1.5-0.5B-Chat"),
        (("llama@x", "qwen2@x"), "ChatGLM-6B (int4)"),
        (("chatglm@x", "llama@x"), "ChatGLM-6B (int4)"),
        (("llama@x", "phi@x"), "Qwen1.5-0.5B-Chat"),
        (("qwen1.5@x", "qwen2@x"), "Qwen1.5-0.5B-Chat"),
        (("glm-3@x", "glm-4@x"), "Qwen1.5-0.5B-Chat"),
    ],
)
def test_the_articles_column_stands_beside_the_model_of_its_family(
    models: tuple[str, str], first: str
) -> None:
    columns = article.columns_for(models)
    assert columns[0].model == first
    assert {column.model for column in columns} == set(article.MODELS)
    qwen = columns[0] if first.startswith("Qwen") else columns[1]
    assert qwen.scores[Dimension.REASONING] == 3.2


def test_numbers_are_written_with_two_decimals_and_a_sign() -> None:
    assert [two_decimals(value) for value in (4.005, 5.0, None)] == ["4.00", "5.00", "–"]
    assert [signed(value) for value in (1.5, -0.25, 0.0, None)] == ["+1.50", "-0.25", "+0.00", "–"]


def test_blind_and_open_ratings_of_a_pair_are_counted_apart(database: Database) -> None:
    store(database, rated(scores=(5, 1)), rated(scores=(5, 3)))
    store(database, rated(scores=(1, 5), blind=False))
    blind, open_ = as_json(summarise(load_trials(database, Filters())))["pairs"]
    assert (blind["blind"], blind["n_trials"]) == (True, 2)
    assert (open_["blind"], open_["n_trials"]) == (False, 1)
    assert blind["dimensions"]["coherence"]["difference"] == -3
    assert open_["dimensions"]["coherence"]["difference"] == 4


def test_filters_take_in_the_whole_last_day() -> None:
    wanted = filters_from(
        pair="a|b", mode="blind", language="zh", since="2026-02-28", until=" 2026-02-28 "
    )
    assert wanted == Filters(
        pair="a|b",
        blind=True,
        language=Language.ZH,
        since=datetime(2026, 2, 28, tzinfo=UTC),
        until=datetime(2026, 3, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize("nothing", [None, "", "any", [], {}, 5])
def test_what_is_no_choice_is_no_limit(nothing: object) -> None:
    assert filters_from(mode=nothing, language=nothing) == Filters()


@pytest.mark.parametrize("text", ["yesterday", "2026-02-30", "9999-12-31", "28.2.2026", ["x"]])
def test_what_is_no_date_is_refused_with_the_form_to_write(text: object) -> None:
    with pytest.raises(BadFilter, match="2026-02-28"):
        filters_from(until=text)
