"""Every kind of matrix against the plain product with the same weights."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from backends.server.int4 import published_values
from backends.server.linear import (
    PLAIN,
    FastInt4,
    FastInt8,
    Half,
    Int4,
    Int8,
    PlainLinear,
    Storage,
    StoredMatrix,
    exact,
    fast,
    plain,
)

FEW, MANY = 5, 50
SHAPES = [(64, 96), (256, 176), (512, 48), (40, 24), (32, 16)]  # inputs, outputs


def _filled(matrix: StoredMatrix) -> StoredMatrix:
    """Random numbers in the form of that kind."""
    random = torch.Generator().manual_seed(2)

    def bits(tensor: Tensor) -> Tensor:
        return torch.randint(-128, 128, tensor.shape, dtype=torch.int8, generator=random)

    fillings: dict[str, Callable[[Tensor], Tensor]] = {
        "weight": lambda t: (
            torch.randn(t.shape, generator=random).half() if t.is_floating_point() else bits(t)
        ),
        "weight_scale": lambda t: torch.rand(t.shape, generator=random) / 100 + 0.001,
        "bias": lambda t: torch.randn(t.shape, generator=random),
    }
    state = {name: fillings[name](tensor) for name, tensor in matrix.state_dict().items()}
    matrix.load_state_dict(state, assign=True)
    return matrix


def _input(tokens: int, inputs: int) -> Tensor:
    return torch.randn(tokens, inputs, generator=torch.Generator().manual_seed(3))


def _float_weight(matrix: StoredMatrix) -> Tensor:
    """What the stored weights stand for, by their definition."""
    if isinstance(matrix, Half):
        return matrix.weight.float()
    assert isinstance(matrix, Int8)
    numbers = published_values(matrix.weight) if isinstance(matrix, Int4) else matrix.weight
    return matrix.weight_scale.unsqueeze(1) * numbers


def _fast_from(source: StoredMatrix, storage: Storage) -> nn.Module:
    made = storage.linear(source.inputs, source.outputs)
    assert isinstance(made, StoredMatrix)
    state = {name: made.made_from(source, name) for name in made.state_dict()}
    made.load_state_dict(state, assign=True)
    return made


@pytest.mark.parametrize("kind", [Half, Int8, Int4])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
@pytest.mark.parametrize("tokens", [FEW, MANY])
def test_exact_kinds_give_the_product_of_what_they_stand_for(
    kind: type[StoredMatrix], inputs: int, outputs: int, tokens: int
) -> None:
    matrix = _filled(kind(inputs, outputs))
    weight, hidden = _float_weight(matrix), _input(tokens, inputs)
    assert torch.equal(matrix.rows(torch.arange(outputs)), weight)
    expected = nn.functional.linear(hidden, weight, matrix.bias)
    torch.testing.assert_close(matrix(hidden), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(("kind", "bits"), [(Int8, 8), (Int4, 4)])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
@pytest.mark.parametrize("tokens", [1, FEW, MANY])
def test_fast_kinds_give_it_up_to_the_rounding_of_activations(
    kind: type[StoredMatrix], bits: int, inputs: int, outputs: int, tokens: int
) -> None:
    matrix = _filled(kind(inputs, outputs))
    hidden = _input(tokens, inputs)
    ours = _fast_from(matrix, fast(bits, 16))(hidden)
    rounded = nn.functional.linear(hidden.bfloat16().float(), _float_weight(matrix), matrix.bias)
    assert ours.dtype == torch.float32
    # The kernels give bfloat16: eight bits of the largest number.
    torch.testing.assert_close(ours, rounded, atol=float(rounded.abs().max()) / 128, rtol=0)


@pytest.mark.parametrize(("kind", "bits"), [(Int8, 8), (Int4, 4)])
def test_few_and_many_tokens_give_the_same_product(kind: type[StoredMatrix], bits: int) -> None:
    matrix = _filled(kind(256, 176))
    made = _fast_from(matrix, fast(bits, 16))
    hidden = _input(MANY, 256)
    few = torch.cat([made(hidden[start : start + FEW]) for start in range(0, MANY, FEW)])
    torch.testing.assert_close(made(hidden), few, atol=float(few.abs().max()) / 128, rtol=0)


@pytest.mark.parametrize(("kind", "bits"), [(Int8, 8), (Int4, 4)])
def test_fast_tables_look_up_exact_rows_from_the_copy_that_is_multiplied(
    kind: type[StoredMatrix], bits: int
) -> None:
    source = _filled(kind.table(176, 64))
    made = fast(bits, bits).table(176, 64)
    assert isinstance(made, FastInt8 | FastInt4)
    state = {name: made.made_from(source, name) for name in made.state_dict()}
    made.load_state_dict(state, assign=True)
    assert set(state) == {"weight", "weight_scale"}
    numbers = torch.tensor([175, 0, 63, 64, 128, 129])
    assert torch.equal(made.rows(numbers), _float_weight(source)[numbers])
    rounded = nn.functional.linear(_input(3, 64).bfloat16().float(), _float_weight(source))
    ours = made.product(_input(3, 64))
    torch.testing.assert_close(ours, rounded, atol=float(rounded.abs().max()) / 128, rtol=0)


@pytest.mark.parametrize(("inputs", "outputs"), [(64, 24), (48, 64), (40, 24)])
def test_four_bits_in_shapes_that_the_kernel_does_not_take_stay_as_published(
    inputs: int, outputs: int
) -> None:
    made = fast(4, 16).linear(inputs, outputs)
    assert isinstance(made, Int4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_plain_kinds_compute_in_their_type_and_give_float32(dtype: torch.dtype) -> None:
    storage = plain(dtype)
    layer, table = storage.linear(64, 96), storage.table(96, 64)
    hidden = _input(3, 64)
    for ours in (layer(hidden), table.product(hidden), table.rows(torch.tensor([1, 2]))):
        assert ours.dtype == torch.float32
    expected = nn.functional.linear(hidden.to(dtype), table.weight).float()
    torch.testing.assert_close(table.product(hidden), expected)
    assert storage.attention == dtype


def test_plain_kinds_begin_with_the_random_numbers_of_torchs_own() -> None:
    """Else trained models could not be trained again, bit for bit."""
    torch.manual_seed(7)
    expected = nn.Linear(8, 4).weight, nn.Embedding(4, 8).weight
    torch.manual_seed(7)
    layer, table = PLAIN.linear(8, 4), PLAIN.table(4, 8)
    assert isinstance(layer, PlainLinear)
    assert torch.equal(layer.weight, expected[0])
    assert torch.equal(table.weight, expected[1])


def test_plain_kinds_learn() -> None:
    layer = PLAIN.linear(8, 4)
    layer(_input(2, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_exact_and_fast_storages_say_in_what_attention_is_computed() -> None:
    assert exact(4, 16).attention == torch.float32
    assert fast(4, 16).attention == torch.bfloat16
