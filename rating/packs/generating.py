"""Has models answer a whole prompt set, one after the other, so that one at a time is in memory.

Each prompt is a conversation of its own, with the model's own earlier answers in it. The seed of an
answer depends on its prompt and turn alone, and a server keeps nothing of ended answers: what is
asked again is computed in the same way, whatever was asked before. Times are those of a model that
has to itself what the app would share out between two.
"""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from backends.amounts import duration_text
from backends.backend import Backend
from backends.catalog import Model, Sampling
from backends.client import BackendError, Finish, Message, Piece, PromptTooLong, stream_answer
from backends.cores import threads_per_server
from backends.machine import this_machine
from backends.single import Failure, ServerSettings, check_memory, make_backend, until_ready, why
from db import utc_now
from rating.packs.pack import (
    AnswerEntry,
    Header,
    Key,
    MachineEntry,
    ModelEntry,
    Pack,
    entry_of,
    wanted,
)
from rating.packs.pack_file import write_pack
from rating.packs.unfinished import Order, Unfinished
from rating.prompt_sets import Prompt
from rating.recordings import Recording
from rating.run import Replay

logger = logging.getLogger(__name__)

PATIENCE_S = 1800.0
"""How long a start, or an answer, may take before it counts as hung."""

_ATTEMPTS = 3
_RETRY_S = 1.0  # a dead server's connection ends before its death is noticed
_EMPTY = "The answer was empty."

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Missing:
    """An answer that did not come, and why."""

    key: Key
    reason: str

    def __str__(self) -> str:
        prompt, position, model = self.key
        return f"{model}: {prompt}, turn {position}: {self.reason}"


class _Unanswered(Exception):  # noqa: N818 -- reads as what it is
    """No answer came, however often it was asked for."""


class _Progress:
    """How far it is, and how long the rest will take if it goes on like this."""

    def __init__(self, order: Order, unfinished: Unfinished, tell: Tell) -> None:
        keys = wanted(order.prompt_set, order.keys)
        self._tell = tell
        self._count = len(keys)
        self._left = Counter(model for *_, model in keys)
        self._taken_s: defaultdict[str, float] = defaultdict(float)
        self._answered: Counter[str] = Counter()
        for answer in unfinished.answers.values():
            self.took(answer.model, answer.total_s)

    def begin(self, key: Key) -> None:
        """Say that this answer is asked for."""
        prompt, position, model = key
        left_s = self._left_s()
        rest = "" if left_s is None else f" ({duration_text(left_s)} left)"
        turn = f", turn {position}" if position > 1 else ""
        number = self._count - self._left.total() + 1
        self._tell(f"[{number}/{self._count}] {model}: {prompt}{turn}{rest}")

    def took(self, model: str, seconds: float) -> None:
        """Count an answer and its time."""
        self._taken_s[model] += seconds
        self._answered[model] += 1
        self._left[model] -= 1

    def gave_up(self, model: str, count: int) -> None:
        """Count answers that will not come."""
        self._left[model] -= count

    def _left_s(self) -> float | None:
        """Return the time for the rest; a model that hasn't answered yet takes what others do."""
        if not self._answered:
            return None
        usual_s = sum(self._taken_s.values()) / self._answered.total()
        return sum(
            count * (self._taken_s[model] / n if (n := self._answered[model]) else usual_s)
            for model, count in self._left.items()
        )


async def generate(
    order: Order, settings: ServerSettings, unfinished: Unfinished, tell: Tell
) -> list[Missing]:
    """Have what is missing answered; return what is still missing then, with the reasons.

    Cancelling this is Stop: every server that was started ends, and what was answered stays.

    Raises:
        CannotGenerate: A model isn't what it was when it answered before.
        OSError: What was answered can't be written.
    """
    progress = _Progress(order, unfinished, tell)
    missing: list[Missing] = []
    for model in order.models:
        left = [key for key in wanted(order.prompt_set, [model.key]) if not _has(unfinished, key)]
        if not left:
            continue
        tell(f"{model.key}: starting")
        try:
            async with _running(model, settings) as backend:
                entry = ModelEntry.of(backend.model, backend.precision, backend.threads)
                unfinished.add_model(entry)
                generator = _Generator(order, backend, unfinished, progress, missing)
                await generator.answer_all()
        except Failure as failure:
            known = {one.key for one in missing}
            rest = [key for key in left if not _has(unfinished, key) and key not in known]
            missing += [Missing(key, str(failure)) for key in rest]
    return missing


