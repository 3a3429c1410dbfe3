"""Watches a model at an endpoint that others run: asks every few seconds whether it is there.

Starts and stops nothing: the endpoint belongs to others.
"""

import asyncio

import httpx2
from pydantic import BaseModel, ValidationError

from backends.backend import Backend, Patience, State
from backends.catalog import Model
from backends.client import Endpoint
from backends.connection import open_client

_PROBE_TIMEOUT_S = 5.0


class _Listed(BaseModel):
    id: str


class _Listing(BaseModel):
    """What `GET /models` of an OpenAI-compatible endpoint says."""

    data: list[_Listed]


class RemoteModel(Backend):
    """One model at a URL, asked every few seconds whether it is there."""

    def __init__(
        self, model: Model, *, api_key: str = "none", patience: Patience | None = None
    ) -> None:
        super().__init__(model, patience)
        if model.endpoint_url is None or model.remote_name is None:
            raise ValueError(f"{model.key} is no remote model")
        self._remote = Endpoint(model.endpoint_url, model.remote_name, api_key)

    def _endpoint(self) -> Endpoint:
        return self._remote

    async def _keep_up(self) -> None:
        headers = {"Authorization": f"Bearer {self._remote.api_key}"}
        pause_s = self._patience.first_backoff_s
        async with open_client(
            self._remote.base_url, timeout_s=_PROBE_TIMEOUT_S, headers=headers
        ) as client:
            while True:
                await self._probe(client)
                if self._status.state is State.READY:
                    pause_s = self._patience.first_backoff_s
                    await asyncio.sleep(self._patience.probe_s)
                else:
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, self._patience.longest_backoff_s)

    async def _probe(self, client: httpx2.AsyncClient) -> None:
        try:
            response = await client.get("/models")
        except httpx2.HTTPError as error:
            lost = self._status.state in (State.READY, State.RESTARTING)
            state = State.RESTARTING if lost else State.STARTING
            self._become(state, detail=f"can't be reached: {type(error).__name__} {error}")
            return
        state, detail = _judge(response, self._remote.model)
        self._become(state, detail=detail)


def _judge(response: httpx2.Response, name: str) -> tuple[State, str]:
    """Return what the answer to `GET /models` means for the model called `name`."""
    status = response.status_code
    if status == 200:
        return _judge_listing(response.content, name)
    if status in (401, 403):
        return State.FAILED, "the endpoint refuses the key"
    if response.is_redirect:
        return State.FAILED, f"the endpoint has moved to {response.headers.get('location')}"
    if status >= 500:
        return State.LOADING, f"the endpoint answers with status {status}"
    return State.READY, f"the endpoint doesn't list its models (status {status})"


def _judge_listing(content: bytes, name: str) -> tuple[State, str]:
    try:
        listed = [model.id for model in _Listing.model_validate_json(content).data]
    except ValidationError:
        return State.FAILED, "no OpenAI-compatible endpoint answers here; does its URL end in /v1?"
    if name not in listed:  # it may still know it, by another name
        return State.READY, f"the endpoint lists other models: {', '.join(listed[:10])}"
    return State.READY, ""
