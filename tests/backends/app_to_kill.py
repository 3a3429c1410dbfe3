"""An app with two model servers, for tests that kill it without warning.

Why a script: a test can't kill -9 its own process. Its arguments are the second server's options:
without `--watch-parent` that server ignores the end of its stdin, so that a copy of the first one's
pipe in it would keep the first one alive. Prints both process ids once both are ready.
"""

import asyncio
import json
import sys
from pathlib import Path

from backends.catalog import Model
from backends.supervisor import ModelServer


def _command(*options: str) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("fake_server.py")), *options]


async def main() -> None:
    """Start both servers, say so, and wait for ever."""
    model = Model(key="m", title="m", family="qwen2", folder=Path())
    servers = [
        ModelServer(model, command=lambda *_: _command("--watch-parent")),
        ModelServer(model, command=lambda *_: _command(*sys.argv[1:])),
    ]
    for server in servers:
        await server.start()
        await server.wait_ready(20)
    sys.stdout.write(json.dumps([server.pid for server in servers]) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
