"""docs/exchange.md tells of every format, column, field and reason."""

from db import Dimension
from rating.exchange import Format, records
from rating.exchange.counted import LeftOut
from rating.exchange.csv_reading import REQUIRED
from rating.exchange.long_form import COLUMNS
from tests.paths import ROOT

DOCS = (ROOT / "docs" / "exchange.md").read_text(encoding="utf-8")


def test_every_format_column_and_field_is_told_of() -> None:
    names = {*Format, *COLUMNS, *Dimension}
    for kind in (
        records.TrialRecord,
        records.TurnRecord,
        records.AnswerRecord,
        records.AssignmentRecord,
        records.RatingRecord,
    ):
        names |= set(kind.model_fields)
    assert {name for name in names if f"`{name}`" not in DOCS} == set()


def test_every_reason_to_leave_a_trial_out_has_its_row() -> None:
    section = DOCS.split("## What trl")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(LeftOut)


def test_the_columns_that_paper_needs_are_those_of_the_example() -> None:
    header = next(line for line in DOCS.splitlines() if line.startswith("    trial,rater"))
    assert set(header.strip().split(",")) == {*REQUIRED, "prompt"}
