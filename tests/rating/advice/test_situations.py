from dataclasses import replace

import pytest

from rating.advice.candidates import Candidate
from rating.advice.choice import Limits, advise
from rating.advice.situations import SITUATIONS, Agreement, Finding, findings
from tests.rating.advice.candidates import CHATGLM, QWEN, RUNS, article_pair, candidate, rated

CLEAR = [0.7, 0.8, 0.6, 0.9, 0.5, 0.7, 0.8]
BY_FIGURES = [situation.key for situation in SITUATIONS if situation.turns_on]
BY_RATINGS = [situation.key for situation in SITUATIONS if situation.ground]


def found(*measured: Candidate) -> dict[str, Finding]:
    return {finding.situation.key: finding for finding in findings(measured)}


def agreements(*measured: Candidate) -> dict[str, Agreement]:
    return {key: finding.agreement for key, finding in found(*measured).items()}


def test_there_is_a_situation_for_each_that_the_article_advises_on() -> None:
    assert [(s.section, s.key) for s in SITUATIONS] == [
        *(("4.2", key) for key in ("edge", "in_house", "service", "prototype", "dialogue")),
        *(("5.2", key) for key in ("deployment", "tight", "mvp", "complex")),
    ]
    assert {s.key for s in SITUATIONS if s.takes == "ChatGLM-6B (int4)"} == set(BY_RATINGS)
    assert {s.key for s in SITUATIONS if s.gpu} == set(BY_RATINGS)


def test_the_articles_own_figures_and_scores_agree_with_its_advice() -> None:
    small, large = article_pair()
    small, large = rated(small, large, [-value for value in CLEAR])
    results = found(small, large)
    assert {key: f.supports for key, f in results.items()} == {
        **dict.fromkeys(BY_FIGURES, QWEN),
        **dict.fromkeys(BY_RATINGS, CHATGLM),
    }
    assert set(agreements(small, large).values()) == {Agreement.AGREES}


def test_data_that_say_the_opposite_disagree() -> None:
    small, large = article_pair()
    swapped = replace(small, model_key=CHATGLM), replace(large, model_key=QWEN)
    glm, qwen = rated(*swapped, [-value for value in CLEAR])
    assert set(agreements(glm, qwen).values()) == {Agreement.DISAGREES}


def test_without_ratings_the_data_can_not_tell_where_quality_decides() -> None:
    results = agreements(*article_pair())
    assert {results[key] for key in BY_RATINGS} == {Agreement.CANT_TELL}
    assert {results[key] for key in BY_FIGURES} == {Agreement.AGREES}


def test_figures_that_point_both_ways_can_not_tell() -> None:
    small, large = article_pair()
    results = found(small, replace(large, answer_s=dict.fromkeys(RUNS, 0.5)))
    assert results["in_house"].agreement is Agreement.CANT_TELL
    assert results["in_house"].supports is None
    assert [reason.code for reason in results["in_house"].reasons] == ["less", "less"]
    assert results["edge"].agreement is Agreement.AGREES


def test_a_cold_start_that_differs_little_was_measured_too_rarely_to_count() -> None:
    small, large = article_pair()
    near = replace(large, cold_start_s=13.0, warm_start_s=6.5, size_bytes=small.size_bytes)
    assert found(small, near)["prototype"].supports is None


def test_a_cold_start_counts_only_if_the_warm_one_agrees() -> None:
    small, large = article_pair()
    assert found(small, large)["mvp"].supports == QWEN
    late = replace(large, warm_start_s=1.0, answer_s=small.answer_s)
    assert found(small, late)["mvp"].supports is None


@pytest.mark.parametrize("key", BY_FIGURES)
def test_a_model_that_does_not_run_here_loses_where_figures_decide(key: str) -> None:
    results = found(article_pair()[0], Candidate(CHATGLM, error="out of memory"))
    assert (results[key].supports, results[key].agreement) == (QWEN, Agreement.AGREES)
    assert [reason.code for reason in results[key].reasons] == ["failed"]


def test_other_models_are_not_compared_with_the_article_but_with_each_other() -> None:
    small, large = article_pair()
    results = found(replace(small, model_key="phi"), replace(large, model_key="llama"))
    assert {finding.agreement for finding in results.values()} == {Agreement.NOT_COMPARED}
    assert results["edge"].supports == "phi"


def test_the_built_in_pair_is_no_measure_of_the_articles_models() -> None:
    tiny = [candidate(key, builtin=True) for key in ("tiny-qwen", "tiny-chatglm")]
    assert set(agreements(*tiny).values()) == {Agreement.NOT_COMPARED}


def test_one_model_alone_supports_nothing() -> None:
    results = found(article_pair()[0])
    assert {finding.supports for finding in results.values()} == {None}
    assert {f.reasons[0].code for f in results.values()} == {"one_model"}


def test_limits_play_no_part_in_the_articles_situations() -> None:
    pair = article_pair()
    assert advise(pair, Limits(memory_bytes=1e6)).findings == advise(pair).findings
