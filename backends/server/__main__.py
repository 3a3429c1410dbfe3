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
from typing import TYPE_CHECKING, Annotated

import typer

from backends.catalog import HUBS, Model, hub_order
from backends.listening import listen
from backends.precisions import PRECISIONS, precision_order
from backends.server.generation import Limits
from backends.server.host import LoadOptions, ModelHost
from backends.specs import UnknownModel, resolve

if TYPE_CHECKING:
    import uvicorn

logger = logging.getLogger(__name__)

app = typer.Typer(add_completion=False)


@app.command()
def serve(
    *,
    model: Annotated[
        str, typer.Option(help="Catalog key, folder, hub id, or one of them + adapter folder.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of the model; all cores if not given.", min=1)
    ] = None,
    places: Annotated[int, typer.Option(help="Requests answered at the same time.", min=1)] = 8,
    queue: Annotated[int, typer.Option(help="Requests that may wait for a place.", min=0)] = 32,
    precision: Annotated[
        str | None,
        typer.Option(
            help=f"What to compute in: {', '.join(PRECISIONS)}, or several, as int8,int4: the "
            "first that the weights allow. Their own choice if not given."
        ),
    ] = None,
    cache_memory: Annotated[
        int | None,
        typer.Option(
            help="MB for what was computed of ended answers, so that a conversation's next turn "
            "needn't compute it again; an eighth of what is free, 256 to 2000, if not given.",
            min=0,
        ),
    ] = None,
    hubs: Annotated[
        str, typer.Option(help="Where weights are fetched from, in this order.")
    ] = ",".join(HUBS),
    force: Annotated[
        bool, typer.Option("--force", help="Load what needs more memory than is free.")
    ] = False,
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
    try:
        hosted = _hosted(model)
        precisions = precision_order(precision) if precision else ()
        options = LoadOptions(precisions, hub_order(hubs), force)
        listener = listen(host, port)
    except (UnknownModel, ValueError, OSError) as error:
        raise _refusal(str(error)) from error
    cache_bytes = None if cache_memory is None else cache_memory * 1_000_000
    limits = Limits(threads, places, queue, cache_bytes)
    model_host = ModelHost(hosted, limits, options)
    model_host.start()
    server = _server(model_host)
    typer.echo(json.dumps({"event": "listening", "port": listener.getsockname()[1]}))
    server.run(sockets=[listener])


def _hosted(spec: str) -> Model:
    model = resolve(spec)
    if not model.local:
        raise UnknownModel(f"{spec} is served elsewhere: there is nothing to load.")
    return model


def _refusal(message: str) -> typer.Exit:
    typer.echo(f"Error: {message}", err=True)
    return typer.Exit(2)


def _server(host: ModelHost) -> uvicorn.Server:
    # Only now, while the model loads: they take a third of a second.
    import uvicorn  # noqa: PLC0415

    from backends.server.api import create_app  # noqa: PLC0415

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
