"""ChatGLM-6B v1, natively: its network, tokenizer and chat format, from its published files.

Executes none of the repository's code, imports no transformers, and torch only where
``load_network`` computes with it. All published forms load: float16 in shards or one file, 8 bits,
4 bits, 4 bits with a quantised embedding, the slim vocabulary and the oldest with its 20,000 image
tokens. Later generations (ChatGLM2, ChatGLM3, GLM-4) are other architectures and are refused; so
are P-tuning prefixes and the 1-D positions.

It gives what the original gave, but for these deliberate differences:

- What looks like a control token in a message ("<sop>", "[MASK]", "<eop>") is text in chat, as
  everything is that a person writes. ``encode`` and ``encode_plain`` do as the original does.
- Ids that stand for no piece (the network has more rows than the tokenizer has pieces) are never
  sampled; the original could draw one and then fail to decode it.
- A stream never shows half a character, nor anything that the end of the answer would change; the
  original shows U+FFFD until a character is complete.
- A system text, which the original doesn't know, stands on a line of its own in front.

To train one: ``ChatGLMNetwork(ChatGLMConfig(...))`` of ``network`` starts at random,
``network(FlatBatch.of(sequences, rows))`` gives logits with gradients, a sequence being
``tokenizer.encode_chat(messages) + tokenizer.encode_text(answer) + [tokenizer.eos_id]``, and
``network.save(folder)`` with ``tokenizer.save(folder)`` writes what ``load_model`` reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backends.server.chatglm.config import ChatGLMConfig, read_config
from backends.server.chatglm.prompt import build_prompt, process_response
from backends.server.chatglm.tokenizer import ChatGLMTokenizer
from backends.server.checkpoints.generation_config import read_sampling
from backends.server.checkpoints.precision import FLOAT32, INT4, INT8, unquantised_precisions
from backends.server.checkpoints.weights import Progress, no_progress
from backends.server.errors import CheckpointError
from backends.server.generation import SamplingSettings

if TYPE_CHECKING:
    from backends.server.model import Network

__all__ = [
    "ChatGLMConfig",
    "ChatGLMTokenizer",
    "build_prompt",
    "fallback_id",
    "load_network",
    "load_tokenizer",
    "possible_precisions",
    "process_response",
    "read_defaults",
]

# Those of the original's chat(), top_k being what transformers of its day added.
CHAT_DEFAULTS = SamplingSettings(temperature=0.95, top_k=50, top_p=0.7)


def possible_precisions(folder: Path) -> tuple[str, ...]:
    """In what the checkpoint can be computed, its own choice first.

    Raises:
        CheckpointError: something is missing, damaged or not supported.
    """
    bits = read_config(folder).quantization_bit
    return (f"int{bits}", FLOAT32) if bits else unquantised_precisions(folder)


def load_network(
    folder: Path,
    precision: str,
    progress: Progress = no_progress,
    adapter: Path | None = None,
    threads: int | None = None,
) -> Network:
    """The network of a checkpoint folder.

    Args:
        folder: holds config.json and the weights.
        precision: one of ``possible_precisions``.
        progress: is told of the stages "weights" and "converting".
        adapter: there is none for this family.
        threads: how many compute; None: as many as there are cores.

    Raises:
        CheckpointError: something is missing, damaged or not supported.
    """
    if adapter is not None:
        raise CheckpointError(f"ChatGLM takes no adapter: {adapter} can't be merged into it.")
    if precision in (INT8, INT4):
        network = _native_network(folder, progress, threads)
        if network is not None:
            return network
    from backends.server.chatglm import checkpoint  # noqa: PLC0415 - imports torch

    return checkpoint.load_network(folder, precision, progress, threads)


def _native_network(folder: Path, progress: Progress, threads: int | None) -> Network | None:
    """The network in native code; None where the CPU or the shape asks for torch."""
    from backends.server.chatglm import native  # noqa: PLC0415 - not where torch computes
    from backends.server.kernels import Compute  # noqa: PLC0415 - as above

    compute, config = Compute.chosen(threads), read_config(folder)
    if compute is None or not native.fits(config):
        return None
    return native.load_network(folder, config, progress, compute)


def load_tokenizer(folder: Path) -> ChatGLMTokenizer:
    """The tokenizer of a checkpoint folder.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    return ChatGLMTokenizer.from_folder(folder)


def read_defaults(folder: Path) -> SamplingSettings:
    """How the checkpoint wants to be sampled; the published ones don't say.

    Raises:
        CheckpointError: its generation_config.json can't be read, or says nonsense.
    """
    return CHAT_DEFAULTS.overridden(read_sampling(folder))


def fallback_id(tokenizer: ChatGLMTokenizer) -> int:
    """The blank piece, which the original says where its logits are no numbers."""
    return tokenizer.blank_id
