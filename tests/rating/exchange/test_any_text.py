"""Whatever people and models write, both forms that are read back keep it."""

from datetime import UTC, datetime
from io import BytesIO

from hypothesis import given
from hypothesis import strategies as st

from db import Dimension, Language, Preference, Side, TrialState
from rating.exchange import csv_reading, csv_writing, json_lines
from rating.exchange.long_form import long_rows
from rating.exchange.records import RatingRecord, TrialRecord, TurnRecord

ANYTHING = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
NAMES = ANYTHING.filter(lambda name: 1 <= len(name) <= 64 and "|" not in name)
PAIRS = st.lists(NAMES, min_size=2, max_size=2, unique=True)
SCORES = st.fixed_dictionaries({key: st.none() | st.integers(1, 5) for key in Dimension})
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))


@st.composite
def trials(draw: st.DrawFn) -> TrialRecord:
    left, right = draw(PAIRS)
    moment, prompt_id = draw(MOMENTS), draw(st.none() | NAMES)
    first = TurnRecord(prompt=draw(ANYTHING.filter(bool)), prompt_id=prompt_id, asked_at=moment)
    return TrialRecord(
        trial="one",
        rater=draw(NAMES),
        language=Language.ZH,
        blind=draw(st.booleans()),
        left_model=left,
        right_model=right,
        state=TrialState.RATED,
        created_at=moment,
        turns=(first,) * draw(st.integers(1, 3)),
        rating=RatingRecord(
            preference=draw(st.sampled_from(Preference)),
            comment=draw(ANYTHING),
            rated_at=moment,
            scores={side: draw(SCORES) for side in Side},
        ),
    )


@given(trials())
def test_the_long_form_keeps_every_text(record: TrialRecord) -> None:
    out = BytesIO()
    csv_writing.write([record], out)
    contents = csv_reading.read(out.getvalue().decode())
    assert contents.problems == []
    (incoming,) = contents.trials
    assert list(long_rows(incoming.record)) == list(long_rows(record))


@given(trials())
def test_json_lines_keep_all(record: TrialRecord) -> None:
    out = BytesIO()
    json_lines.write([record], out)
    (incoming,) = json_lines.read(out.getvalue().decode()).trials
    assert incoming.record == record
