"""The results page in a browser: it follows ratings, leads to trials, and saves a report."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import expect

from db import Database, Preference
from tests.e2e.conftest import RunningApp
from tests.e2e.legibility import overflowing
from tests.e2e.visits import Visits
from tests.rating.rated import NOON, OTHER, rated, store

pytestmark = pytest.mark.browser


@pytest.fixture
def ratings(fake_app: RunningApp) -> Iterator[Database]:
    """The app's database, with eight prompts on which the second model is plainly better."""
    database = Database.open(fake_app.database_url)
    store(
        database,
        *(
            rated(
                OTHER,
                scores=(2, 4 + n % 2),
                prompt=f"prompt {n}",
                preference=Preference.RIGHT,
                rated_at=NOON + timedelta(hours=n),
            )
            for n in range(8)
        ),
    )
    yield database
    database.close()


def test_verdicts_follow_the_ratings_lead_to_trials_and_can_be_saved(
    fake_app: RunningApp, ratings: Database, visits: Visits, tmp_path: Path
) -> None:
    address = f"{fake_app.url}/summary?pair={'%7C'.join(OTHER)}"
    page = visits.open(address, viewport={"width": 360, "height": 800})
    verdicts = page.locator(".tp-verdicts li")
    expect(verdicts).to_have_count(5)
    expect(verdicts.first).to_contain_text("beta@host is better than alpha@host")
    for chart in ("chart", "radar", "distribution", "progress"):
        expect(page.locator(f"#{chart} .main-svg").first).to_be_visible()
    assert overflowing(page) == []
    store(ratings, rated(OTHER, scores=(1, 5), prompt="late", rated_at=NOON + timedelta(days=9)))
    expect(page.locator("#verdicts")).to_contain_text("9 rated trials")
    with page.expect_download() as saved:
        page.locator("#make-report").click()
    saved.value.save_as(tmp_path / "report.html")
    assert "beta@host is better" in (tmp_path / "report.html").read_text(encoding="utf-8")
    verdicts.nth(2).get_by_role("link").click()
    expect(page.locator(".tp-trial")).to_have_count(9)
    expect(page.locator(".tp-trial").first).to_contain_text("late")
    expect(page.locator("#trials-title")).to_be_in_viewport()
