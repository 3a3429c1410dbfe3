"""An answer as it was given before: how it is written down, and how it is given again.

What recordings are kept where, and who is given them, is `answer_cache`'s and `packs`'s.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from backends.client import Finish, Piece
from db import CachedAnswer, FinishReason, PackedAnswer
from rating.run import Event, Replay

WHOLE = (FinishReason.STOP, FinishReason.LENGTH)
"""How an answer ends that may be given again."""


@dataclass(frozen=True)
class Recording:
    """An answer as it was given before."""

    replay: Replay
    pieces: Sequence[Piece]

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(piece.text for piece in self.pieces)


Written = CachedAnswer | PackedAnswer
"""A recording in the database; its `pieces` are `[characters, milliseconds]` of each in turn."""


def written_pieces(pieces: Iterable[Piece]) -> list[list[int]]:
    """Return how much of the text each piece is, and when it came, in ms from the request on."""
    return [[len(piece.text), round(piece.elapsed_s * 1000)] for piece in pieces]


def recording_of(written: Written) -> Recording:
    """Part the text into its pieces again. Raises ValueError if they aren't this text's."""
    ends = list(accumulate(length for length, _ in written.pieces))
    if not ends or ends[-1] != len(written.text):
        raise ValueError("the pieces of a recorded answer don't make up its text")
    texts = [written.text[start:end] for start, end in pairwise([0, *ends])]
    finish = Finish(
        reason="length" if written.finish_reason is FinishReason.LENGTH else "stop",
        prompt_tokens=written.prompt_tokens,
        completion_tokens=written.completion_tokens,
        first_token_s=written.first_token_s,
        total_s=written.total_s,
    )
    return Recording(
        Replay(finish, written.seed),
        [Piece(text, ms / 1000) for text, (_, ms) in zip(texts, written.pieces, strict=True)],
    )


async def play(recording: Recording, *, at_once: bool) -> AsyncGenerator[Event, None]:
    """Yield what was recorded, as fast as it came or at once."""
    begun = time.perf_counter()

    async def wait_until(elapsed_s: float) -> None:
        if not at_once:
            await asyncio.sleep(max(0.0, begun + elapsed_s - time.perf_counter()))

    yield recording.replay
    for piece in recording.pieces:
        await wait_until(piece.elapsed_s)
        yield piece
    await wait_until(recording.replay.finish.total_s)
    yield recording.replay.finish
