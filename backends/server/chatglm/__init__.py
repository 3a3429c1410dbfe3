"""ChatGLM-6B v1, natively: its network, tokenizer and chat format, from its published files.

Executes none of the repository's code and imports no transformers. Later generations (ChatGLM2,
ChatGLM3, GLM-4) are other architectures and are refused.

To train one: ``ChatGLMNetwork(ChatGLMConfig(...))`` starts at random, ``network(FlatBatch.of(
sequences, rows))`` gives logits with gradients, a sequence being ``tokenizer.encode_chat(messages)
+ tokenizer.encode_text(answer) + [tokenizer.eos_id]``, and ``network.save(folder)`` with
``tokenizer.save(folder)`` writes a checkpoint that ``load_model`` reads.
"""

from pathlib import Path

from backends.server.chatglm.config import ChatGLMConfig
from backends.server.chatglm.network import ChatGLMCache, ChatGLMNetwork
from backends.server.chatglm.prompt import build_prompt, process_response
from backends.server.chatglm.tokenizer import ChatGLMTokenizer
from backends.server.generation import SamplingSettings
from backends.server.weights import Progress, read_json, read_optional_json, read_tensors

__all__ = [
    "ChatGLMCache",
    "ChatGLMConfig",
    "ChatGLMNetwork",
    "ChatGLMTokenizer",
    "build_prompt",
    "fallback_id",
    "load_network",
    "load_tokenizer",
    "process_response",
    "read_defaults",
]

# Those of the original's chat(), top_k being what transformers of its day added.
CHAT_DEFAULTS = SamplingSettings(temperature=0.95, top_k=50, top_p=0.7)


def load_network(folder: Path, progress: Progress) -> ChatGLMNetwork:
    """The network of a checkpoint folder, in float32.

    Raises:
        CheckpointError: something is missing, damaged or not supported.
    """
    config = ChatGLMConfig.from_dict(read_json(folder / "config.json"))
    return ChatGLMNetwork.from_tensors(config, read_tensors(folder, progress))


def load_tokenizer(folder: Path) -> ChatGLMTokenizer:
    """The tokenizer of a checkpoint folder.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    return ChatGLMTokenizer.from_folder(folder)


def read_defaults(folder: Path) -> SamplingSettings:
    """How the checkpoint wants to be sampled; the published ones don't say."""
    return CHAT_DEFAULTS.overridden(read_optional_json(folder / "generation_config.json"))


def fallback_id(tokenizer: ChatGLMTokenizer) -> int:
    """The blank piece, which the original says where its logits are no numbers."""
    return tokenizer.blank_id
