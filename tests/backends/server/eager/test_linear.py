"""Every kind of matrix against the plain product with the same weights."""

import pytest
import torch
from torch import Tensor, nn

from backends.server.checkpoints.precision import INT4_GROUP
from backends.server.checkpoints.quantising import QuantisedMatrix
from backends.server.eager.linear import (
    PLAIN,
    FastInt4,
    FastInt8,
    GroupedInt4,
    Half,
    Int4,
    Int8,
    PlainLinear,
    StoredMatrix,
    exact,
    fast,
    plain,
)

FEW, MANY = 5, 50
SHAPES = [(64, 96), (256, 176), (512, 48), (40, 24), (32, 16)]  # inputs, outputs
GROUPED = [shape for shape in SHAPES if shape[0] % INT4_GROUP == 0]


def _quantised(bits: int, inputs: int, outputs: int, *, grouped: bool = False) -> QuantisedMatrix:
    """Random numbers and scales."""
    random = torch.Generator().manual_seed(2)
    most = 2 ** (bits - 1)
    numbers = torch.randint(-most, most, (outputs, inputs), dtype=torch.int8, generator=random)
    scales = torch.rand(outputs, generator=random) / 100 + 0.001
    if grouped:
        shape = (outputs, inputs // INT4_GROUP)
        scales = ((torch.rand(shape, generator=random) - 0.5) / 100).half()
    return QuantisedMatrix("a", bits, (outputs, inputs), lambda: numbers, lambda: scales)


def _weight(matrix: QuantisedMatrix) -> Tensor:
    """What the numbers and scales stand for, by their definition."""
    rows, columns = matrix.shape
    scales = matrix.scales().float().view(rows, -1, 1)
    return (matrix.numbers().view(rows, scales.shape[1], -1) * scales).view(rows, columns)


def _bias(outputs: int) -> Tensor:
    return torch.randn(outputs, generator=torch.Generator().manual_seed(4))


def _stored(made: nn.Module, matrix: QuantisedMatrix) -> StoredMatrix:
    """A new matrix of some kind with these numbers."""
    assert isinstance(made, StoredMatrix)
    state = {name: made.stored_form(matrix, name) for name in ("weight", "weight_scale")}
    if made.bias is not None:
        state["bias"] = _bias(made.outputs)
    made.load_state_dict(state, assign=True)
    return made


def _input(tokens: int, inputs: int) -> Tensor:
    return torch.randn(tokens, inputs, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
@pytest.mark.parametrize("tokens", [FEW, MANY])
def test_the_exact_kind_of_sixteen_bits_gives_the_product_of_what_it_stands_for(
    inputs: int, outputs: int, tokens: int
) -> None:
    matrix = Half(inputs, outputs)
    state = {"weight": _input(outputs, inputs).half(), "bias": _bias(outputs)}
    matrix.load_state_dict(state, assign=True)
    assert torch.equal(matrix.rows(torch.arange(outputs)), state["weight"].float())
    hidden = _input(tokens, inputs)
    expected = nn.functional.linear(hidden, state["weight"].float(), state["bias"])
    torch.testing.assert_close(matrix(hidden), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "bits", "inputs", "outputs"),
    [
        *((Int8, 8, *shape) for shape in SHAPES),
        *((Int4, 4, *shape) for shape in SHAPES),
        *((GroupedInt4, 4, *shape) for shape in GROUPED),
    ],
)
@pytest.mark.parametrize("tokens", [FEW, MANY])
def test_exact_kinds_give_the_product_of_what_they_stand_for(
    kind: type[StoredMatrix], bits: int, inputs: int, outputs: int, tokens: int
) -> None:
    source = _quantised(bits, inputs, outputs, grouped=kind is GroupedInt4)
    matrix = _stored(kind(inputs, outputs), source)
    weight, hidden = _weight(source), _input(tokens, inputs)
    assert torch.equal(matrix.rows(torch.arange(outputs)), weight)
    expected = nn.functional.linear(hidden, weight, matrix.bias)
    torch.testing.assert_close(matrix(hidden), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("bits", "grouped", "inputs", "outputs"),
    [
        *((8, False, *shape) for shape in SHAPES),
        *((4, False, *shape) for shape in SHAPES),
        *((4, True, *shape) for shape in GROUPED),
    ],
)
@pytest.mark.parametrize("tokens", [1, FEW, MANY])
def test_fast_kinds_give_it_up_to_the_rounding_of_activations(
    bits: int, grouped: bool, inputs: int, outputs: int, tokens: int
) -> None:
    source = _quantised(bits, inputs, outputs, grouped=grouped)
    hidden = _input(tokens, inputs)
    matrix = _stored(fast(bits, 8, grouped=grouped).linear(inputs, outputs), source)
    ours = matrix(hidden)
    rounded = nn.functional.linear(hidden.bfloat16().float(), _weight(source), _bias(outputs))
    assert ours.dtype == torch.float32
    # The kernels give bfloat16: eight bits of the largest number.
    torch.testing.assert_close(ours, rounded, atol=float(rounded.abs().max()) / 128, rtol=0)


@pytest.mark.parametrize(("bits", "grouped"), [(8, False), (4, False), (4, True)])
def test_few_and_many_tokens_give_the_same_product(bits: int, grouped: bool) -> None:
    source = _quantised(bits, 256, 176, grouped=grouped)
    made = _stored(fast(bits, 8, grouped=grouped).linear(256, 176), source)
    hidden = _input(MANY, 256)
    few = torch.cat([made(hidden[start : start + FEW]) for start in range(0, MANY, FEW)])
    torch.testing.assert_close(made(hidden), few, atol=float(few.abs().max()) / 128, rtol=0)


@pytest.mark.parametrize("bits", [8, 4])
def test_fast_tables_look_up_exact_rows_from_the_copy_that_is_multiplied(bits: int) -> None:
    source = _quantised(bits, 64, 176)
    made = fast(bits, bits).table(176, 64)
    assert isinstance(made, FastInt8 | FastInt4)
    _stored(made, source)
    assert set(made.state_dict()) == {"weight", "weight_scale"}
    numbers = torch.tensor([175, 0, 63, 64, 128, 129])
    assert torch.equal(made.rows(numbers), _weight(source)[numbers])
    rounded = nn.functional.linear(_input(3, 64).bfloat16().float(), _weight(source))
    ours = made.product(_input(3, 64))
    torch.testing.assert_close(ours, rounded, atol=float(rounded.abs().max()) / 128, rtol=0)


@pytest.mark.parametrize(("grouped", "kind"), [(False, Int4), (True, GroupedInt4)])
def test_rows_of_fast_kinds_in_groups_are_exact_but_for_rounded_scales(
    grouped: bool, kind: type[StoredMatrix]
) -> None:
    source = _quantised(4, 256, 176, grouped=grouped)
    made = fast(4, 8, grouped=grouped).linear(256, 176)
    assert isinstance(made, FastInt4)
    rows = _stored(made, source).rows(torch.arange(176))
    exact_rows = _stored(kind(256, 176), source).rows(torch.arange(176))
    # bfloat16 has eight bits.
    torch.testing.assert_close(rows, exact_rows, atol=1e-9, rtol=1 / 256)


@pytest.mark.parametrize(("inputs", "outputs"), [(64, 24), (48, 64), (40, 24)])
def test_four_bits_in_shapes_that_the_kernel_does_not_take_stay_as_published(
    inputs: int, outputs: int
) -> None:
    made = fast(4, 16).linear(inputs, outputs)
    assert isinstance(made, Int4)


@pytest.mark.parametrize("bias", [True, False])
def test_every_storage_makes_layers_with_and_without_a_bias(bias: bool) -> None:
    for storage in (PLAIN, exact(4, 16), fast(8, 16), fast(4, 8, grouped=True)):
        names = storage.linear(64, 96, bias=bias).state_dict()
        assert ("bias" in names) == bias


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
