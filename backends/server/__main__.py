"""The command line of one model server: ``python -m backends.server --model MODEL --port N``.

Listens before the model is loaded, and says where in one line on stdout. Everything else that it
has to say goes to stderr.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from typing import Annotated

import typer
import uvicorn

from backends.catalog import UnknownModel, resolve
from backends.listening import listen
from backends.server.api import create_app
from backends.server.generation import Limits
from backends.server.host import HostedModel, ModelHost

logger = logging.getLogger(__name__)

app = typer.Typer(add_completion=False)


@app.command()
def serve(
    *,
    model: Annotated[str, typer.Option(help="A model of the catalog, or a checkpoint folder.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of the model; all cores if not given.", min=1)
    ] = None,
    places: Annotated[int, typer.Option(help="Requests answered at the same time.", min=1)] = 8,
    queue: Annotated[int, typer.Option(help="Requests that may wait for a place.", min=0)] = 32,
    watch_parent: Annotated[
        bool, typer.Option("--watch-parent", help="Exit at once when stdin ends.")
    ] = False,
) -> None:
    """Serve one chat model on an OpenAI-compatible API."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # Waiting threads must sleep: several model servers share the cores. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if watch_parent:
        threading.Thread(target=_exit_with_parent, name="parent", daemon=True).start()
    hosted = _hosted(model)
    try:
        listener = listen(host, port)
    except OSError as error:
        raise _refusal(str(error)) from error
    typer.echo(json.dumps({"event": "listening", "port": listener.getsockname()[1]}))
    model_host = ModelHost(hosted, Limits(threads, places, queue))
    _server(model_host).run(sockets=[listener])


def _hosted(spec: str) -> HostedModel:
    try:
        model = resolve(spec)
    except UnknownModel as error:
        raise _refusal(str(error)) from error
    if model.folder is None:
        raise _refusal(f"{spec} is served elsewhere: there is nothing to load.")
    return HostedModel(model.key, model.folder, model.revision, model.defaults.max_tokens)


def _refusal(message: str) -> typer.Exit:
    typer.echo(f"Error: {message}", err=True)
    return typer.Exit(2)


def _server(host: ModelHost) -> uvicorn.Server:
    config = uvicorn.Config(
        create_app(host),
        log_config=None,
        access_log=False,
        # Streams end at once when the server is told to.
        timeout_graceful_shutdown=0,
    )
    return uvicorn.Server(config)


def _exit_with_parent() -> None:
    """Ends the process when stdin does, as it happens when the process at its other end is gone."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os._exit(0)


if __name__ == "__main__":
    app()
