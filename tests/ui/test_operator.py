"""Who runs the panel: by a key, or by coming straight from this machine."""

import pytest
from starlette.requests import HTTPConnection

from db import new_id
from ui.errors import Refused
from ui.operator import Operator
from ui.visitor import COOKIE

KEY = "correct horse 电池"


class Clock:
    """A clock that a test moves on."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def connection(
    client: str | None = "127.0.0.1", host: str = "127.0.0.1:7860", **headers: str
) -> HTTPConnection:
    sent = {"host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
    raw = [(name.encode(), value.encode()) for name, value in sent.items()]
    return HTTPConnection(
        {
            "type": "http",
            "scheme": "http",
            "path": "/",
            "headers": raw,
            "client": client and (client, 5),
        }
    )


def visitor() -> HTTPConnection:
    return connection(client="10.1.2.3", cookie=f"{COOKIE}={new_id()}")


def refusal(operator: Operator, request: HTTPConnection, key: object) -> str:
    with pytest.raises(Refused) as caught:
        operator.enter(request, key)
    return caught.value.code


@pytest.mark.parametrize(
    ("client", "host"),
    [
        ("127.0.0.1", "127.0.0.1:7860"),
        ("127.0.0.1", "localhost:7860"),
        ("127.8.0.1", "127.0.0.1"),
        ("::1", "[::1]:7860"),
        ("::ffff:127.0.0.1", "localhost"),
    ],
)
def test_without_a_key_who_comes_from_this_machine_is_the_operator(client: str, host: str) -> None:
    Operator(None).check(connection(client, host))


@pytest.mark.parametrize(
    "host", ["127.0.0.1:7860", "localhost:7860", "LOCALHOST", "127.0.0.2:80", "[::1]:7860"]
)
def test_without_a_key_the_panel_s_own_page_on_this_machine_is_the_operator(host: str) -> None:
    Operator(None).check(connection(host=host, origin=f"http://{host.lower()}"))


@pytest.mark.parametrize(
    "request_",
    [
        connection("192.168.1.7"),
        connection("::ffff:192.168.1.7"),
        connection("testclient"),
        connection(None),
        connection(x_forwarded_for="203.0.113.9"),
        connection(x_forwarded_for="127.0.0.1"),
        connection(forwarded="for=203.0.113.9"),
        connection(via="1.1 proxy"),
        connection(x_forwarded_proto="https"),
        connection(cf_connecting_ip="203.0.113.9"),
        connection(host="panel.example:7860"),
        connection(host="127.0.0.1.example"),
        connection(origin="https://evil.example"),
        connection(host="127.0.0.2:7860", origin="https://evil.example"),
        connection("::1", "[::1]:7860", origin="https://evil.example"),
        connection(origin="null"),
        connection(origin=""),
        connection(origin="http://127.0.0.1:8000"),
        connection(origin="http://localhost:7860"),
        connection(host="localhost", origin="https://localhost"),
        connection(origin="http://127.0.0.1:7860.evil.example"),
    ],
)
def test_without_a_key_nobody_else_is(request_: HTTPConnection) -> None:
    with pytest.raises(Refused) as caught:
        Operator(None).check(request_)
    assert caught.value.code == "operator_only"


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_none_can_be_entered(key: str | None) -> None:
    request = visitor()
    operator = Operator(key)
    assert not operator.has_key
    assert refusal(operator, request, "") == "operator_only"
    assert not operator.admits(request)


def test_with_a_key_this_machine_alone_is_not_enough() -> None:
    assert not Operator(KEY).admits(connection())


def test_who_enters_the_key_is_the_operator_from_then_on_and_nobody_else() -> None:
    operator, mine, other = Operator(KEY), visitor(), visitor()
    operator.enter(mine, f" {KEY} ")
    operator.check(mine)
    assert not operator.admits(other)


@pytest.mark.parametrize("key", ["", "correct", f"{KEY}!", None, 5, ["x"], "\ud800"])
def test_another_key_is_refused(key: object) -> None:
    operator, request = Operator(KEY), visitor()
    assert refusal(operator, request, key) == "wrong_key"
    assert not operator.admits(request)


def test_a_visitor_without_a_cookie_can_t_be_remembered() -> None:
    operator = Operator(KEY)
    assert refusal(operator, connection(), KEY) == "operator_only"
    assert refusal(operator, connection(cookie=f"{COOKIE}=chosen"), KEY) == "operator_only"
    assert not operator.admits(connection())


def test_keys_can_be_tried_only_so_often_by_whomever_and_the_right_one_waits_as_well() -> None:
    clock = Clock()
    operator = Operator(KEY, clock)
    tries = [refusal(operator, visitor(), "x") for _ in range(8)]
    assert tries == ["wrong_key"] * 5 + ["too_many_keys"] * 3
    assert refusal(operator, visitor(), KEY) == "too_many_keys"
    clock.now_s += 2.5
    assert refusal(operator, visitor(), "x") == "wrong_key"
    assert refusal(operator, visitor(), "x") == "too_many_keys"
    clock.now_s += 3600
    mine = visitor()
    operator.enter(mine, KEY)
    assert operator.admits(mine)
    assert [refusal(operator, visitor(), "x") for _ in range(6)].count("wrong_key") == 5


def test_wrong_keys_from_elsewhere_and_right_ones_keep_nobody_out() -> None:
    operator = Operator(KEY, Clock())
    for _ in range(8):
        refusal(operator, connection("203.0.113.9", cookie=f"{COOKIE}={'e' * 32}"), "x")
    for _ in range(20):
        operator.enter(visitor(), KEY)
