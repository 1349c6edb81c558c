"""The second rung: the equations in plain tensor operations, against `fastlstm.reference`, nn.LSTM and finite
differences.
"""

from typing import Any, NamedTuple

import pytest
import torch
from conftest import assert_close
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fastlstm import reference
from fastlstm.torch.runners import composite
from fastlstm.weights import Sizes
from tests.tolerances import TOLERANCE

LENGTHS = [5, 5, 3, 2, 2, 1]
BATCH_SIZES = torch.tensor([6, 5, 3, 2, 2])

SIZES = {
    "plain": Sizes(3, 4),
    "one": Sizes(1, 1),
    "no bias": Sizes(3, 4, bias=False),
    "layers": Sizes(3, 4, layers=3),
    "directions": Sizes(3, 4, D=2),
    "projection": Sizes(3, 5, P=2),
    "everything": Sizes(2, 5, P=3, layers=2, D=2),
    "everything, no bias": Sizes(2, 5, P=3, layers=2, D=2, bias=False),
}


class Drawn(NamedTuple):
    x: Tensor
    h_0: Tensor
    c_0: Tensor
    weights: list[Tensor]
    cotangents: list[Tensor]


def draw(sizes: Sizes, packed: bool, dtype: torch.dtype = torch.float64) -> Drawn:
    T, N = len(BATCH_SIZES), len(LENGTHS)
    lead = (sum(LENGTHS),) if packed else (T, N)
    h_shape, c_shape = (sizes.chains, N, sizes.out), (sizes.chains, N, sizes.H)

    def randn(*shape: int) -> Tensor:
        # Halved: with large complex weights the gates come near the poles of sigmoid and tanh, and rounding errors
        # explode.
        return torch.randn(shape, dtype=dtype).div_(2).requires_grad_()

    return Drawn(
        randn(*lead, sizes.I),
        randn(*h_shape),
        randn(*c_shape),
        [randn(*shape) for shape in sizes.shapes],
        [torch.randn(shape, dtype=dtype) for shape in ((*lead, sizes.D * sizes.out), h_shape, c_shape)],
    )


def lstm(sizes: Sizes, x: Tensor, h_0: Tensor, c_0: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return composite.layer(sizes, x, (h_0, c_0), *rest)


def named(outputs: tuple[Tensor, ...], drawn: Drawn) -> dict[str, Tensor | None]:
    inputs = [drawn.x, drawn.h_0, drawn.c_0, *drawn.weights]
    found = torch.autograd.grad(outputs, inputs, drawn.cotangents)
    names = ["x", "h_0", "c_0", *(str(k) for k in range(len(drawn.weights)))]
    values = dict(zip(("output", "h_n", "c_n"), outputs, strict=True))
    return values | {f"d{name}": d for name, d in zip(names, found, strict=True)}


@pytest.mark.parametrize("P", [0, 2])
def test_one_layer_is_the_reference(P):
    sizes = Sizes(3, 4, P)
    drawn = draw(sizes, packed=False)
    ours = named(lstm(sizes, *drawn[:4], [], None), drawn)
    arrays = [w.detach().numpy() for w in drawn.weights]
    W = reference.Weights(*arrays)
    x, h_0, c_0 = drawn.x.detach().numpy(), drawn.h_0[0].detach().numpy(), drawn.c_0[0].detach().numpy()
    output, states, steps = reference.sequence(reference.lstm, x, (h_0, c_0), W)
    h_n, c_n = states[-1]
    doutput, dh_n, dc_n = (d.numpy() for d in drawn.cotangents)
    dx, (dh_0, dc_0), dW = reference.sequence_backward(
        reference.lstm, doutput, (dh_n[0], dc_n[0]), x, (h_0, c_0), states, steps, W
    )
    found = [output, h_n[None], c_n[None], dx, dh_0[None], dc_0[None], *(d for d in dW if d is not None)]
    assert_close(ours, dict(zip(ours, map(torch.from_numpy, found), strict=True)))


@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_every_option_is_nn_lstm(name, packed, dtype):
    sizes = SIZES[name]
    drawn = draw(sizes, packed, dtype)
    theirs = nn.LSTM(sizes.I, sizes.H, sizes.layers, sizes.bias, bidirectional=sizes.D == 2, proj_size=sizes.P)
    parameters = dict(zip(dict(theirs.named_parameters()), drawn.weights, strict=True))
    sequence = PackedSequence(drawn.x, BATCH_SIZES) if packed else drawn.x
    output, states = torch.func.functional_call(theirs, parameters, (sequence, (drawn.h_0, drawn.c_0)))
    expected = named((output.data if packed else output, *states), drawn)
    ours = named(lstm(sizes, *drawn[:4], [], BATCH_SIZES.tolist() if packed else None), drawn)
    assert_close(ours, expected)


def test_masks_are_factors_between_layers():
    sizes = Sizes(3, 4, layers=2, D=2)
    drawn = draw(sizes, packed=False)
    mask = torch.rand(len(BATCH_SIZES), len(LENGTHS), 8, dtype=torch.float64)
    output = lstm(sizes, *drawn[:4], [mask], None)[0]
    first, second = Sizes(3, 4, D=2), Sizes(8, 4, D=2)
    inner = lstm(first, drawn.x, drawn.h_0[:2], drawn.c_0[:2], drawn.weights[:8], [], None)[0]
    expected = lstm(second, inner * mask, drawn.h_0[2:], drawn.c_0[2:], drawn.weights[8:], [], None)[0]
    assert torch.equal(output, expected)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own forward-mode rules use it
@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
def test_first_and_second_derivatives(packed):
    sizes = Sizes(2, 3, P=2, layers=2, D=2)
    drawn = draw(sizes, packed)
    batch_sizes = BATCH_SIZES.tolist() if packed else None

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        x, h_0, c_0, *weights = tensors
        return lstm(sizes, x, h_0, c_0, weights, [], batch_sizes)

    inputs = (drawn.x, drawn.h_0, drawn.c_0, *drawn.weights)
    assert torch.autograd.gradcheck(run, inputs, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


def test_padding_does_not_exist_in_a_packed_batch():
    """A row's result is that of the row alone."""
    sizes = Sizes(3, 4, layers=2, D=2)
    drawn = draw(sizes, packed=True)
    output, h_n, c_n = lstm(sizes, *drawn[:4], [], BATCH_SIZES.tolist())
    starts = torch.cat([torch.zeros(1, dtype=torch.long), BATCH_SIZES.cumsum(0)])
    for row, length in enumerate(LENGTHS):
        mine = starts[:length] + row
        alone = lstm(
            sizes,
            drawn.x[mine][:, None],
            drawn.h_0[:, row : row + 1],
            drawn.c_0[:, row : row + 1],
            drawn.weights,
            [],
            None,
        )
        for found, expected in zip((output[mine], h_n[:, row], c_n[:, row]), alone, strict=True):
            torch.testing.assert_close(
                found, expected.reshape(found.shape), rtol=0, atol=TOLERANCE[torch.float64, "value"]
            )
