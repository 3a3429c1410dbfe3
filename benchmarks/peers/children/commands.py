"""The child's end of the line protocol: commands come on stdin, an answer to each goes to stdout.

    > prefill 512        < {"value": 0.81}
    > decode 64          < {"value": 41.7}
    > peak               < {"value": 912261120}

The first line a child says is the answer to no command: the seconds that it took to load. Whatever
a library prints goes to stderr. Ends when stdin does. Standard library only.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Command = Callable[..., Any]

BELOW = {"qwen2": 151643, "chatglm": 130000}
"""Where a family's ids of text end."""


def serve(load: Callable[[], Mapping[str, Command]], seconds: Callable[[], float]) -> None:
    """Load, then answer commands until there are no more.

    Args:
        load: Loads the model and gives what can be asked of it beside its peak; arguments are
            whole numbers.
        seconds: A clock.
    """
    say = _own_stdout()
    begun = seconds()
    try:
        commands = {"peak": peak_bytes, **load()}
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"})
        raise
    say({"value": seconds() - begun})
    for line in sys.stdin:
        say(answer(commands, line))


def answer(commands: Mapping[str, Command], line: str) -> dict[str, Any]:
    """Carry out one line; a failure is an answer too."""
    name, *arguments = line.split()
    try:
        return {"value": commands[name](*map(int, arguments))}
    except Exception as error:  # noqa: BLE001 -- the other end decides what to do about it
        return {"error": f"{name}: {type(error).__name__}: {error}"}


def peak_bytes() -> int:
    """Most memory that this process has held, mapped files included."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found.group(1)) * 1024 if found else 0


def prompt(tokens: int, below: int, end: Sequence[int] = (), start: int = 0) -> list[int]:
    """Ids of ordinary pieces, the same ones for every contender.

    Args:
        tokens: How many, the end included.
        below: Ids from here on are none of text.
        end: What the model's prompts end with.
        start: Gives other ids.
    """
    first = below // 100
    numbers = range(start, start + tokens - len(end))
    return [*(first + (number * 7919) % (below - first) for number in numbers), *end]


def _own_stdout() -> Callable[[Mapping[str, Any]], None]:
    """Keep the real stdout for answers; what libraries write there goes to stderr from now on."""
    output = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(answer: Mapping[str, Any]) -> None:
        output.write(json.dumps(answer) + "\n")
        output.flush()

    return say
