"""Where the tokens of a ChatGLM sequence stand, and what they see.

What comes before the first <sop> sees itself in both directions; what follows sees all before it.
Positions are two: one counts the tokens up to <sop> and then stays at the mask, the other counts
from <sop> on. Knows no network.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from backends.server.batch import Span, common_prefix
from backends.server.chatglm.config import ChatGLMConfig
from backends.server.errors import SequenceError


def context_length(sequence: Sequence[int], config: ChatGLMConfig) -> int:
    """Where the first <sop> stands.

    Raises:
        SequenceError: there is none.
    """
    try:
        return sequence.index(config.bos_token_id)
    except ValueError:
        raise SequenceError("A ChatGLM sequence needs a <sop> token.") from None


def positions(span: Span, context: int, config: ChatGLMConfig) -> NDArray[np.int64]:
    """Position and block position of a span's tokens, (2, n).

    Raises:
        SequenceError: the sequence has neither [gMASK] nor [MASK].
    """
    mask = _mask_position(span.sequence, config)
    index = np.arange(span.past, span.past + len(span.token_ids))
    return np.stack((np.where(index < context, index, mask), np.maximum(index - context + 1, 0)))


def seen(span: Span, context: int) -> NDArray[np.int64]:
    """How many of the sequence's tokens each of a span's sees, (n,)."""
    index = np.arange(span.past, span.past + len(span.token_ids))
    return np.maximum(index + 1, context)


def reusable(stored: Sequence[int], prompt: Sequence[int], config: ChatGLMConfig) -> int:
    """How many of a stored sequence's first tokens serve a prompt.

    None, unless all up to the prompt's <sop> is what it was: the tokens before it saw each other in
    both directions.
    """
    if config.bos_token_id not in prompt:
        return 0
    end = prompt.index(config.bos_token_id) + 1
    same = list(stored[:end]) == list(prompt[:end])
    return common_prefix(stored, prompt) if same else 0


def frequencies(config: ChatGLMConfig) -> NDArray[np.float32]:
    """Rotary frequencies of one half of a head, (head_dim / 4,).

    Checkpoints were trained with them rounded to float16; exact ones shift the logits by 0.26
    after 300 tokens.
    """
    width = config.head_dim // 2
    exponents = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
    exact = np.float32(1) / np.power(np.float32(10000), exponents, dtype=np.float32)
    rounded: NDArray[np.float32] = exact.astype(np.float16).astype(np.float32)
    return rounded


def _mask_position(sequence: Sequence[int], config: ChatGLMConfig) -> int:
    """Where the first [gMASK] stands, or else the first [MASK]."""
    for token in (config.gmask_token_id, config.mask_token_id):
        if token in sequence:
            return sequence.index(token)
    raise SequenceError("A ChatGLM sequence needs a [gMASK] or [MASK] token.")
