"""What a measurement is asked for and what it finds out, as plain data.

Measures nothing, stores nothing and shows nothing: `measure` does the first, those above the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from backends.catalog import Model

ARTICLE_PROMPTS = (
    "你好，请介绍一下你自己。",
    "请写一首关于春天的五言诗。",
    "解释一下什么是机器学习？",
)
"""Those of the published comparison's table of latencies."""


MOST_REPEATS = 100
"""Of each prompt: more would only show how steady the machine is."""


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        models: Each alone, one after the other; remote ones for latency only.
        prompts: What each is asked.
        repeats: How often each prompt is asked.
        together: Whether all models are asked at once afterwards, with all of them running.
        patience_s: How long a start, or an answer, may take before it counts as hung.
    """

    models: tuple[Model, ...]
    prompts: tuple[str, ...] = ARTICLE_PROMPTS
    repeats: int = 5
    together: bool = True
    patience_s: float = 1800.0


@dataclass(frozen=True)
class Machine:
    """What a measurement ran on.

    Attributes:
        cpu: Its name.
        cores: How many this process may use.
        memory_bytes: How much there is.
        system: Operating system and its version.
        versions: Of what computes, by package.
    """

    cpu: str
    cores: int
    memory_bytes: int
    system: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Step:
    """What is done now: step `number` of `count`, counted from 1.

    Attributes:
        kind: "prepare", "cold_start", "warm_start", "answer" or "together".
        model_key: Of whom; "" for all.
    """

    number: int
    count: int
    kind: str
    model_key: str = ""


@dataclass(frozen=True)
class Resources:
    """What one model took while it was measured; None: not measured, or not to be known.

    Attributes:
        together: Whether the other models ran at the same time.
        revision: Of the weights.
        precision: What it computed in.
        threads: With how many threads; None: it runs elsewhere.
        size_bytes: Of the weights as files.
        peak_bytes: Most memory that its server process ever held, from the operating system.
        cold_start_s: From the start of the process to the first token, files not in memory.
        warm_start_s: The same at once again.
        cpu_share: Of all usable cores while it answered, 0 to 1.
        others_share: Of all usable cores while it answered, taken by other programs; None also
            together with the other models, which would be some.
        disk_free_bytes: Left on the disk that holds the weights.
        error: Why something is missing; "" where nothing is.
    """

    model_key: str
    together: bool
    remote: bool = False
    revision: str = ""
    precision: str = ""
    threads: int | None = None
    size_bytes: int | None = None
    peak_bytes: int | None = None
    cold_start_s: float | None = None
    warm_start_s: float | None = None
    cpu_share: float | None = None
    others_share: float | None = None
    disk_free_bytes: int | None = None
    error: str = ""


@dataclass(frozen=True)
class TimedAnswer:
    """One answer to one prompt; times are None where it failed.

    Attributes:
        prompt: Its place in the plan, from 1.
        repeat: Which time, from 1.
        together: Whether the other models were asked the same at the same time.
        first_token_s: From the request.
        total_s: From the request to the end, the start of the server not included.
        prompt_tokens: As the server counts; None where it doesn't.
        completion_tokens: As above.
        characters: Of the answer.
        error: Why there is none; "" where there is.
    """

    model_key: str
    prompt: int
    repeat: int
    together: bool
    first_token_s: float | None = None
    total_s: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    characters: int = 0
    error: str = ""


Event = Step | Resources | TimedAnswer
"""A model's `Resources` come after its start and after each answer, in place of those before; those
of it together with the others are counted apart."""
