"""The engine's chain and its passes against the equations in plain tensor operations: every derivative that torch can ask for, in
float64, of both cells, dense and packed, in both directions.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import grad, hessian, jvp, vmap

from fastlstm import _engine
from fastlstm.cells import BY_NAME
from fastlstm.torch.graph import chain
from fastlstm.torch.graph.chain import of_input
from fastlstm.torch.graph.chain.products import product
from fastlstm.torch.runners import composite
from fastlstm.weights import Sizes
from tests.tolerances import TOLERANCE

# torch's own decompositions for forward mode use what it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
# Of numbers of order 1 to 100: sums of products of derivatives.
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


class Case(NamedTuple):
    sizes: Sizes
    batch_sizes: list[int] | None
    reverse: bool
    names: list[str]
    tensors: tuple[Tensor, ...]  # x, h_0, c_0, then the weights

    def run(self, by: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The steps and last states, by composite.chain or chain.run."""
        states = len(self.sizes.of_states)
        steps, last = by(
            self.sizes, tensors[0], tensors[1 : 1 + states], tensors[1 + states :], self.reverse, self.batch_sizes
        )
        return (*steps, *last)

    def loss(self, by: Any, *tensors: Tensor) -> Tensor:
        return sum((t * t).sum() for t in self.run(by, *tensors))

    def assert_same(self, of: Callable[[Any], Any]) -> None:
        expected, found = of(composite.chain), of(chain.run)
        torch.testing.assert_close(found, expected, **CLOSE)


def draw(
    cell: str = "LSTM",
    P: int = 0,
    bias: bool = True,
    batch_sizes: list[int] | None = None,
    reverse: bool = False,
    T: int = 4,
    N: int = 3,
    I: int = 3,
    H: int = 5,
    dtype: torch.dtype = torch.float64,
) -> Case:
    sizes = Sizes(I, H, P, 1, 1, bias, cell=BY_NAME[cell])
    random = torch.Generator().manual_seed(T * 1000 + N * 100 + H)
    if batch_sizes is not None:
        N = batch_sizes[0]
    shapes = [(T, N, I) if batch_sizes is None else (sum(batch_sizes), I), *((N, f) for f in sizes.of_states)]
    tensors = [torch.randn(shape, dtype=dtype, generator=random) for shape in shapes]
    tensors += [torch.randn(shape, dtype=dtype, generator=random) / 2 for shape in sizes.shapes]
    names = ["x", *(f"{s}_0" for s in sizes.cell.states), "w_ih", "w_hh", *(["b_ih", "b_hh"] if bias else []), "w_hr"]
    return Case(sizes, batch_sizes, reverse, names, tuple(tensors))


