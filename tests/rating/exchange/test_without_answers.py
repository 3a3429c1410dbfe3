"""Ratings made elsewhere have no answers, and everything that looks at trials copes with that."""

import pytest

from backends.measurement import Resources, TimedAnswer
from db import Database, Language, Trial
from db.queries import Filters, trials_with
from rating.advice.candidates import Ground, Ratings, candidates
from rating.exchange import Format, import_bytes
from rating.frames import ratings_frame
from rating.summary import rated_trials, summarise
from rating.trial import AnswerStatus, view_of
from tests.rating.exchange.samples import exported
from ui import markup
from ui.language import texts_in
from ui.results import trials as listing

PAPER = """trial,rater,prompt,turns,model,side,dimension,score,preference,blind
1,Ann,你好,2,tiny-qwen,left,memory,5,left,true
1,Ann,你好,2,tiny-chatglm,right,memory,2,left,true
"""


@pytest.fixture
def trial(database: Database) -> Trial:
    import_bytes(database, PAPER.encode(), "paper.csv")
    ids = [str(trial) for trial in ratings_frame(database, Filters())["trial"]]
    with database.read() as session:
        (trial,) = trials_with(session, ids)
    return trial


def test_its_view_shows_the_prompts_and_that_nothing_is_known(trial: Trial) -> None:
    view = view_of(trial)
    assert [turn.prompt for turn in view.turns] == ["你好", ""]
    answers = [answer for turn in view.turns for answer in turn.answers.values()]
    assert {(answer.text, answer.status) for answer in answers} == {("", AnswerStatus.COMPLETE)}
    assert view.reveal is not None
    assert {one.revision for one in view.reveal.values()} == {""}
    assert not view.to_retry


def test_its_rater_can_see_it_on_the_compare_page(trial: Trial) -> None:
    for language in Language:
        text = str(markup.reveal(texts_in(language), view_of(trial), tiny=True))
        assert "tiny-chatglm" in text


def test_the_summary_counts_it_and_lists_it(database: Database, trial: Trial) -> None:
    (pair,) = summarise(database, Filters()).pairs
    assert pair.n_trials == 1
    found = listing.found(Filters(), listing.About(), False, rated_trials(database))
    assert found is not None
    shown = listing.shown(texts_in(Language.EN), database, found)
    assert shown.count("<details") == 1
    assert shown.count('<td class="tp-answer"></td>') == 2 * len(trial.turns)


@pytest.mark.usefixtures("trial")
def test_its_scores_count_for_advice(database: Database) -> None:
    models = [Resources(key, together=False) for key in ("tiny-chatglm", "tiny-qwen")]
    answers: list[TimedAnswer] = []
    ratings = Ratings.of(database, [one.model_key for one in models], Filters())
    first, second = candidates(models, answers, ratings)
    assert first.against["tiny-qwen"].difference[Ground.ALL].mean == -3
    assert second.rated_as == frozenset()


def test_all_of_it_goes_out_again(database: Database, trial: Trial) -> None:
    for format_ in Format:
        if format_ is not Format.LLM_COMPARATOR:
            assert exported(database, format_) or format_ is Format.TRL
