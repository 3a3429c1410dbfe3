"""Ratings made elsewhere, in the long CSV form: what may be missing, and what is refused."""

from datetime import UTC, datetime, timedelta

import pytest

from db import Database, Dimension, Language, Preference, Side, Trial, exchange_queries
from rating.errors import BadImport
from rating.exchange import Imported, import_bytes
from rating.exchange.incoming import MOST_LISTED
from tests.rating.exchange.samples import exported

HEADER = "trial,rater,prompt,model,side,dimension,score,preference"
PAPER = f"""{HEADER}
1,Anna,天空为什么是蓝的？,qwen,left,understanding,5,left
1,Anna,天空为什么是蓝的？,chatglm,right,understanding,3,left
2,Anna,"Tell me, please",chatglm,left,reasoning,,both_bad
2,Anna,"Tell me, please",qwen,right,reasoning,1,both_bad
"""


def stored(database: Database, *ids: str) -> list[Trial]:
    with database.read() as session:
        found = {trial.id: trial for trial in exchange_queries.known_trials(session, list(ids))}
    return [found[one] for one in ids]


def refused(database: Database, text: str | bytes) -> list[str]:
    """The lines of the message; and nothing was imported."""
    content = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(BadImport) as caught:
        import_bytes(database, content, "paper.csv")
    assert len(exported(database).splitlines()) == 1
    return str(caught.value).splitlines()


def test_ratings_on_paper_need_only_what_nobody_else_can_know(database: Database) -> None:
    before = datetime.now(UTC)
    assert import_bytes(database, PAPER.encode(), "paper.csv") == Imported(new=2, known=0)
    first, second = stored(database, "1", "2")
    assert (first.pair, first.left_model, first.right_model) == ("chatglm|qwen", "qwen", "chatglm")
    assert (first.language, second.language) == (Language.ZH, Language.EN)
    assert not first.blind
    assert first.rater.public_name == "Anna"
    assert first.rating is not None
    assert second.rating is not None
    assert second.rating.preference is Preference.BOTH_BAD
    assert before <= first.rating.rated_at < second.rating.rated_at
    assert second.rating.rated_at < datetime.now(UTC) + timedelta(seconds=1)
    scores = {(score.side, score.dimension): score.score for score in first.rating.scores}
    assert len(scores) == 2 * len(Dimension)
    assert scores[Side.LEFT, Dimension.UNDERSTANDING] == 5
    assert scores[Side.LEFT, Dimension.MEMORY] is None
    assert [turn.prompt for turn in second.turns] == ["Tell me, please"]
    assert [turn.answers for turn in second.turns] == [[]]


def test_the_same_paper_again_changes_nothing_and_more_of_it_is_added(database: Database) -> None:
    import_bytes(database, PAPER.encode(), "paper.csv")
    assert import_bytes(database, PAPER.encode(), "paper.csv") == Imported(new=0, known=2)
    more = PAPER + PAPER.split("\n", 1)[1].replace("1,Anna", "3,Bo").replace("2,Anna", "4,Bo")
    assert import_bytes(database, more.encode(), "paper.csv") == Imported(new=2, known=2)


def test_what_a_file_does_not_say_is_not_held_against_it(database: Database) -> None:
    full = PAPER.replace("preference\n", "preference,prompt_id,flags,blind,comment\n")
    for row in full.splitlines()[1:]:
        flags = "repeat:2" if row.startswith("1") else ""
        full = full.replace(f"{row}\n", f"{row},sky,{flags},true,hm\n")
    import_bytes(database, full.encode(), "full.csv")
    assert import_bytes(database, PAPER.encode(), "paper.csv") == Imported(new=0, known=2)
    with pytest.raises(BadImport, match="a trial 1 with other content"):
        import_bytes(database, full.replace("repeat:2", "").encode(), "full.csv")


def test_every_column_may_be_given_in_any_order(database: Database) -> None:
    text = (
        "flags;rated_at;blind;comment;turns;prompt_id;prompt;preference;score;dimension;side;"
        "model;rater;trial\n"
        "late;2026-02-28 12:00+08:00;TRUE;好;2.0;sky;Why?;Tie;4.0;Memory;LEFT;a;Anna;1\n"
        "late;2026-02-28 12:00+08:00;TRUE;好;2.0;sky;Why?;Tie;;Memory;right;b;Anna;1\n"
    )
    import_bytes(database, b"\xef\xbb\xbf" + text.encode(), "excel.csv")
    (trial,) = stored(database, "1")
    assert trial.rating is not None
    assert (trial.blind, list(trial.flags), len(trial.turns)) == (True, ["late"], 2)
    assert trial.turns[0].prompt_id == "sky"
    assert trial.rating.rated_at == datetime(2026, 2, 28, 4, tzinfo=UTC)
    assert trial.rating.comment == "好"