PACKED = [3, 2, 2, 1]
CASES = {
    f"{cell} {'P' if P else ''} {'' if bias else 'no bias'} {'packed' if rows else ''} {'reverse' if reverse else ''}": draw(
        cell, P, bias, rows, reverse
    )
    for cell in ("LSTM", "GRU")
    for P in ((0, 2) if cell == "LSTM" else (0,))
    for bias in (True, False)
    for rows in (None, PACKED)
    for reverse in (False, True)
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture(params=["within", "before"], autouse=True)
def _where_x_is_added_up(request, monkeypatch):
    """Within the pass, as where weights are small, or in a product of all rows before it."""
    if request.param == "before":
        monkeypatch.setattr(of_input, "_CACHE", 0)


def named(case: Case, found: Any) -> dict[str, Tensor]:
    return dict(zip(case.names, found, strict=False))


@each_case
def test_values_and_the_first_three_orders(case):
    leaves = tuple(t.clone().requires_grad_() for t in case.tensors)
    random = torch.Generator().manual_seed(0)
    weights = [torch.randn(t.shape, dtype=t.dtype, generator=random) for t in leaves]

    def orders(by: Any) -> Any:
        results = case.run(by, *leaves)
        first = torch.autograd.grad(sum((t * t).sum() for t in results), leaves, create_graph=True)
        scalar = sum((d * w).sum() + (d * d).sum() for d, w in zip(first, weights, strict=True))
        second = torch.autograd.grad(scalar, leaves, create_graph=True)
        third = torch.autograd.grad(sum((d * d).sum() for d in second) / 100, leaves)
        return list(results), *(named(case, each) for each in (first, second, third))

    case.assert_same(orders)


@each_case
def test_forward_mode_alone_and_of_forward_and_backward(case):
    random = torch.Generator().manual_seed(0)
    along = tuple(torch.randn(t.shape, dtype=t.dtype, generator=random) for t in case.tensors)
    everything = tuple(range(len(case.tensors)))
    case.assert_same(lambda by: jvp(partial(case.run, by), case.tensors, along)[1])
    case.assert_same(lambda by: jvp(grad(partial(case.loss, by), everything), case.tensors, along)[1])

    def directional(by: Any, *tensors: Tensor) -> Tensor:
        return jvp(partial(case.loss, by), tensors, along)[1]

    case.assert_same(lambda by: grad(partial(directional, by), everything)(*case.tensors))
    case.assert_same(lambda by: jvp(partial(directional, by), case.tensors, along)[1])


@pytest.mark.parametrize("wanted", range(7))
def test_one_tangent_and_one_gradient_alone(wanted):
    """What is not asked for is None on the way."""
    for case in (draw(), draw("GRU", batch_sizes=PACKED)):
        k = min(wanted, len(case.tensors) - 1)

        def of_one(by: Any, tensor: Tensor, case: Case = case, k: int = k) -> Tensor:
            return case.loss(by, *case.tensors[:k], tensor, *case.tensors[k + 1 :])

        along = torch.ones_like(case.tensors[k])
        case.assert_same(lambda by, f=of_one, t=case.tensors[k], v=along: jvp(partial(f, by), (t,), (v,))[1])
        case.assert_same(lambda by, f=of_one, t=case.tensors[k], v=along: jvp(grad(partial(f, by)), (t,), (v,))[1])


@each_case
@pytest.mark.parametrize("batched", ["x", "x and states", "weights", "all"])
def test_batched_calls_and_gradients(case, batched):
    states = len(case.sizes.of_states)
    of_input = {"x": 1, "x and states": 1 + states, "weights": 0, "all": 1 + states}[batched]
    of_weights = batched in ("weights", "all")
    dims = tuple(
        (1 if t.dim() > 1 else 0) if k < of_input or (k > states and of_weights) else None
        for k, t in enumerate(case.tensors)
    )
    members = 2
    given = [t if d is None else torch.stack([t, t.flip(0)], d) for t, d in zip(case.tensors, dims, strict=True)]
    everything = tuple(range(len(given)))

    def of_member(k: int) -> list[Tensor]:
        return [t if d is None else t.select(d, k) for t, d in zip(given, dims, strict=True)]

    for of in (case.run, lambda by, *t: grad(partial(case.loss, by), everything)(*t)):
        expected = [
            torch.stack(each)
            for each in zip(*(of(composite.chain, *of_member(k)) for k in range(members)), strict=True)
        ]
        found = vmap(partial(of, chain.run), in_dims=dims)(*given)
        torch.testing.assert_close(list(found), expected, **CLOSE)


def test_a_hessian():
    for case in (draw(), draw("GRU")):
        case.assert_same(lambda by, case=case: hessian(lambda x: case.loss(by, x, *case.tensors[1:]))(case.tensors[0]))


@settings(max_examples=40, deadline=None)
@given(
    cell=st.sampled_from(["LSTM", "GRU"]),
    T=st.integers(1, 9),
    N=st.integers(1, 13),
    I=st.integers(1, 9),
    H=st.sampled_from([1, 2, 3, 7, 8, 15, 16, 17, 33, 65]),
    reverse=st.booleans(),
    ends=st.none() | st.integers(0, 2**20),
    isa=st.sampled_from(_engine.isas()),
)
def test_odd_sizes_on_every_instruction_set(cell, T, N, I, H, reverse, ends, isa):
    batch_sizes = None
    if ends is not None:  # lengths from the bits of a number, the longest first
        lengths = sorted((1 + (ends >> 2 * n) % T for n in range(N)), reverse=True)
        lengths[0] = T
        batch_sizes = [sum(n > t for n in lengths) for t in range(T)]
    case = draw(cell, 0, True, batch_sizes, reverse, T, N, I, H)
    leaves = tuple(t.clone().requires_grad_() for t in case.tensors)

    def first_and_second(by: Any) -> Any:
        first = torch.autograd.grad(case.loss(by, *leaves), leaves, create_graph=True)
        scalar = sum((d * d).sum() for d in first)
        return named(case, first), named(case, torch.autograd.grad(scalar / scalar.detach().sqrt(), leaves))

    before = _engine.isa()
    try:
        _engine.use_isa(isa)
        case.assert_same(first_and_second)
    finally:
        _engine.use_isa(before)


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_float32_and_any_number_of_threads(cell):
    wide, narrow = draw(cell, H=40, N=9), draw(cell, H=40, N=9, dtype=torch.float32)
    narrow = narrow._replace(tensors=tuple(t.float() for t in wide.tensors))
    found = {}
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            _engine.let_teams_run()
            leaves = tuple(t.clone().requires_grad_() for t in narrow.tensors)
            first = torch.autograd.grad(narrow.loss(chain.run, *leaves), leaves, create_graph=True)
            _engine.let_teams_run()
            found[threads] = [*first, *torch.autograd.grad(sum((d * d).sum() for d in first), leaves)]
    finally:
        torch.set_num_threads(before)
    exact = [t.clone().requires_grad_() for t in wide.tensors]
    first = torch.autograd.grad(wide.loss(composite.chain, *exact), exact, create_graph=True)
    expected = [*first, *torch.autograd.grad(sum((d * d).sum() for d in first), exact)]
    for name, d, reference in zip(2 * narrow.names, found[1], expected, strict=False):
        assert (d - reference).norm() <= 10 * TOLERANCE[torch.float32, "gradient"] * reference.norm(), name
    for threads in (2, 3):
        assert all(torch.equal(a, b) for a, b in zip(found[1], found[threads], strict=True))


def test_wrong_sizes_are_refused_and_nothing_is_read():
    passes = _engine.Chain("LSTM", 4, 3, 5, None, False, 1)
    right = {"w_hh": torch.zeros(20, 5), "a": torch.zeros(12, 20), "h_0": torch.zeros(3, 5), "c_0": torch.zeros(3, 5)}
    assert passes.forward(**right) is not None
    for name, tensor in right.items():
        for wrong in (tensor[:-1], tensor[:, :-1], tensor.double(), tensor.half(), tensor.t(), "x"):
            assert passes.forward(**{**right, name: wrong}) is None, (name, wrong)
    with pytest.raises((ValueError, RuntimeError)):
        _engine.Chain("LSTM", 4, 3, 5, [3, 3, 4, 1], False, 1)
    case = draw()
    with pytest.raises(RuntimeError, match="a tensor is not of the size"):
        case.run(chain.run, case.tensors[0], case.tensors[1][:2], *case.tensors[2:])


@pytest.mark.parametrize("dims", [(0, 0), (1, 1), (0, None), (None, 2), (2, 1)], ids=str)
def test_a_product_of_batches(dims):
    """And of batches of batches, with every derivative."""

    def shape(features: int, dim: int | None) -> Tensor:
        sizes = [7, features]
        if dim is not None:
            sizes.insert(dim, 4)
        return torch.randn(sizes, dtype=torch.float64)

    d, x = shape(3, dims[0]), shape(5, dims[1])
    batched = vmap(product, dims)
    torch.testing.assert_close(batched(d, x), vmap(lambda d, x: d.t() @ x, dims)(d, x))
    pairs = torch.stack([d, d + 1]), torch.stack([x, x - 1])
    torch.testing.assert_close(vmap(batched)(*pairs)[1], batched(d + 1, x - 1))
    torch.testing.assert_close(vmap(batched, (0, None))(pairs[0], x)[1], batched(d + 1, x))
    along = tuple(None if dim is None else dim + 1 for dim in dims)
    alone = [t if dim is None else t.narrow(dim, 0, 1) for t, dim in zip(pairs, along, strict=True)]
    torch.testing.assert_close(vmap(batched)(*alone)[1], batched(d + 1, x - 1)[:1])  # a batch of one
    d.requires_grad_(), x.requires_grad_()
    torch.autograd.gradcheck(batched, (d, x), check_forward_ad=True, check_batched_grad=True)
    torch.autograd.gradgradcheck(batched, (d, x))
