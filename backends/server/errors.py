"""What can go wrong in a model server, in the words of the person who must act.

    ServerError
    ├── CheckpointError    a folder that can't be loaded: files missing, damaged, of unknown kind
    ├── SequenceError      token ids that the model can't take (no <sop>, outside the vocabulary)
    ├── ConversationError  messages that can't be put into a prompt
    ├── ContextError       a prompt that is longer than the model's context
    ├── NotReadyError      the model is still loading, or never will be loaded
    ├── BusyError          no place and no room in the queue
    └── GenerationError    the model failed in the middle of an answer

Knows nothing of HTTP: ``api`` turns these into status codes.
"""


class ServerError(Exception):
    """Anything that a model server says about itself."""


class CheckpointError(ServerError):
    """The model's folder can't be loaded."""


class SequenceError(ServerError, ValueError):
    """These token ids make no sense to this model."""


class ConversationError(ServerError, ValueError):
    """These messages can't be put into a prompt."""


class ContextError(ServerError):
    """The prompt leaves no room for an answer.

    Args:
        prompt_tokens: length of the prompt.
        context: how many tokens the model can hold, prompt and answer together.
    """

    def __init__(self, prompt_tokens: int, context: int) -> None:
        super().__init__(
            f"The prompt has {prompt_tokens} tokens, but this model holds {context} "
            "with the answer. Shorten the prompt or start a new conversation."
        )
        self.prompt_tokens = prompt_tokens
        self.context = context


class NotReadyError(ServerError):
    """There is no model to answer, yet or for ever."""


class BusyError(ServerError):
    """Every place is taken and the queue is full.

    Args:
        running: how many requests are being answered.
        waiting: how many wait already.
    """

    def __init__(self, running: int, waiting: int) -> None:
        super().__init__(
            f"The model is busy, {running + waiting} before you: {running} being answered, "
            f"{waiting} waiting. Try again later."
        )
        self.running = running
        self.waiting = waiting


class GenerationError(ServerError):
    """The model failed while it answered; the log says why."""
