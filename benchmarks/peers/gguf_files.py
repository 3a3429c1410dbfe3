"""A Qwen2 checkpoint as llama.cpp reads it: the same weights as GGUF, in Q8_0 and in Q4_0.

    PYTHON -m benchmarks.peers.gguf_files CHECKPOINT FOLDER

Run by the peers' Python, which has llama.cpp's own packages: llama.cpp itself quantises, so what
precision the head has is its choice. The file has no tokenizer, only its size. Measures nothing.
"""

import ctypes
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = {"q8_0": "LLAMA_FTYPE_MOSTLY_Q8_0", "q4_0": "LLAMA_FTYPE_MOSTLY_Q4_0"}

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def main(checkpoint: Path, folder: Path) -> None:
    """Write what of the files isn't there yet."""
    wanted = {kind: folder / f"qwen-{kind}.gguf" for kind in KINDS}
    missing = {kind: path for kind, path in wanted.items() if not path.exists()}
    if not missing:
        return
    full = folder / "qwen-bf16.gguf"
    write_gguf(checkpoint, full)
    for kind, path in missing.items():
        _quantise(full, path, KINDS[kind])
    full.unlink()


def write_gguf(checkpoint: Path, path: Path) -> None:
    """Write the checkpoint's tensors as they are stored: matrices bfloat16, vectors float32."""
    gguf: Any = importlib.import_module("gguf")
    settings = json.loads((checkpoint / "config.json").read_bytes())
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(settings["max_position_embeddings"])
    writer.add_embedding_length(settings["hidden_size"])
    writer.add_block_count(settings["num_hidden_layers"])
    writer.add_feed_forward_length(settings["intermediate_size"])
    writer.add_head_count(settings["num_attention_heads"])
    writer.add_head_count_kv(settings["num_key_value_heads"])
    writer.add_rope_freq_base(settings["rope_theta"])
    writer.add_layer_norm_rms_eps(settings["rms_norm_eps"])
    writer.add_vocab_size(settings["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    bfloat16 = gguf.GGMLQuantizationType.BF16
    for name, words in bfloat16_tensors(checkpoint / "model.safetensors"):
        if words.ndim == 1:
            writer.add_tensor(gguf_name(name), widened(words))
        else:
            writer.add_tensor(gguf_name(name), words.view(np.uint8), raw_dtype=bfloat16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def bfloat16_tensors(path: Path) -> Iterator[tuple[str, NDArray[np.uint16]]]:
    """The tensors of a safetensors file of bfloat16, as 16-bit words, mapped."""
    data = np.memmap(path, mode="r")
    header_bytes = int(data[:8].view("<u8")[0])
    header = json.loads(bytes(data[8 : 8 + header_bytes]))
    header.pop("__metadata__", None)
    for name, tensor in header.items():
        if tensor["dtype"] != "BF16":
            raise ValueError(f"{name} is stored as {tensor['dtype']}, not bfloat16")
        begin, end = (8 + header_bytes + offset for offset in tensor["data_offsets"])
        yield name, data[begin:end].view(np.uint16).reshape(tensor["shape"])


def widened(words: NDArray[np.uint16]) -> NDArray[np.float32]:
    """bfloat16 words as float32."""
    return (words.astype(np.uint32) << 16).view(np.float32)


def gguf_name(name: str) -> str:
    """What llama.cpp calls a published tensor."""
    stem, _, kind = name.rpartition(".")
    if stem in _NAMES:
        return f"{_NAMES[stem]}.{kind}"
    _, _, number, part = stem.split(".", 3)
    return f"blk.{number}.{_LAYER_NAMES[part]}.{kind}"


def _quantise(source: Path, target: Path, kind: str) -> None:
    llama: Any = importlib.import_module("llama_cpp")
    settings = llama.llama_model_quantize_default_params()
    settings.ftype = getattr(llama, kind)
    unfinished = target.with_suffix(".part")
    failed = llama.llama_model_quantize(bytes(source), bytes(unfinished), ctypes.byref(settings))
    if failed:
        raise RuntimeError(f"llama.cpp could not write {target}: {failed}")
    unfinished.rename(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
