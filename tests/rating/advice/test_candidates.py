from collections.abc import Sequence

import pytest

from backends.measurement import Resources, TimedAnswer
from db import Database, Dimension, Preference, Score, Side, Trial
from db.queries import Filters
from rating.advice.candidates import Candidate, Ground, Ratings, Spread, candidates
from rating.advice.choice import advise
from tests.db import rows

TINY = ("tiny-chatglm", "tiny-qwen")
Scores = tuple[int | None, int | None]


def answer(key: str = "alpha", prompt: int = 1, repeat: int = 1, **changes: object) -> TimedAnswer:
    values: dict[str, object] = {"together": False, "first_token_s": 0.5, "total_s": 2.0}
    return TimedAnswer(key, prompt, repeat, **values | changes)  # type: ignore[arg-type]


def rated(
    scores: dict[Dimension, Scores] | Scores,
    prompt: str = "你好",
    *,
    models: tuple[str, str] = TINY,
    left: int = 0,
    blind: bool = True,
    precision: str = "float32",
) -> Trial:
    """A rated trial; scores are those of `models`, `left` is which of them is on the left."""
    given = scores if isinstance(scores, dict) else dict.fromkeys(Dimension, scores)
    by_side = {Side.LEFT: left, Side.RIGHT: 1 - left}
    trial = rows.trial(
        pair="|".join(models),
        left_model=models[left],
        right_model=models[1 - left],
        blind=blind,
        state="revealed",
        flags=[],
    )
    turn = rows.turn(trial=trial, prompt=prompt)
    for side, index in by_side.items():
        rows.answer(turn=turn, side=side, model_key=models[index], precision=precision)
    rows.rating(
        trial=trial,
        preference=Preference.TIE,
        scores=[
            Score(side=side, dimension=key, score=given.get(key, (None, None))[index])
            for side, index in by_side.items()
            for key in Dimension
        ],
    )
    return trial


def known(
    database: Database, trials: Sequence[Trial], keys: Sequence[str] = TINY
) -> dict[str, Candidate]:
    """The candidates of these keys once the trials went through the database."""
    with database.write() as session:
        session.add_all(trials)
    found = candidates(
        [Resources(key, together=False) for key in keys],
        [answer(key) for key in keys],
        Ratings.of(database, keys, Filters()),
    )
    return {one.model_key: one for one in found}


# --- measured -------------------------------------------------------------------------------------


def test_a_candidate_has_what_was_measured_of_it_alone() -> None:
    alone = Resources("alpha", together=False, peak_bytes=7, cold_start_s=3.0, warm_start_s=1.0)
    beside = Resources("alpha", together=True, peak_bytes=9)
    answers = [
        answer(prompt=1, total_s=2.0),
        answer(prompt=2, repeat=5, total_s=4.0, first_token_s=None),
        answer(prompt=1, together=True, total_s=99.0),
    ]
    (one,) = candidates([alone, beside], answers)
    assert (one.peak_bytes, one.cold_start_s, one.warm_start_s) == (7, 3.0, 1.0)
    assert one.answer_s == {(1, 1): 2.0, (2, 5): 4.0}
    assert one.first_token_s == {(1, 1): 0.5}


def test_a_failed_answer_counts_as_failed_and_gives_no_time() -> None:
    answers = [answer(), answer(repeat=2, first_token_s=None, total_s=None, error="timeout")]
    (one,) = candidates([Resources("alpha", together=False)], answers)
    assert (one.n_failed, one.error, one.failed) == (1, "timeout", False)
    assert list(one.answer_s) == [(1, 1)]


@pytest.mark.parametrize(
    ("error", "answers"),
    [
        ("out of memory", []),
        ("", [answer(first_token_s=None, total_s=None, error="timeout")]),
        ("died", [answer(first_token_s=0.5, total_s=3.0, error="died")]),
    ],
)
def test_a_model_without_a_whole_answer_has_failed(error: str, answers: list[TimedAnswer]) -> None:
    (one,) = candidates([Resources("alpha", together=False, error=error)], answers)
    assert one.failed
    assert one.error == (error or "timeout")


def test_a_model_that_was_not_reached_has_not_failed() -> None:
    (one,) = candidates([Resources("alpha", together=False)], [])
    assert not one.failed


def test_what_a_remote_model_seems_to_take_is_not_taken_here() -> None:
    taken = Resources("a@host", together=False, remote=True, peak_bytes=5, size_bytes=5)
    (one,) = candidates([taken], [answer("a@host")])
    assert (one.remote, one.peak_bytes, one.size_bytes) == (True, None, None)


def test_candidates_come_in_the_order_of_their_keys_and_know_if_they_are_built_in() -> None:
    found = candidates(
        [Resources(key, together=False) for key in ("tiny-qwen", "alpha")], [answer("beta")]
    )
    assert [one.model_key for one in found] == ["alpha", "beta", "tiny-qwen"]
    assert [one.builtin for one in found] == [False, False, True]


