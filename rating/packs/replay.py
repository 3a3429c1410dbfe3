"""Gives recorded answers again, as sources for a `rating.run.TurnRun`, and the models they are of.

Where a recording comes from is `store`'s or the prompt set's to say; which trial is given which,
the caller's.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from backends.client import Finish, Message, Piece
from backends.recorded import NotRecorded, RecordedModel
from db import Database
from rating.packs import store
from rating.packs.pack import ModelEntry
from rating.prompt_sets import PromptSet
from rating.recordings import Recording, play
from rating.run import Event, Question, Replay, Source, ask_model

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


class PackAnswers:
    """The answers of a stored pack, found by the words of a question.

    For trials without a session: there nobody says which prompt of the set is meant.
    """

    def __init__(self, database: Database, pack_id: str, prompt_set: PromptSet) -> None:
        self._database = database
        self._pack_id = pack_id
        self._prompts = {
            prompt.turns[:position]: prompt.id
            for prompt in reversed(prompt_set.regular)  # of equal ones the first counts
            for position in range(1, len(prompt.turns) + 1)
        }

    async def ask(self, question: Question) -> AsyncGenerator[Event, None]:
        """Give the recorded answer, as fast as it once came; a model that runs gives its own.

        Raises:
            BackendError: NotRecorded, where the pack hasn't this question; else as `ask_model`.
        """
        if isinstance(question.chat_model, RecordedModel):
            stream = play(await asyncio.to_thread(self._find, question), at_once=False)
        else:
            stream = ask_model(question)
        async with aclosing(stream):
            async for event in stream:
                yield event

    def _find(self, question: Question) -> Recording:
        turns = _asked(question.messages)
        try:
            prompt_id = self._prompts[turns]
            key = question.chat_model.model.key
            return store.recording(self._database, self._pack_id, prompt_id, len(turns), key)
        except LookupError as error:
            raise NotRecorded from error


def _asked(messages: Sequence[Message]) -> tuple[str, ...]:
    return tuple(message.content.strip() for message in messages if message.role == "user")
