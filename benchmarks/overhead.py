"""What the app costs beside the bare model servers: tokens a second, both ways, in one run.

    python -m benchmarks.overhead --rounds 20

Two model servers of the built-in pair are started once. In turn, each prompt goes straight to both
at once, then through the app's API in open mode (nothing is paced there) to the same two servers.
Prints minimum, median and maximum, and the ratio round by round: machines are noisy, so read that.
"""

import asyncio
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from gradio_client import Client

from backends.client import Finish, Message, Sampling, stream_answer
from backends.cores import threads_per_server
from backends.specs import resolve
from backends.supervisor import ModelServer
from benchmarks.app_process import running
from db import Language
from rating.prompt_sets import suggested

_READY_S = 120.0


@dataclass(frozen=True)
class Run:
    """One prompt answered by both models."""

    tokens: int
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        """Tokens of both answers a second, from the question to the last token."""
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Round:
    """One prompt, both ways."""

    bare: Run
    through: Run


def main(
    rounds: Annotated[int, typer.Option(help="how often each prompt goes both ways")] = 20,
) -> None:
    """Measure and print the table."""
    asyncio.run(_measure(rounds))


async def _measure(rounds: int) -> None:
    models = [resolve(key) for key in ("tiny-qwen", "tiny-chatglm")]
    servers = [ModelServer(model, threads=threads_per_server(models)) for model in models]
    await asyncio.gather(*(server.start() for server in servers))
    try:
        await asyncio.gather(*(server.wait_ready(_READY_S) for server in servers))
        specs = [f"{server.endpoint.base_url}#{server.model.key}" for server in servers]
        with tempfile.TemporaryDirectory() as folder:
            log, url = Path(folder) / "app.log", f"sqlite:///{folder}/bench.db"
            options = ("--open", "--left", specs[0], "--right", specs[1], "--database-url", url)
            with running(log, *options) as app:
                await asyncio.to_thread(app.wait_ready)
                client = await asyncio.to_thread(Client, app.url, verbose=False)
                _print(await _rounds(servers, client, rounds))
    finally:
        await asyncio.gather(*(server.stop() for server in servers))


async def _rounds(servers: Sequence[ModelServer], client: Client, rounds: int) -> list[Round]:
    """Return what each round took both ways."""
    prompts = list(dict.fromkeys(text for language in Language for text in suggested(language)))
    results = []
    for number in range(rounds + 1):
        prompt = prompts[number % len(prompts)]
        bare = await _bare(servers, prompt)
        through = await asyncio.to_thread(_through_app, client, prompt)
        if number:  # the first one warms up
            results.append(Round(bare, through))
    return results


async def _bare(servers: Sequence[ModelServer], prompt: str) -> Run:
    async def answer(server: ModelServer) -> int:
        settings = Sampling(temperature=0.0, max_tokens=256, seed=1)
        events = stream_answer(server.endpoint, [Message("user", prompt)], settings)
        finish = [event async for event in events][-1]
        assert isinstance(finish, Finish)
        return finish.completion_tokens or 0

    begun = time.perf_counter()
    tokens = await asyncio.gather(*map(answer, servers))
    return Run(sum(tokens), time.perf_counter() - begun)


def _through_app(client: Client, prompt: str) -> Run:
    trial = client.predict(api_name="/new_trial")["trial"]
    begun = time.perf_counter()
    views: list[Any] = list(client.submit(trial, prompt, api_name="/ask"))
    seconds = time.perf_counter() - begun
    turn = views[-1]["turns"][-1]
    tokens = [int(turn[side]["timing"]["completion_tokens"]) for side in ("left", "right")]
    return Run(sum(tokens), seconds)


def _print(rounds: Sequence[Round]) -> None:
    columns = {
        "bare, tokens/s": [r.bare.tokens_per_s for r in rounds],
        "through the app, tokens/s": [r.through.tokens_per_s for r in rounds],
        "ratio": [r.through.tokens_per_s / r.bare.tokens_per_s for r in rounds],
        "added to a turn, s": [r.through.seconds - r.bare.seconds for r in rounds],
    }
    typer.echo(f"{platform.machine()}, Python {platform.python_version()}, {len(rounds)} rounds\n")
    typer.echo("| measure | min | median | max |\n|---|---|---|---|")
    for name, values in columns.items():
        figures = (min(values), statistics.median(values), max(values))
        typer.echo(f"| {name} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |")


if __name__ == "__main__":
    typer.run(main)
