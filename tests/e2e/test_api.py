"""The programming interface by `gradio_client`, as a program of somebody else would use it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from db import Dimension, Side
from tests.e2e.conftest import RunningApp

pytestmark = pytest.mark.slow

POEM = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。"
SCORES: dict[str, int | str] = dict.fromkeys(Dimension, 3) | {"memory": "na"}
Connect = Callable[[], Client]


@pytest.fixture
def connect(fake_app: RunningApp) -> Iterator[Connect]:
    clients: list[Client] = []

    def new_client() -> Client:
        clients.append(Client(fake_app.url, verbose=False))
        return clients[-1]

    yield new_client
    for client in clients:
        client.close()


def complete_turn(client: Client) -> dict[str, Any]:
    trial = client.predict(api_name="/new_trial")["trial"]
    *_, view = client.submit(trial, "你好", api_name="/ask")
    assert view["state"] == "rateable"
    return dict(view)


def test_exactly_the_six_fixed_names_are_public(connect: Connect) -> None:
    described = connect().view_api(return_format="dict", print_info=False)
    assert set(described["named_endpoints"]) == {
        *("/new_trial", "/ask", "/stop", "/retry", "/rate", "/summary")
    }
    assert described["unnamed_endpoints"] == {}


def test_a_program_asks_rates_and_only_then_learns_who_was_who(
    fake_app: RunningApp, connect: Connect
) -> None:
    for model in fake_app.models:
        model.says("我是Qwen。" + POEM, pieces_per_s=20)
    client = connect()
    trial = client.predict(api_name="/new_trial")["trial"]
    views = list(client.submit(trial, "你好", api_name="/ask"))
    lengths = [[len(view["turns"][-1][side]["text"]) for side in Side] for view in views]
    assert len({left for left, _ in lengths}) > 3  # it streams
    assert all(left == right for left, right in lengths)
    for view in views:
        assert view["models"] is None
        assert "timing" not in str(view)
        assert "Qwen" not in str(view)
    assert views[-1]["state"] == "rateable"
    saved = client.predict(trial, dict.fromkeys(Side, SCORES), "left", "per API", api_name="/rate")
    assert saved["state"] == "revealed"
    assert {s: m["model_key"] for s, m in saved["models"].items()} == fake_app.sides(trial)
    assert saved["turns"][0]["left"]["text"] == "我是Qwen。" + POEM
    assert saved["turns"][0]["left"]["timing"]["completion_tokens"] == 16
    pairs = client.predict(include_flagged=True, api_name="/summary")["pairs"]
    assert [pair["n_trials"] for pair in pairs] == [
        fake_app.rows("SELECT count(*) FROM ratings")[0][0]
    ]


def test_a_program_stops_and_asks_one_side_again(fake_app: RunningApp, connect: Connect) -> None:
    for model in fake_app.models:
        model.says(POEM, hold_after=6)
    client = connect()
    trial = client.predict(api_name="/new_trial")["trial"]
    asked = client.submit(trial, "写一首诗", api_name="/ask")
    first = next(asked)
    assert first["state"] == "answering"
    client.predict(trial, api_name="/stop")
    *_, stopped = asked
    assert stopped["retry"] == ["left", "right"]
    for model in fake_app.models:
        model.says(POEM)
    *_, half = client.submit(trial, "left", api_name="/retry")
    assert half["retry"] == ["right"]
    *_, whole = client.submit(trial, "right", api_name="/retry")
    assert whole["state"] == "rateable"
    assert whole["turns"][0]["right"]["text"] == POEM


def test_another_program_cannot_touch_the_trial(fake_app: RunningApp, connect: Connect) -> None:
    view = complete_turn(connect())
    stranger, trial = connect(), view["trial"]
    rating = (dict.fromkeys(Side, SCORES), "tie", "")
    for name, arguments in (
        ("/ask", ("und?",)),
        ("/stop", ()),
        ("/retry", ("left",)),
        ("/rate", rating),
    ):
        with pytest.raises(AppError, match="There is no such trial"):
            stranger.predict(trial, *arguments, api_name=name)
    query = "SELECT state FROM trials WHERE id = ?"
    assert fake_app.rows(query, trial) == [("rateable",)]


@pytest.mark.parametrize(
    ("scores", "preference", "message"),
    [
        ({"left": SCORES}, "tie", "5 entries are missing"),
        (dict.fromkeys(Side, SCORES | {"coherence": 6}), "tie", "An entry is not allowed"),
        (dict.fromkeys(Side, SCORES | {"memory": 3}), "tie", "can't be scored after one turn"),
        (dict.fromkeys(Side, SCORES), "both", "An entry is not allowed"),
        ("nonsense", None, "An entry is not allowed"),
    ],
    ids=["missing", "out of range", "memory", "no preference", "nonsense"],
)
def test_a_bad_rating_is_refused_with_what_is_wrong(
    connect: Connect, scores: Any, preference: Any, message: str
) -> None:
    client = connect()
    trial = complete_turn(client)["trial"]
    with pytest.raises(AppError, match=message):
        client.predict(trial, scores, preference, "", api_name="/rate")


def test_a_rating_before_both_answers_is_refused(fake_app: RunningApp, connect: Connect) -> None:
    for model in fake_app.models:
        model.says(POEM, hold_after=6)
    client = connect()
    trial = client.predict(api_name="/new_trial")["trial"]
    asked = client.submit(trial, "写一首诗", api_name="/ask")
    next(asked)
    with pytest.raises(AppError, match="Both answers must be complete"):
        client.predict(trial, dict.fromkeys(Side, SCORES), "tie", "", api_name="/rate")
    with pytest.raises(AppError, match="being answered already"):
        client.predict(trial, "und?", api_name="/ask")
    for model in fake_app.models:
        model.release()
    *_, view = asked
    assert view["state"] == "rateable"
