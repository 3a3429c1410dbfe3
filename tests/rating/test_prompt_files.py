"""A prompt set is read from YAML or CSV, or refused with every mistake and its line."""

import csv
import io
import re
from collections.abc import Sequence

import pytest

from db import Dimension, Language
from rating.errors import BadPromptSet
from rating.prompt_files import PROMPTS_LIMIT, SIZE_LIMIT, TEXTS, read_prompt_set
from rating.prompt_sets import TURN_LIMIT, TURNS_LIMIT, built_in
from tests.paths import ROOT

GOOD = "- {id: a, language: zh, category: memory, turns: [一, 二]}\n"


def mistakes(text: str | bytes, name: str = "mine.yaml") -> list[tuple[int | None, str]]:
    """The line and the code of each mistake in a file."""
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(BadPromptSet) as caught:
        read_prompt_set(data, name)
    for problem in caught.value.problems:
        assert problem.message == TEXTS[problem.code].format(**problem.details)
    return [(problem.line, problem.code) for problem in caught.value.problems]


def entry(**changes: str) -> str:
    fields = {"id": "a", "language": "zh", "category": "memory", "turns": "[一, 二]"} | changes
    first, *others = [f"{name}: {value}" for name, value in fields.items() if value != "-"]
    return "".join([f"- {first}\n", *(f"  {other}\n" for other in others)])


