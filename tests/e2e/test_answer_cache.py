"""`--answer-cache`: a question asked before is answered from the database, and the page says so."""

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from benchmarks.app_process import running, until
from db import Side
from tests.e2e.conftest import RunningApp
from tests.e2e.recording import recording
from tests.e2e.test_blindness import FIGURES, Witness
from tests.e2e.visits import Visit, Visits

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PROMPT = "你好，请介绍一下你自己。"
MARKS = re.compile(r'"cached": ?(true|false)|>\s*from the cache|recorded at \d|' + FIGURES)
"""The mark in the page and in the API; the words alone are among the texts that every page gets."""


def wait_kept(app: RunningApp) -> None:
    """Wait until the answers of both models can be given again."""
    until(lambda: app.rows("SELECT count(*) FROM cached_answers") == [(2,)])


def test_an_open_trial_shows_both_answers_at_once_with_the_speed_of_their_recording(
    folder: Path, visit: Visit
) -> None:
    url = f"sqlite:///{folder}/cache-open.db"
    options = ("--open", "--answer-cache", "open", "--answer-cache-pace", "at-once")
    with running(folder / "cache-open.log", *options, "--database-url", url) as process:
        process.wait_ready()
        app = RunningApp(process, url)
        page = visit(app)
        page.ask(PROMPT)
        page.wait_rateable()
        for side in Side:
            expect(page.foot(side)).to_contain_text("first token")
        words = {
            key: page.answers(side).inner_text() for side, key in app.sides(page.trial).items()
        }
        wait_kept(app)
        page = visit(app)
        page.ask(PROMPT)
        page.wait_rateable()
        rates = "SELECT (completion_tokens - 1) / (total_s - first_token_s) FROM answers WHERE turn_id = 1 AND side = ?"
        for side, key in app.sides(page.trial).items():
            expect(page.answers(side)).to_have_text(words[key])
            first_side = next(s for s, k in app.sides(first_trial(app)).items() if k == key)
            [(rate,)] = app.rows(rates, first_side.value)
            expect(page.foot(side)).to_contain_text(
                f"from the cache, recorded at {rate:.1f} tokens/s"
            )
        page.rate()
        expect(page.reveal).to_contain_text("from the cache, figures of when it was recorded")
        assert app.rows("SELECT cached FROM answers ORDER BY id") == [(0,), (0,), (1,), (1,)]
        assert app.rows("SELECT hits FROM cached_answers") == [(1,), (1,)]


def first_trial(app: RunningApp) -> str:
    [(trial,)] = app.rows("SELECT id FROM trials ORDER BY created_at LIMIT 1")
    return str(trial)


def test_nothing_tells_a_blind_rater_of_the_cache_until_the_rating_is_saved(
    folder: Path, visit: Visit, visits: Visits
) -> None:
    url = f"sqlite:///{folder}/cache-blind.db"
    options = ("--answer-cache", "all", "--answer-cache-pace", "at-once")
    with running(folder / "cache-blind.log", *options, "--database-url", url) as process:
        process.wait_ready()
        app = RunningApp(process, url)
        page = visit(app)
        page.ask(PROMPT)
        page.wait_rateable()
        wait_kept(app)
        with recording(process.port) as proxy:
            page = type(page)(visits.open(proxy.url))
            witness = Witness(proxy, page.page)
            page.wait_loaded()
            asked = time.monotonic()
            page.ask(PROMPT)
            while not page.rateable:
                witness.look("while the answers come")
            took_s = time.monotonic() - asked
            page.page.reload()
            page.wait_rateable()
            page.fill_in()
            witness.look("just before saving")
            assert app.rows("SELECT cached FROM answers WHERE id > 2") == [(1,), (1,)]
            assert witness.found(MARKS) == []
            [(longest_s,)] = app.rows("SELECT max(total_s) FROM cached_answers")
            assert took_s >= longest_s  # as if it were written now
            page.save_button.click()
            page.wait_revealed()
            witness.look("after the reveal")
            assert len(witness.found(MARKS)) > 0
            expect(page.reveal.get_by_text("from the cache")).to_have_count(2)
