import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from db import Database, Dimension, Language, Preference, Trial, TrialState
from db.queries import Filters
from rating import article
from rating.errors import BadFilter
from rating.summary import as_json, filters_from, signed, summarise, two_decimals
from rating.summary_markdown import as_markdown
from tests.db import rows
from tests.rating.rated import NOON, OTHER, TINY, rated, store


def summary(database: Database, filters: Filters | None = None) -> list[dict[str, Any]]:
    """The pairs of the JSON, read back from its text."""
    data = as_json(summarise(database, filters or Filters()))
    pairs: list[dict[str, Any]] = json.loads(json.dumps(data, allow_nan=False))["pairs"]
    return pairs


def test_an_empty_database_has_no_pairs_and_the_article(database: Database) -> None:
    results = summarise(database, Filters())
    assert json.loads(json.dumps(as_json(results))) == {
        "pairs": [],
        "ranking": [],
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
    assert as_markdown(results) == "No ratings yet."
    assert as_markdown(results, Language.ZH) == "还没有评分。"


def test_one_rating_gives_the_figures_of_its_pair(database: Database) -> None:
    store(database, rated(scores=(5, 2), preference=Preference.LEFT))
    (pair,) = summary(database)
    assert pair["models"] == list(TINY)
    assert (pair["n_trials"], pair["n_prompts"], pair["n_raters"]) == (1, 1, 1)
    preference = pair["preference"]
    assert {key: preference[key] for key in ("a", "b", "tie", "both_bad", "win_rate")} == {
        **{"a": 1, "b": 0, "tie": 0, "both_bad": 0},
        "win_rate": 0.0,
    }
    assert set(pair["dimensions"]) == set(Dimension)
    reasoning = pair["dimensions"]["reasoning"]
    assert reasoning["mean"] == {"tiny-chatglm": 5.0, "tiny-qwen": 2.0}
    assert (reasoning["n_ratings"], reasoning["n_prompts"]) == (1, 1)
    assert reasoning["difference"] == -3.0
    assert reasoning["interval"] is None
    assert reasoning["verdict"]["kind"] == "undecided"
    assert "Logical reasoning" in reasoning["verdict"]["en"]
    assert "逻辑推理能力" in reasoning["verdict"]["zh"]


def test_the_json_has_what_was_agreed_and_nothing_else(database: Database) -> None:
    store(database, *(rated(OTHER, scores=(2, 3 + n % 3), prompt=str(n)) for n in range(8)))
    (pair,) = summary(database)
    assert set(pair) == {
        *("models", "blind", "n_trials", "n_prompts", "n_raters"),
        *("dimensions", "preference", "bias", "excluded", "n_excluded"),
    }
    assert set(pair["dimensions"]["memory"]) == {
        *("n_prompts", "n_ratings", "mean", "difference", "interval", "p", "p_holm", "effect"),
        *("alpha", "alpha_interval", "verdict", "more_prompts"),
    }
    assert set(pair["preference"]) == {
        *("a", "b", "tie", "both_bad", "win_rate", "interval", "p"),
    }
    assert set(pair["bias"]) == {
        *("left_right", "length", "order", "halo", "straight_lined", "guessed_right", "retest"),
    }
    low, high = pair["dimensions"]["memory"]["interval"]
    assert low < pair["dimensions"]["memory"]["difference"] < high


def test_scores_and_preferences_belong_to_the_model_not_to_the_side(database: Database) -> None:
    store(
        database,
        rated(left=0, scores=(5, 1), preference=Preference.LEFT),
        rated(left=1, scores=(3, 1), preference=Preference.RIGHT),
        rated(left=1, scores=(4, 4), preference=Preference.LEFT),
    )
    (pair,) = summary(database)
    assert (pair["preference"]["a"], pair["preference"]["b"]) == (2, 1)
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


def test_not_applicable_on_one_side_leaves_the_trial_out_of_that_dimension(
    database: Database,
) -> None:
    store(database, rated(scores=(None, 3)), rated(scores=(5, 4)), rated(scores=(None, None)))
    (pair,) = summary(database)
    figures = pair["dimensions"]["memory"]
    assert figures["mean"] == {"tiny-chatglm": 5.0, "tiny-qwen": 4.0}
    assert (figures["n_ratings"], figures["difference"]) == (1, -1.0)


def test_a_dimension_that_never_applied_has_no_mean(database: Database) -> None:
    store(database, rated(scores=(None, None)))
    (pair,) = summary(database)
    figures = pair["dimensions"]["memory"]
    assert figures["mean"] == {"tiny-chatglm": None, "tiny-qwen": None}
    assert figures["verdict"]["kind"] == "no_data"
    text = as_markdown(summarise(database, Filters()))
    assert "| Multi-turn memory | – | – | – | – | – | – | 0 (0) |" in text


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
        return sum(pair.n_trials for pair in summarise(database, filters).pairs)

    assert number(Filters()) == 4
    assert number(Filters(pair="|".join(OTHER))) == 1
    assert number(Filters(blind=True)) == 2
    assert number(Filters(blind=False)) == 2
    assert number(Filters(language=Language.EN)) == 2
    assert number(Filters(blind=False, language=Language.ZH)) == 1
    assert number(Filters(pair="no|such")) == 0


def test_raters_of_a_prompt_are_averaged_first(database: Database) -> None:
    store(
        database,
        *(rated(scores=(1, 5), prompt="A") for _ in range(3)),
        rated(scores=(3, 1), prompt="B"),
    )
    (pair,) = summary(database)
    assert pair["dimensions"]["coherence"]["difference"] == (4 + -2) / 2
    assert pair["n_raters"] == 4


def test_attention_trials_and_repeats_count_in_no_figure(database: Database) -> None:
    first = rated(scores=(5, 1))
    again, gold = rated(scores=(1, 5)), rated(scores=(1, 5))
    rated_session = rows.rating_session()
    store(database, first, again, gold)
    store(
        database,
        rows.assignment(trial_id=first.id, session=rated_session),
        rows.assignment(
            trial_id=again.id, session=rated_session, kind="repeat", repeat_of=first.id
        ),
        rows.assignment(trial_id=gold.id, session=rated_session, kind="attention", better="left"),
    )
    (pair,) = summary(database)
    assert pair["n_trials"] == 1
    assert pair["dimensions"]["coherence"]["difference"] == -4
    assert pair["excluded"] == {}


def hasty() -> Trial:
    """A trial that was rated faster than anybody reads."""
    trial = rated(scores=(1, 5), prompt="B", asked_at=NOON - timedelta(seconds=1))
    for answer in trial.turns[0].answers:
        answer.text = "很长的回答" * 100
    return trial


def test_careless_ratings_are_left_out_and_counted_unless_they_are_asked_for(
    database: Database,
) -> None:
    store(database, rated(scores=(5, 1)), hasty())
    (pair,) = summary(database)
    assert (pair["n_trials"], pair["n_excluded"], pair["excluded"]) == (1, 1, {"too_fast": 1})
    assert pair["dimensions"]["coherence"]["difference"] == -4
    everything = summarise(database, Filters(), include_flagged=True)
    assert (everything.pairs[0].n_trials, everything.pairs[0].excluded) == (2, {})
    text = as_markdown(summarise(database, Filters()))
    reason = "rated faster than the answers can be read 1"
    assert f"Left out for signs of careless rating, 1 in all: {reason}" in text


def test_a_rater_s_habits_show_over_all_that_they_rated_whatever_is_asked_for(
    database: Database,
) -> None:
    rater = rows.rater()
    store(
        database,
        *(rated(scores=(3, 3), prompt=str(n), rater=rater) for n in range(6)),
        rated(OTHER, scores=(3, 4), rater=rater),
        *(rated(OTHER, scores=(2, 4), prompt=str(n)) for n in range(3)),
    )
    (pair,) = summary(database, Filters(pair="|".join(OTHER)))
    assert (pair["n_trials"], pair["excluded"]) == (3, {"straight_lined": 1})


def test_three_models_are_ranked_by_their_blind_preferences(database: Database) -> None:
    strong, middle, weak = "a@host", "b@host", "c@host"
    store(
        database,
        *(
            rated(models, scores=(4, 3), preference=Preference.LEFT, prompt=str(n))
            for models in ((strong, middle), (middle, weak), (strong, weak))
            for n in range(6)
        ),
        rated((strong, middle), scores=(1, 5), preference=Preference.RIGHT, prompt="x"),
        rated((middle, weak), scores=(1, 5), preference=Preference.RIGHT, prompt="x"),
        rated((strong, weak), scores=(1, 5), preference=Preference.RIGHT, prompt="x"),
    )
    results = summarise(database, Filters())
    ranking = as_json(results)["ranking"]
    assert [rank["model"] for rank in ranking] == [strong, middle, weak]
    assert set(ranking[0]) == {"model", "strength", "interval", "n"}
    text = as_markdown(results)
    assert text.index("## Ranking") < text.index("| 1 | a@host |") < text.index("| 3 | c@host |")


def test_the_markdown_keeps_the_articles_figures_in_columns_of_their_own(
    database: Database,
) -> None:
    store(database, rated(scores=(5, 2), preference=Preference.LEFT))
    text = as_markdown(summarise(database, Filters()))
    head, _, first, *_ = (line for line in text.splitlines() if line.startswith("|"))
    assert head.count("|") == first.count("|") == 11
    assert head.split("|")[9].strip() == "ChatGLM-6B (int4) (article)"
    assert [cell.strip() for cell in first.split("|")[1:-1]] == [
        *("Semantic understanding", "5.00", "2.00", "-3.00", "1.000", "-1.00", "–", "1 (1)"),
        *("4.7", "4.0"),
    ]
    assert text.index("can't tell yet") < text.index("| dimension |")
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
    blind, open_ = summary(database)
    assert (blind["blind"], blind["n_trials"]) == (True, 2)
    assert (open_["blind"], open_["n_trials"]) == (False, 1)
    assert blind["dimensions"]["coherence"]["difference"] == -3
    assert open_["dimensions"]["coherence"]["difference"] == 4


def test_filters_take_in_the_whole_last_day() -> None:
    wanted = filters_from(
        pair="a|b",
        mode="blind",
        language="zh",
        since="2026-02-28",
        until=" 2026-02-28 ",
        session="5",
    )
    assert wanted == Filters(
        pair="a|b",
        blind=True,
        language=Language.ZH,
        since=datetime(2026, 2, 28, tzinfo=UTC),
        until=datetime(2026, 3, 1, tzinfo=UTC),
        session="5",
    )


@pytest.mark.parametrize("nothing", [None, "", "any", [], {}, 5])
def test_what_is_no_choice_is_no_limit(nothing: object) -> None:
    assert filters_from(mode=nothing, language=nothing) == Filters()


@pytest.mark.parametrize("text", ["yesterday", "2026-02-30", "9999-12-31", "28.2.2026", ["x"]])
def test_what_is_no_date_is_refused_with_the_form_to_write(text: object) -> None:
    with pytest.raises(BadFilter, match="2026-02-28"):
        filters_from(until=text)
