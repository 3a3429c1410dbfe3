"""Gives recorded answers again, as sources for a `rating.run.TurnRun`, and the models they are of.

Where a recording comes from is `store`'s or the prompt set's to say; which trial is given which,
the caller's.
"""

from collections.abc import AsyncGenerator

from backends.client import Finish, Piece
from backends.recorded import RecordedModel
from rating.packs.pack import ModelEntry
from rating.recordings import Recording, play
from rating.run import Event, Question, Replay, Source

_PIECE_CHARS = 2
"""About what a token of a chat model is."""

PackedModel = RecordedModel
"""A model of a pack, which satisfies `rating.run.ChatModel` and has no server."""


def packed_model(entry: ModelEntry) -> PackedModel:
    """Return the model of a pack as the app asks it; its endpoint raises ModelUnavailable."""
    return RecordedModel(entry.model(), entry.precision)


def replay(recording: Recording, *, at_once: bool) -> AsyncGenerator[Event, None]:
    """Yield a recorded answer, as fast as it once came or at once."""
    return play(recording, at_once=at_once)


def replaying(recording: Recording, *, at_once: bool) -> Source:
    """Return a source that gives this answer, whatever it is asked."""

    def source(_: Question) -> AsyncGenerator[Event, None]:
        return play(recording, at_once=at_once)

    return source


def written_recording(text: str, *, first_s: float = 0.5, chars_per_s: float = 20.0) -> Recording:
    """Return a text of a prompt set as if it had been recorded: an even pace, no token counts.

    Args:
        text: An answer of an attention item; not empty.
        first_s: When its first piece comes, in seconds.
        chars_per_s: Its pace from there on.
    """
    pieces = [
        Piece(text[start : start + _PIECE_CHARS], first_s + start / chars_per_s)
        for start in range(0, len(text), _PIECE_CHARS)
    ]
    finish = Finish("stop", None, None, pieces[0].elapsed_s, pieces[-1].elapsed_s)
    return Recording(Replay(finish, seed=0), pieces)
