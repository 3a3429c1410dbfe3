"""A conversation as a chat model takes it: who said what, checked.

Knows no prompt format and no tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from backends.server.errors import ConversationError

ROLES = ("system", "user", "assistant")


class MessageLike(Protocol):
    """Anything with a role and a content."""

    @property
    def role(self) -> str:
        """One of ``ROLES``."""

    @property
    def content(self) -> str:
        """What was said."""


@dataclass(frozen=True)
class Utterance:
    """One message."""

    role: str
    content: str


@dataclass(frozen=True)
class Conversation:
    """A system text (maybe empty), finished rounds, and the question to answer."""

    system: str | None
    rounds: tuple[tuple[str, str], ...]
    question: str

    @property
    def utterances(self) -> list[Utterance]:
        """The messages in their order."""
        system = [] if self.system is None else [Utterance("system", self.system)]
        said = [
            Utterance(role, content)
            for pair in self.rounds
            for role, content in zip(("user", "assistant"), pair, strict=True)
        ]
        return [*system, *said, Utterance("user", self.question)]


def read_conversation(
    messages: Sequence[MessageLike | Mapping[str, str]],
) -> Conversation:
    """Checks messages and sorts them into rounds.

    Args:
        messages: objects with ``role`` and ``content``, or mappings with these keys: at most one
            system message, in front, then user and assistant in turn, a user message last.

    Raises:
        ConversationError: the messages don't follow that order.
    """
    said = [
        Utterance(item["role"], item["content"])
        if isinstance(item, Mapping)
        else Utterance(item.role, item.content)
        for item in messages
    ]
    system = said.pop(0).content if said and said[0].role == "system" else None
    expected = ["user", "assistant"] * len(said)
    if len(said) % 2 == 0 or any(
        message.role != role for message, role in zip(said, expected, strict=False)
    ):
        raise ConversationError(
            "Messages must be: at most one system message, in front; then user and assistant "
            "in turn, beginning and ending with user."
        )
    texts = [message.content for message in said]
    return Conversation(system, tuple(zip(texts[::2], texts[1::2], strict=False)), texts[-1])
