import pytest

from db import Database, RatingSession, ResultsRule, SessionState, TrialState, utc_now
from db.queries import Filters
from rating.frames import ratings_frame
from rating.results_rule import may_see, visible_to
from tests.db import rows
from tests.rating.rated import TINY, rated, store

PROMPTS = [
    *({"id": name, "language": "zh", "turns": [name]} for name in ("p1", "p2")),
    {"id": "g1", "language": "zh", "turns": ["g1"], "gold": {"better": ["a"], "worse": ["b"]}},
]


def session_of(rule: ResultsRule, **changes: object) -> RatingSession:
    values: dict[str, object] = {
        "results": rule,
        "models": list(TINY),
        "raters_per_prompt": 2,
        "repeat_share": 0.0,  # whether one is due after a few trials is chance
        "attention_share": 0.0,
        "prompt_set": rows.prompt_set(prompts=PROMPTS),
    }
    return rows.rating_session(**values | changes)


def give(database: Database, session: RatingSession, prompt: str, **changes: object) -> str:
    """Store a trial of the session, rated unless it says otherwise; return its rater."""
    kind = changes.pop("kind", "regular")
    trial = (
        rated(**changes)  # type: ignore[arg-type]
        if changes.get("state") is not TrialState.RATEABLE
        else rows.trial(**changes)
    )
    better = "left" if kind == "attention" else None
    store(
        database,
        rows.assignment(trial=trial, session=session, prompt_id=prompt, kind=kind, better=better),
    )
    return trial.rater_id


def seen(database: Database, rater: str | None, *, operator: bool = False) -> int:
    filters = visible_to(database, Filters(), rater, operator=operator)
    return len(ratings_frame(database, filters))


@pytest.mark.parametrize(
    ("rule", "state", "own_done", "seen"),
    [
        (ResultsRule.ALWAYS, SessionState.OPEN, False, True),
        (ResultsRule.NEVER, SessionState.CLOSED, True, False),
        (ResultsRule.OWN_DONE, SessionState.OPEN, False, False),
        (ResultsRule.OWN_DONE, SessionState.OPEN, True, True),
        (ResultsRule.CLOSED, SessionState.OPEN, True, False),
        (ResultsRule.CLOSED, SessionState.PAUSED, True, False),
        (ResultsRule.CLOSED, SessionState.CLOSED, False, True),
    ],
)
def test_the_rule_of_a_session_decides_who_sees_its_results(
    rule: ResultsRule, state: SessionState, own_done: bool, seen: bool
) -> None:
    assert may_see(rule, state, operator=False, own_done=own_done) is seen
    assert may_see(rule, state, operator=True, own_done=own_done)


def test_trials_of_no_session_are_seen_by_everybody(database: Database) -> None:
    store(database, rated())
    give(database, session_of(ResultsRule.NEVER), "p1")
    assert seen(database, None) == seen(database, "f" * 32) == 1
    assert seen(database, None, operator=True) == 2


def test_a_rater_sees_results_when_nothing_is_left_for_them_to_rate(database: Database) -> None:
    session = session_of(ResultsRule.OWN_DONE)
    ann, bob, carl = (rows.rater() for _ in range(3))
    give(database, session, "p1", rater=ann)
    give(database, session, "p1", rater=bob)
    give(database, session, "g1", rater=ann, kind="attention")
    assert [seen(database, one.id) for one in (ann, bob, carl)] == [0, 0, 0]
    give(database, session, "p2", rater=ann)
    assert [seen(database, one.id) for one in (ann, bob, carl)] == [4, 0, 0]
    give(database, session, "p2", rater=carl)  # now p1 and p2 have all the raters they need
    assert [seen(database, one.id) for one in (ann, bob, carl)] == [5, 5, 5]
    assert seen(database, "f" * 32) == seen(database, None) == 0


def test_who_still_has_a_trial_of_the_session_to_rate_is_not_done(database: Database) -> None:
    session = session_of(ResultsRule.OWN_DONE, raters_per_prompt=1)
    ann = rows.rater()
    give(database, session, "p1", rater=ann)
    give(database, session, "p2")
    assert seen(database, ann.id) == 2
    give(database, session, "p2", rater=ann, state=TrialState.RATEABLE)
    assert seen(database, ann.id) == 0


@pytest.mark.parametrize("rule", [ResultsRule.ALWAYS, ResultsRule.OWN_DONE])
def test_no_rule_lets_raters_see_a_session_before_they_may_know_who_was_who(
    database: Database, rule: ResultsRule
) -> None:
    session = session_of(rule)
    give(database, session, "p1")
    ann = rows.rater()
    seen_before = seen(database, ann.id)
    assert seen_before == (rule is ResultsRule.ALWAYS)
    give(database, session, "p1", rater=ann, state=TrialState.RATED)
    assert (seen(database, ann.id), seen(database, ann.id, operator=True)) == (0, 2)
    give(database, session, "p2", rater=ann, state=TrialState.RATED)
    assert seen(database, ann.id) == 3  # nothing is left for them to rate: they may know


def test_in_an_open_session_raters_see_results_as_the_rule_says(database: Database) -> None:
    session = session_of(ResultsRule.ALWAYS, blind=False)
    ann = give(database, session, "p1", state=TrialState.RATED, blind=False)
    assert seen(database, ann) == 1


def test_in_a_closed_session_nothing_is_left_to_rate(database: Database) -> None:
    closed = {"state": SessionState.CLOSED, "closed_at": utc_now()}
    ann = give(database, session_of(ResultsRule.OWN_DONE, **closed), "p1")
    assert (seen(database, ann), seen(database, None)) == (1, 0)
