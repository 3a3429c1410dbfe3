"""Is a rating that was acknowledged ever lost? kill -9 straight after "saved", again and again.

    python -m benchmarks.crash --rounds 200

Each round starts the app on the same SQLite file, finds all earlier ratings there, asks, rates, and
kills the app at the very answer that says "saved". What is left is looked up in the file itself and
by the next start. Two model servers of the built-in pair outlive all rounds, to save time.
"""

import asyncio
import json
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer
from tqdm import tqdm

from backends.catalog import PAIRS
from backends.specs import resolve
from backends.supervisor import ModelServer
from benchmarks.app_process import AppProcess, running
from db import Dimension, Preference, Side, new_id
from ui.visitor import COOKIE

_READY_S = 120.0
_SCORES_OF_A_RATING = len(Side) * len(Dimension)


class LostRating(Exception):  # noqa: N818 -- it is what happened
    """A rating that was acknowledged isn't there, or not whole."""


def main(
    rounds: Annotated[int, typer.Option(help="how often the app is killed")] = 200,
) -> None:
    """Kill and look; exit with 1 at the first rating that is lost."""
    asyncio.run(_run(rounds))


async def _run(rounds: int) -> None:
    async with built_in_models() as specs:
        with tempfile.TemporaryDirectory() as folder:
            bar = tqdm(crash(rounds, Path(folder), specs), total=rounds, unit="kill")
            try:
                saved = await asyncio.to_thread(lambda: sum(1 for _ in bar))
            except LostRating as error:
                typer.echo(str(error), err=True)
                raise typer.Exit(1) from error
    typer.echo(f"killed {saved} times straight after a rating was saved: none of {saved} lost")


@asynccontextmanager
async def built_in_models() -> Any:
    """Serve the built-in pair; give the `URL#model` of both."""
    servers = [ModelServer(resolve(key)) for key in PAIRS["tiny"].models]
    await asyncio.gather(*(server.start() for server in servers))
    try:
        await asyncio.gather(*(server.wait_ready(_READY_S) for server in servers))
        yield [f"{server.endpoint.base_url}#{server.model.key}" for server in servers]
    finally:
        await asyncio.gather(*(server.stop() for server in servers))


def crash(rounds: int, folder: Path, specs: Sequence[str]) -> Iterator[str]:
    """Yield the id of each trial whose rating has survived its app.

    Raises:
        LostRating: One hasn't.
    """
    file = folder / "twopane.db"
    options = ("--left", specs[0], "--right", specs[1], "--database-url", f"sqlite:///{file}")
    saved: list[str] = []
    for _ in range(rounds):
        with running(folder / "app.log", *options) as app:
            app.wait_ready()
            _expect_all(app, saved)
            saved.append(_rate_and_kill(app))
        _expect_whole(file, saved[-1])
        yield saved[-1]
    with running(folder / "app.log", *options) as app:
        app.wait_ready()
        _expect_all(app, saved)


def _rate_and_kill(app: AppProcess) -> str:
    """Ask, rate, and kill the app as soon as it says "saved"; return the trial's id."""
    with Caller(app.url) as call:
        trial = str(call("new_trial")["trial"])
        call("ask", trial, "你好")
        scores = dict.fromkeys(Dimension, 4) | {Dimension.MEMORY: "na"}
        saved = call("rate", trial, dict.fromkeys(Side, scores), Preference.TIE, "", None)
        app.kill()
    if saved["state"] != "revealed":
        raise LostRating(f"trial {trial} was not saved: {saved}")
    return trial


def _expect_all(app: AppProcess, saved: Sequence[str]) -> None:
    with Caller(app.url) as call:
        pairs = call("summary", *[None] * 6, True)["pairs"]  # rated faster than a person can
    found = sum(pair["n_trials"] for pair in pairs)
    if found != len(saved):
        raise LostRating(f"{len(saved)} ratings were saved, {found} are there after a restart")


def _expect_whole(file: Path, trial: str) -> None:
    query = "SELECT count(*) FROM scores JOIN ratings ON ratings.id = rating_id WHERE trial_id = ?"
    with closing(sqlite3.connect(file)) as connection:
        scores = connection.execute(query, (trial,)).fetchone()[0]
    if scores != _SCORES_OF_A_RATING:
        raise LostRating(f"trial {trial} was saved, but {scores} scores are in the file")


class Caller:
    """One rater at the app's API, by its plain HTTP: no threads that outlive a killed app."""

    def __init__(self, url: str) -> None:
        self._http = httpx2.Client(
            base_url=f"{url}/gradio_api", cookies={COOKIE: new_id()}, timeout=120
        )
        config = self._http.get(f"{url}/config").json()
        self._numbers = {d["api_name"]: d["id"] for d in config["dependencies"]}

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def __call__(self, name: str, *arguments: object) -> Any:
        """Call an endpoint and return the last thing it gives. Raises RuntimeError if it fails."""
        session = new_id()[:11]
        event = {"fn_index": self._numbers[name], "session_hash": session, "data": arguments}
        self._http.post("/queue/join", json=event).raise_for_status()
        return self._last_output(session)

    def _last_output(self, session: str) -> Any:
        with self._http.stream("GET", "/queue/data", params={"session_hash": session}) as events:
            for line in events.iter_lines():
                said = json.loads(line.removeprefix("data:")) if line else {}
                if said.get("msg") == "process_completed":
                    if not said["success"]:
                        raise RuntimeError(said["output"].get("error"))
                    return next(iter(said["output"]["data"]), None)
        raise RuntimeError("the app broke off")


if __name__ == "__main__":
    typer.run(main)