def test_a_spread_has_its_deviation_only_where_there_are_two_values() -> None:
    assert Spread.of([]) is None
    assert Spread.of([2.0]) == Spread(2.0, None, 2.0, 2.0, 1)
    assert Spread.of([1.0, 2.0, 3.0]) == Spread(2.0, 1.0, 1.0, 3.0, 3)


# --- rated ----------------------------------------------------------------------------------------


def test_raters_of_one_prompt_count_as_one(database: Database) -> None:
    """Three raters of one prompt are not three times the evidence."""
    trials = [*(rated((5, 1), "one") for _ in range(3)), rated((2, 2), "two")]
    found = known(database, trials)["tiny-chatglm"].against["tiny-qwen"]
    difference = found.difference[Ground.ALL]
    assert (difference.mean, difference.n, found.n_ratings) == (2.0, 2, 4)


def test_many_ratings_of_one_prompt_decide_nothing(database: Database) -> None:
    found = known(database, [rated((5, 1)) for _ in range(12)])
    assert found["tiny-chatglm"].against["tiny-qwen"].difference[Ground.ALL].sign == 0


def test_both_models_know_the_same_difference_from_their_own_side(database: Database) -> None:
    found = known(database, [rated((4, 3), str(n), left=n % 2) for n in range(8)])
    here = found["tiny-chatglm"].against["tiny-qwen"].difference[Ground.ALL]
    there = found["tiny-qwen"].against["tiny-chatglm"].difference[Ground.ALL]
    assert (here.mean, here.sign) == (1.0, 1)
    assert there == -here


def test_each_ground_has_its_own_dimensions(database: Database) -> None:
    scores: dict[Dimension, Scores] = {
        Dimension.UNDERSTANDING: (3, 2),
        Dimension.COHERENCE: (3, 2),
        Dimension.NATURALNESS: (1, 4),
        Dimension.REASONING: (2, 4),
    }
    found = known(database, [rated(scores)])["tiny-chatglm"].against["tiny-qwen"].difference
    assert found[Ground.DIALOGUE].mean == 1.0
    assert found[Ground.LANGUAGE].mean == -2.5
    assert found[Ground.ALL].mean == -0.75


def test_a_ground_that_was_never_scored_on_both_sides_is_left_out(database: Database) -> None:
    scores: dict[Dimension, Scores] = {
        Dimension.MEMORY: (5, None),
        Dimension.REASONING: (3, 3),
    }
    found = known(database, [rated(scores)])["tiny-chatglm"].against["tiny-qwen"].difference
    assert set(found) == {Ground.ALL, Ground.LANGUAGE}


def test_quality_is_the_mean_over_prompts_of_its_own_scores(database: Database) -> None:
    trials = [rated((5, 1), "one"), rated((3, 1), "one"), rated((2, 1), "two")]
    quality = known(database, trials)["tiny-chatglm"].quality
    assert quality is not None
    assert (quality.mean, quality.n, quality.low) == (3.0, 2, None)


def test_open_ratings_count_only_where_there_are_no_blind_ones(database: Database) -> None:
    trials = [rated((1, 5), str(n), blind=False) for n in range(8)]
    found = known(database, trials)["tiny-qwen"].against["tiny-chatglm"]
    assert (found.blind, found.n_ratings, found.difference[Ground.ALL].mean) == (False, 8, 4.0)


def test_blind_ratings_are_never_mixed_with_open_ones(database: Database) -> None:
    trials = [*(rated((1, 5), str(n), blind=False) for n in range(8)), rated((3, 2))]
    found = known(database, trials)["tiny-chatglm"].against["tiny-qwen"]
    assert (found.blind, found.n_ratings, found.difference[Ground.ALL].mean) == (True, 1, 1.0)


def test_ratings_beside_models_that_were_not_measured_do_not_count(database: Database) -> None:
    trials = [rated((5, 1), models=("other@host", "tiny-qwen")), rated((3, 2))]
    found = known(database, trials)
    assert set(found["tiny-qwen"].against) == {"tiny-chatglm"}
    quality = found["tiny-qwen"].quality
    assert quality is not None
    assert (quality.mean, quality.n) == (2.0, 1)


def test_without_ratings_nothing_is_known_of_quality(database: Database) -> None:
    found = known(database, [])
    assert all(one.quality is None and not one.against for one in found.values())


def test_ratings_of_another_precision_are_noticed(database: Database) -> None:
    with database.write() as session:
        session.add(rated((4, 3), precision="int8"))
    ratings = Ratings.of(database, TINY, Filters())

    def otherwise(precision: str) -> list[bool]:
        taken = [Resources(key, together=False, precision=precision) for key in TINY]
        return [one.rated_otherwise for one in candidates(taken, [], ratings)]

    assert otherwise("int8") == otherwise("") == [False, False]
    assert otherwise("float32") == [True, True]


def test_ratings_from_the_database_decide_what_is_advised(database: Database) -> None:
    trials = [rated((4, 2 + n % 2), str(n), left=n % 2) for n in range(8)]
    advice = advise(tuple(known(database, trials).values()))
    assert advice.choice == "tiny-chatglm"
    assert advice.reasons[0].code == "take_better_rated"
    assert [r.details["model"] for r in advice.reasons if r.code == "builtin"] == list(TINY)
