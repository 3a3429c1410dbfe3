import pytest

from backends.catalog import Model
from backends.client import ModelUnavailable
from backends.specs import resolve
from backends.supervisor import Patience, RemoteModel, State
from tests.backends.conftest import Fake, running_fake, until

HASTY = Patience(first_backoff_s=0.05, longest_backoff_s=0.1, probe_s=0.1)


async def settled(model: Model, api_key: str = "none") -> RemoteModel:
    """Watch `model` until its first answer, and go on watching."""
    remote = RemoteModel(model, api_key=api_key, patience=HASTY)
    await remote.start()
    await until(lambda: remote.status.state is not State.STARTING or bool(remote.status.detail))
    return remote


async def test_an_endpoint_that_lists_the_model_is_ready(shared_fake: Fake) -> None:
    remote = await settled(resolve(f"{shared_fake.url}#fake"))
    assert (remote.status.state, remote.status.detail) == (State.READY, "")
    assert remote.endpoint.base_url == f"{shared_fake.url}/v1"
    await remote.stop()
    with pytest.raises(ModelUnavailable, match="stopped"):
        _ = remote.endpoint


async def test_an_endpoint_that_lists_others_is_ready_and_says_so(shared_fake: Fake) -> None:
    remote = await settled(resolve(f"{shared_fake.url}#other"))
    assert remote.status.state is State.READY
    assert remote.status.detail == "the endpoint lists other models: fake"
    await remote.stop()


async def test_a_wrong_key_is_a_failure_and_the_right_one_is_not() -> None:
    with running_fake("--key", "sk-1") as fake:
        wrong = await settled(resolve(f"{fake.url}#fake"), api_key="sk-2")
        right = await settled(resolve(f"{fake.url}#fake"), api_key="sk-1")
        assert (wrong.status.state, right.status.state) == (State.FAILED, State.READY)
        assert wrong.status.detail == "the endpoint refuses the key"
        await wrong.stop()
        await right.stop()


async def test_an_address_of_something_else_is_a_failure_with_a_hint(shared_fake: Fake) -> None:
    remote = await settled(resolve(f"{shared_fake.url}/v2#fake"))
    assert remote.status.state is State.FAILED
    assert "does its URL end in /v1?" in remote.status.detail
    await remote.stop()


async def test_an_endpoint_that_goes_away_is_noticed_and_welcomed_back() -> None:
    with running_fake() as fake:
        remote = await settled(resolve(f"{fake.url}#fake"))
        await remote.wait_ready(5)
    port = fake.url.rpartition(":")[2]
    await until(lambda: remote.status.state is not State.READY)
    assert remote.status.state is State.RESTARTING
    assert "can't be reached" in remote.status.detail
    with running_fake("--port", port):
        await remote.wait_ready(5)
    await remote.stop()


async def test_an_endpoint_that_is_not_there_yet_is_waited_for() -> None:
    remote = await settled(resolve("http://127.0.0.1:9#fake"))
    assert remote.status.state is State.STARTING
    assert "can't be reached" in remote.status.detail
    with pytest.raises(ModelUnavailable):
        await remote.wait_ready(0.2)
    await remote.stop()


def test_a_local_model_is_no_remote_one(model: Model) -> None:
    with pytest.raises(ValueError, match="some-model"):
        RemoteModel(model)