def finish(order: Order, unfinished: Unfinished, out: Path) -> Pack:
    """Make the pack of what was answered, all of it, and write it.

    Raises:
        OSError: It can't be written; the unfinished one stays.
    """
    answers = tuple(unfinished.answers[key] for key in wanted(order.prompt_set, order.keys))
    machine = MachineEntry.model_validate(vars(this_machine()))
    models = tuple(unfinished.models[key] for key in order.keys)
    header = Header(models=models, machine=machine, made_at=utc_now())
    pack = Pack(order.prompt_set, header, answers)
    write_pack(out, pack)
    unfinished.file.unlink()
    return pack


def seed_of(prompt_id: str, position: int) -> int:
    """Return the seed of the answers to a turn: the same for every model and each time."""
    digest = sha256(f"{prompt_id}|{position}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _has(unfinished: Unfinished, key: Key) -> bool:
    return key in unfinished.answers


@asynccontextmanager
async def _running(model: Model, settings: ServerSettings) -> AsyncIterator[Backend]:
    """Yield the model ready to answer, and stop it afterwards.

    Raises:
        Failure: It doesn't fit into memory, or can't be started.
    """
    await asyncio.to_thread(check_memory, [model], settings)
    backend = make_backend(model, settings, threads_per_server([model]))
    try:
        await backend.start()
        await until_ready(backend, PATIENCE_S)
        yield backend
    finally:
        await backend.stop()


class _Generator:
    """Asks one model what it hasn't answered yet."""

    def __init__(
        self,
        order: Order,
        backend: Backend,
        unfinished: Unfinished,
        progress: _Progress,
        missing: list[Missing],
    ) -> None:
        self._order = order
        self._backend = backend
        self._unfinished = unfinished
        self._progress = progress
        self._missing = missing

    async def answer_all(self) -> None:
        """Ask every prompt; what doesn't come is added to `missing`.

        Raises:
            Failure: The model can't be used any further.
        """
        for prompt in self._order.prompt_set.regular:
            await self._converse(prompt)

    async def _converse(self, prompt: Prompt) -> None:
        """Go on with a conversation where it was left; no turn can do without the one before."""
        messages: list[Message] = []
        for position, turn in enumerate(prompt.turns, start=1):
            key = (prompt.id, position, self._backend.model.key)
            messages.append(Message("user", turn))
            answer = self._unfinished.answers.get(key)
            if answer is None:
                self._progress.begin(key)
                try:
                    answer = await self._answered(key, messages)
                except _Unanswered as error:
                    self._give_up(prompt, position, str(error))
                    return
            messages.append(Message("assistant", answer.text))

    def _give_up(self, prompt: Prompt, position: int, reason: str) -> None:
        model = self._backend.model.key
        self._progress.gave_up(model, len(prompt.turns) - position + 1)
        self._missing.append(Missing((prompt.id, position, model), reason))
        for later in range(position + 1, len(prompt.turns) + 1):
            words = f"Turn {position} has no answer."
            self._missing.append(Missing((prompt.id, later, model), words))

    async def _answered(self, key: Key, messages: Sequence[Message]) -> AnswerEntry:
        """Have a turn answered, however often it takes, and keep the answer."""
        seed, reason = seed_of(key[0], key[1]), ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_RETRY_S)
            await until_ready(self._backend, PATIENCE_S)
            sampling = replace(self._backend.model.defaults, seed=seed)
            try:
                recording = await self._recorded(messages, sampling)
            except PromptTooLong as error:
                raise _Unanswered(why(error)) from error
            except BackendError as error:
                reason = why(error)
            except TimeoutError:
                reason = f"It gave no whole answer within {PATIENCE_S:g} s."
            else:
                if recording.text.strip():
                    answer = entry_of(key, recording)
                    self._unfinished.add_answer(answer)
                    self._progress.took(answer.model, answer.total_s)
                    return answer
                reason, seed = _EMPTY, seed + 1  # the same seed would say the same again
            logger.warning("%s, %s, turn %d: %s", key[2], key[0], key[1], reason)
        raise _Unanswered(reason)

    async def _recorded(self, messages: Sequence[Message], sampling: Sampling) -> Recording:
        pieces: list[Piece] = []
        async with (
            asyncio.timeout(PATIENCE_S),
            aclosing(stream_answer(self._backend.endpoint, messages, sampling)) as stream,
        ):
            async for event in stream:
                if isinstance(event, Finish):
                    assert sampling.seed is not None
                    return Recording(Replay(event, sampling.seed), pieces)
                pieces.append(event)
        raise AssertionError("a stream without an end")
