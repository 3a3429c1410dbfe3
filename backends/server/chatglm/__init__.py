"""ChatGLM-6B v1, natively: its network, tokenizer and chat format, from its published files.

Executes none of the repository's code and imports no transformers. All published forms load:
float16 in shards or one file, 8 bits, 4 bits, 4 bits with a quantised embedding, the slim
vocabulary and the oldest with its 20,000 image tokens. Later generations (ChatGLM2, ChatGLM3,
GLM-4) are other architectures and are refused; so are P-tuning prefixes and the 1-D positions.

It gives what the original gave, but for these deliberate differences:

- What looks like a control token in a message ("<sop>", "[MASK]", "<eop>") is text in chat, as
  everything is that a person writes. ``encode`` and ``encode_plain`` do as the original does.
- Ids that stand for no piece (the network has more rows than the tokenizer has pieces) are never
  sampled; the original could draw one and then fail to decode it.
- A stream never shows half a character, nor anything that the end of the answer would change; the
  original shows U+FFFD until a character is complete.
- A system text, which the original doesn't know, stands on a line of its own in front.

To train one: ``ChatGLMNetwork(ChatGLMConfig(...))`` starts at random, ``network(FlatBatch.of(
sequences, rows))`` gives logits with gradients, a sequence being ``tokenizer.encode_chat(messages)
+ tokenizer.encode_text(answer) + [tokenizer.eos_id]``, and ``network.save(folder)`` with
``tokenizer.save(folder)`` writes a checkpoint that ``load_model`` reads.
"""

from pathlib import Path

from backends.server.chatglm.checkpoint import load_network, possible_precisions
from backends.server.chatglm.config import ChatGLMConfig
from backends.server.chatglm.network import ChatGLMCache, ChatGLMNetwork
from backends.server.chatglm.prompt import build_prompt, process_response
from backends.server.chatglm.tokenizer import ChatGLMTokenizer
from backends.server.generation import SamplingSettings
from backends.server.generation_config import read_sampling

__all__ = [
    "ChatGLMCache",
    "ChatGLMConfig",
    "ChatGLMNetwork",
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