def table(*rows: Sequence[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


ROW = ("a", "zh", "memory")
HEADER = ("id", "language", "category", "turn1", "turn2")


def test_a_set_in_yaml_is_read_under_the_name_of_its_file() -> None:
    read = read_prompt_set(GOOD.encode(), "folder/我的题目.yaml")
    (prompt,) = read.prompts
    assert read.name == "我的题目"
    assert (prompt.id, prompt.language, prompt.category) == ("a", Language.ZH, Dimension.MEMORY)
    assert prompt.turns == ("一", "二")
    assert prompt.gold is None


def test_the_same_set_in_csv_has_the_same_id() -> None:
    text = table(HEADER, ("a", "zh", "memory", "一", "二"))
    assert read_prompt_set(text.encode("utf-8-sig"), "x.CSV").id == (
        read_prompt_set(GOOD.encode(), "y.yml").id
    )


def test_a_cell_may_hold_several_lines_and_commas_and_empty_ones_at_the_end_are_no_turns() -> None:
    text = table(HEADER, ("a", "en", "reasoning", 'Say "one,\r\ntwo".', ""), ("", "", "", "", ""))
    (prompt,) = read_prompt_set(text.encode(), "x.csv").prompts
    assert prompt.turns == ('Say "one,\ntwo".',)


def test_attention_items_are_read_from_both() -> None:
    gold = "{better: [好], worse: [坏]}"
    (one,) = read_prompt_set(entry(turns="[一]", gold=gold).encode(), "x.yaml").prompts
    header = (*HEADER[:4], "better1", "worse1")
    text = table(header, ("a", "zh", "memory", "一", "好", "坏"))
    (other,) = read_prompt_set(text.encode(), "x.csv").prompts
    assert one == other
    assert one.gold is not None
    assert (one.gold.better, one.gold.worse) == (("好",), ("坏",))


def test_what_looks_like_a_number_or_a_truth_value_is_text() -> None:
    text = entry(id="007", language="en", turns="[yes, 12, 2026-11-29, ~]")
    (prompt,) = read_prompt_set(text.encode(), "x.yaml").prompts
    assert (prompt.id, prompt.turns) == ("007", ("yes", "12", "2026-11-29", "~"))


@pytest.mark.parametrize(
    ("changes", "line", "code"),
    [
        ({"id": "-"}, 1, "prompts_missing"),
        ({"id": "' '"}, 1, "prompts_empty"),
        ({"id": "a" * 201}, 1, "prompts_long"),
        ({"id": '"a\\nb"'}, 1, "prompts_unfit"),
        ({"language": "fr"}, 2, "prompts_choice"),
        ({"language": "[zh]"}, 2, "prompts_choice"),
        ({"category": "Memory"}, 3, "prompts_choice"),
        ({"category": "-"}, 1, "prompts_missing"),
        ({"turns": "-"}, 1, "prompts_missing"),
        ({"turns": "hi"}, 4, "prompts_no_texts"),
        ({"turns": "[]"}, 4, "prompts_empty"),
        ({"turns": "[一, '  ']"}, 4, "prompts_empty"),
        ({"turns": "\n  - 一\n  - {a: b}"}, 6, "prompts_no_text"),
        ({"turns": '\n  - 一\n  - "\\u0007"'}, 6, "prompts_unfit"),
        ({"turns": f"[{'一' * (TURN_LIMIT + 1)}]"}, 4, "prompts_long"),
        ({"turns": f"[{', '.join(['一'] * (TURNS_LIMIT + 1))}]"}, 4, "prompts_turns"),
        ({"model": "tiny-qwen"}, 5, "prompts_unknown"),
        ({"id ": "b"}, 5, "prompts_twice"),
        ({"gold": "better"}, 5, "prompts_no_gold"),
        ({"gold": "{better: [好, 好]}"}, 5, "prompts_missing"),
        ({"gold": "{better: [好, 好], worse: [坏]}"}, 1, "prompts_gold"),
    ],
)
def test_a_mistake_in_a_prompt_is_told_with_its_line(
    changes: dict[str, str], line: int, code: str
) -> None:
    assert mistakes(entry(**changes)) == [(line, code)]


def test_all_mistakes_of_a_file_are_told_at_once_in_their_order() -> None:
    text = entry(language="fr", turns="[]") + "- 5\n" + entry(category="none")
    assert mistakes(text) == [
        (2, "prompts_choice"),
        (4, "prompts_empty"),
        (5, "prompts_no_prompt"),
        (6, "prompts_id_twice"),
        (8, "prompts_choice"),
    ]


def test_a_mistake_is_told_in_words_that_name_the_place_and_what_is_possible() -> None:
    with pytest.raises(BadPromptSet, match=r"line 3: category can't be x\. Possible: under"):
        read_prompt_set(entry(category="x").encode(), "x.yaml")
    with pytest.raises(BadPromptSet, match=r"line 4: turns\.2 is empty"):
        read_prompt_set(entry(turns="[一, '']").encode(), "x.yaml")


@pytest.mark.parametrize(
    ("text", "line", "code"),
    [
        ("", None, "prompts_none"),
        ("# nothing\n", None, "prompts_none"),
        ("[]", None, "prompts_none"),
        ("just words", 1, "prompts_no_list"),
        ("id: a\nlanguage: zh", 1, "prompts_no_list"),
        (GOOD + "- [", 3, "prompts_syntax"),
        (GOOD + "  - a: b", 2, "prompts_syntax"),
        (GOOD + "---\n" + GOOD, 2, "prompts_syntax"),
        (GOOD + "\x00", 2, "prompts_syntax"),
        (GOOD.encode() + b"- id: \xff", 2, "prompts_encoding"),
        (GOOD.encode("utf-16"), 1, "prompts_encoding"),
        ("- &a x\n- *a", 1, "prompts_alias"),
        ("- x\n- *a", 2, "prompts_alias"),
        ("[" * 50_000, 1, "prompts_depth"),
        ("\n" * (SIZE_LIMIT + 1), None, "prompts_size"),
        (GOOD * (PROMPTS_LIMIT + 1), None, "prompts_many"),
    ],
)
def test_a_file_that_is_no_prompt_set_is_refused(
    text: str | bytes, line: int | None, code: str
) -> None:
    assert mistakes(text) == [(line, code)]


@pytest.mark.parametrize(
    ("rows", "line", "code"),
    [
        ([("id", "language", "turn1")], 1, "prompts_columns"),
        ([(*HEADER, "better9")], 1, "prompts_column"),
        ([(*HEADER, "turn1")], 1, "prompts_twice"),
        ([HEADER], None, "prompts_none"),
        ([HEADER, ("a", "zh", "memory", "", "二")], 2, "prompts_empty"),
        ([HEADER, ("a", "zh", "memory", "", "")], 2, "prompts_empty"),
        ([HEADER, ("a", "zh")], 2, "prompts_missing"),
        ([HEADER, ("a", "zh", "memory", "一", "二", "三")], 2, "prompts_cells"),
        (
            [HEADER, ("a", "zh", "memory", "一\n一", ""), ("a", "zh", "memory", "二")],
            4,
            "prompts_id_twice",
        ),
    ],
)
def test_a_mistake_in_a_table_is_told_with_its_line(
    rows: list[Sequence[str]], line: int | None, code: str
) -> None:
    assert mistakes(table(*rows), "x.csv")[0] == (line, code)


def test_a_quote_that_is_never_closed_is_told_where_it_begins() -> None:
    text = table(HEADER, ("a", "zh", "memory", "一", "")) + 'b,zh,"'
    assert mistakes(text, "x.csv") == [(3, "prompts_syntax")]


@pytest.mark.parametrize("name", ["x.txt", "x", "x.xlsx"])
def test_another_kind_of_file_is_refused(name: str) -> None:
    assert mistakes(GOOD, name) == [(None, "prompts_kind")]


def test_the_largest_set_is_read() -> None:
    text = "".join(GOOD.replace("id: a", f"id: a{number}") for number in range(PROMPTS_LIMIT))
    assert len(read_prompt_set(text.encode(), "x.yaml").prompts) == PROMPTS_LIMIT


def test_the_examples_of_the_documentation_are_prompt_sets() -> None:
    text = (ROOT / "docs" / "prompt-sets.md").read_text(encoding="utf-8")
    examples = re.findall(r"```(yaml|csv)\n(.*?)```", text, re.DOTALL)
    read = [read_prompt_set(body.encode(), f"x.{kind}") for kind, body in examples]
    assert [len(one.prompts) for one in read] == [2, 2, 1]
    assert len(read[-1].attention) == 1
    assert f"{len(built_in().regular) - 3} more" in text