def test_a_prompt_may_be_given_by_its_id_alone(database: Database) -> None:
    import_bytes(database, PAPER.replace("prompt,", "prompt_id,").encode(), "paper.csv")
    first, _ = stored(database, "1", "2")
    assert first.turns[0].prompt_id == first.turns[0].prompt == "天空为什么是蓝的？"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (",5,", ",6,", "line 2, score: '6' is not 1 to 5"),
        (",5,", ",4.5,", "line 2, score: '4.5' is no whole number"),
        (",5,", ",inf,", "line 2, score: 'inf' is no whole number"),
        (",5,", ",nan,", "line 2, score: 'nan' is no whole number"),
        ("left,und", "middle,und", "line 2, side: 'middle' is none of: left, right"),
        ("understanding,3", "wit,3", "line 3, dimension: 'wit' is none of: understanding"),
        ("both_bad\n2", "neither\n2", "line 4, preference: 'neither' is none of: left, right, tie"),
        ("5,left", "5,right", "line 3, preference: differs from line 2"),
        ("1,Anna,天空为什么是蓝的？,chatglm", "1,Anna,B,chatglm", "line 3, prompt: differs"),
        ("1,Anna,天", "1,,天", "line 2, rater: is empty"),
        ("1,Anna,天空为什么是蓝的？,qwen", "1,Anna,,qwen", "line 2, prompt: is empty, and there"),
        ("1,Anna,天", f"1,{'A' * 65},天", "line 2, rater: is longer than 64"),
        ("1,Anna,天", f"{'1' * 33},Anna,天", "line 2, trial: must have 1 to 32 characters"),
        ("1,Anna,天", "1 2,Anna,天", "line 2, trial: must have 1 to 32 characters"),
        ("qwen,left", "q|wen,left", "line 2, model: must not have '|'"),
        (",chatglm,right", ",qwen,right", "line 2, model: both sides of this trial have the same"),
        ("chatglm,right,u", "chatglm,left,u", "line 3, dimension: left has understanding twice"),
        (
            "chatglm,right,understanding",
            "chatglm,left,memory",
            "line 3, model: left had another model before",
        ),
        ("3,left\n", "3\n", "line 3: there are 7 cells here, and 8 columns"),
        ("5,left\n", '5,"left\n', "line 2: this is no CSV"),
        ("1,Anna,天空", "1,Anna,天\0空", "line 2: there is a NUL character"),
        ("score,", "", "line 1, score: this column is missing"),
        (",preference", "", "line 1, preference: this column is missing"),
        ("prompt,", "", "line 1, prompt: this column is missing, or prompt_id"),
        ("preference\n", "preference,notes\n", "line 1, notes: there is no such column"),
        ("preference\n", "preference,score\n", "line 1, score: this column is there twice"),
    ],
)
def test_a_bad_line_is_refused_by_its_number_column_and_reason(
    database: Database, old: str, new: str, said: str
) -> None:
    assert old in PAPER
    message = refused(database, PAPER.replace(old, new, 1))
    assert message[0] == "Nothing was imported."
    assert any(line.startswith(f"paper.csv, {said}") for line in message), message


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("turns", "0", "'0' is no number of turns"),
        ("turns", "1001", "'1001' is no number of turns"),
        ("blind", "ja", "'ja' is neither true nor false"),
        ("rated_at", "28.2.2026", "'28.2.2026' is no moment; write it as 2026-02-28T12:00"),
        ("rated_at", "0001-01-01T00:00+14:00", "is no moment"),
        ("flags", "a;;b", "a flag must not be empty"),
        ("flags", "attention", "a trial is either a repeat"),
        ("flags", "better:left", "a trial is either a repeat"),
        ("flags", "repeat:2;attention;better:left", "a trial is either a repeat"),
        ("flags", "repeat:2", "needs a prompt_id"),
        ("prompt_id", "x" * 201, "is longer than 200 characters"),
    ],
)
def test_a_bad_cell_of_an_optional_column_is_refused_too(
    database: Database, column: str, cell: str, said: str
) -> None:
    lines = PAPER.splitlines()
    cells = [column, cell, cell, "", ""]
    message = refused(database, "".join(f"{a},{b}\n" for a, b in zip(lines, cells, strict=True)))
    assert f"paper.csv, line 2, {column}: " in message[1]
    assert said in message[1]


def test_all_bad_lines_are_listed_up_to_a_number(database: Database) -> None:
    rows = "".join(
        f"{n},Anna,Why?,{model},{side},memory,9,tie\n"
        for n in range(15)
        for model, side in (("a", "left"), ("b", "right"))
    )
    message = refused(database, f"{HEADER}\n{rows}")
    assert [line.split(":")[0] for line in message[1:3]] == [
        "paper.csv, line 2, score",
        "paper.csv, line 3, score",
    ]
    assert len(message) == MOST_LISTED + 2
    assert message[-1] == "... and 10 more."


def test_a_line_is_counted_as_an_editor_counts_it(database: Database) -> None:
    long = PAPER.replace("天空为什么是蓝的？", '"天空\n为什么\n是蓝的？"')
    long = long.replace("1,both", "7,both")
    assert "paper.csv, line 9, score: '7'" in "\n".join(refused(database, long))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no ratings"),
        (HEADER.encode() + b"\n", "has no ratings"),
        (PAPER.encode("gbk"), 'line 2: this is not UTF-8; save the file as UTF-8 (in Excel: "CSV'),
        (b"PAR1\x15\x04", "is a Parquet file"),
        (b"\n\n", "has no ratings"),
    ],
)
def test_what_is_no_file_of_ratings_is_refused_with_what_to_do(
    database: Database, content: bytes, said: str
) -> None:
    assert said in "\n".join(refused(database, content))
