"""Makes a torch network of a ChatGLM checkpoint folder, in one of the precisions that it allows.

An unquantised checkpoint is loaded into float32 or bfloat16. A quantised one stays as it is: for
float32 its own bytes are mapped and computed with exactly; for int8 and int4 they are written once
in the form of torch's kernels (see ``checkpoints.packing``), which is mapped from then on.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from torch import Tensor

from backends.server.chatglm.config import ChatGLMConfig, read_config
from backends.server.chatglm.network import ChatGLMNetwork
from backends.server.checkpoints.int4 import kernel_layout, published_values
from backends.server.checkpoints.precision import FLOAT32
from backends.server.checkpoints.quantising import PlainTensor, Quantised, QuantisedMatrix
from backends.server.checkpoints.weights import Progress, no_progress, read_tensors
from backends.server.eager.linear import DTYPES, Int8, exact, fast, plain
from backends.server.eager.network import TorchNetwork, use_threads
from backends.server.eager.packed_network import packed_state

_TABLE = "transformer.word_embeddings.weight"


def load_network(
    folder: Path, precision: str, progress: Progress, threads: int | None
) -> TorchNetwork:
    """See the package's."""
    use_threads(threads)
    config = read_config(folder)
    if not config.quantization_bit:
        storage = plain(DTYPES[precision])
        network = ChatGLMNetwork.from_tensors(config, read_tensors(folder, progress), storage)
    elif precision == FLOAT32:
        network = _exact(folder, config, progress)
    else:
        network = _load_packed(folder, config, progress)
    return TorchNetwork(network)


def quantised_tensors(folder: Path) -> Iterator[Quantised]:
    """Every tensor of a quantised checkpoint, made one at a time.

    Matrices are in the numbers and row scales that are published, losslessly; an embedding that
    isn't quantised is in float16; norms and biases are in float32.

    Raises:
        CheckpointError: something is missing, damaged or doesn't fit the config.
    """
    config = read_config(folder)
    # Reads nothing but headers, and finds out whether all is there.
    network = _exact(folder, config, no_progress)
    matrices = {path: one for path, one in network.named_modules() if isinstance(one, Int8)}
    for path, matrix in matrices.items():
        yield _matrix(path, matrix, config.quantization_bit)
    for name, tensor in network.state_dict().items():
        if name.rpartition(".")[2] == "bias" or name.rpartition(".")[0] not in matrices:
            values = tensor.half if name == _TABLE else tensor.float
            yield PlainTensor(name, tuple(tensor.shape), values)


def _matrix(path: str, matrix: Int8, bits: int) -> QuantisedMatrix:
    def numbers() -> Tensor:
        return published_values(matrix.weight) if bits == 4 else matrix.weight

    shape = (matrix.outputs, matrix.inputs)
    return QuantisedMatrix(path, bits, shape, numbers, lambda: matrix.weight_scale)


def _exact(folder: Path, config: ChatGLMConfig, progress: Progress) -> ChatGLMNetwork:
    """The network over the checkpoint's own mapped bytes."""
    storage = exact(config.quantization_bit, config.table_bits)
    return ChatGLMNetwork.from_tensors(config, read_tensors(folder, progress), storage)


def _load_packed(folder: Path, config: ChatGLMConfig, progress: Progress) -> ChatGLMNetwork:
    storage = fast(config.quantization_bit, config.table_bits)
    state = packed_state(
        folder,
        _packed_name(config),
        ChatGLMNetwork.on_meta(config, storage),
        partial(quantised_tensors, folder),
        progress,
    )
    progress("weights", 1.0)
    return ChatGLMNetwork.from_tensors(config, state.items(), storage)


def _packed_name(config: ChatGLMConfig) -> str:
    if config.quantization_bit == 8:
        return "int8"
    layout = kernel_layout()
    return f"int4-{layout.name if layout else 'published'}"
