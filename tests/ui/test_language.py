"""The texts of the pages, and which language a visitor reads."""

import re
import string

import pytest
from starlette.requests import HTTPConnection

from db import Language, TrialState
from rating.errors import PairInUse
from rating.trial import AnswerStatus
from tests.paths import ROOT
from ui.language import COOKIE, language_of, text_key, texts_in

UI = ROOT / "ui"
RATING = UI.parent / "rating"


def connection(**headers: str) -> HTTPConnection:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return HTTPConnection({"type": "http", "headers": raw})


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_both_languages_have_the_same_texts_with_the_same_fields() -> None:
    zh, en = (texts_in(language).all() for language in Language)
    assert {name: fields(text) for name, text in zh.items()} == {
        name: fields(text) for name, text in en.items()
    }


def test_every_text_is_used_and_every_used_text_exists() -> None:
    names = set(texts_in(Language.EN).all())
    sources = "".join(
        path.read_text(encoding="utf-8")
        for folder in (UI, RATING)
        for path in folder.rglob("*")
        if path.suffix in (".py", ".html", ".js")
    )
    literal = set(re.findall(r"[\"']([a-z]+(?:_[a-z]+)*)[\"']", sources))
    states = {f"hint_{state}" for state in TrialState}
    composed = re.compile(
        r"(hint|error|retry|pane|side|preference|language|not|state|stage|prop|step|alarm|measured|dimension|bias|results)_\w+"
    )
    assert {n for n in names - literal - states if not composed.fullmatch(n)} == set()
    used = set(re.findall(r"\bt\(\"([a-z_]+)\"", sources))
    assert {name for name in used if not name.endswith("_")} <= names


def test_every_state_and_every_error_of_an_answer_has_its_words() -> None:
    texts = texts_in(Language.ZH).all()
    for state in (TrialState.DRAFTING, TrialState.ANSWERING, TrialState.RATEABLE):
        assert f"hint_{state}" in texts
    errors = set(
        re.findall(
            r"\"(\w+)\"",
            " ".join(
                re.findall(
                    r"(?:_fail\(live, .*|return \"busy\".*|return \"unavailable\".*|FAILED, \".*)",
                    "".join((RATING / f"{name}.py").read_text() for name in ("run", "record")),
                )
            ),
        )
    )
    assert errors >= {"busy", "unavailable", "bad_answer", "empty", "too_long", "interrupted"}
    assert {error for error in errors if f"error_{error}" not in texts} == set()
    assert AnswerStatus.FAILED in AnswerStatus


def test_every_code_of_a_trial_error_has_its_words() -> None:
    texts = texts_in(Language.EN).all()
    sources = "".join(path.read_text(encoding="utf-8") for path in RATING.rglob("*.py"))
    kinds = "TrialError|WrongState|BadPrompt|BadRating|BadSession|NothingToRate"
    raised = re.findall(rf"(?:{kinds}|super\(\).__init__)\(\s*\"(\w+)\"", sources)
    assert len(set(raised)) > 8
    assert {code for code in raised if code not in texts} == set()


@pytest.mark.parametrize("count", [1, 2])
def test_what_a_pair_in_use_waits_for_is_said_rightly_of_one_and_of_many(count: int) -> None:
    words = texts_in(Language.EN)("pair_in_use", count=count, minutes=30)
    assert str(PairInUse(count, 30)) == words
    assert f"rating: {count}." in words
    assert "them" not in words


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", Language.ZH),
        ("en-GB,en;q=0.9", Language.EN),
        ("fr-FR,zh;q=0.5", Language.ZH),
        ("fr", Language.EN),
        ("", Language.EN),
        (";;,,q=", Language.EN),
    ],
)
def test_the_browser_s_first_known_language_is_taken(header: str, language: Language) -> None:
    assert language_of(connection(accept_language=header)) is language


def test_the_switch_goes_before_the_browser() -> None:
    cookie = f"{COOKIE}=zh"
    assert language_of(connection(accept_language="en", cookie=cookie)) is Language.ZH


def test_an_unknown_choice_is_ignored() -> None:
    assert language_of(connection(accept_language="zh", cookie=f"{COOKIE}=xx")) is Language.ZH


def test_a_label_without_a_text_is_refused() -> None:
    with pytest.raises(KeyError):
        text_key("no_such_text")
