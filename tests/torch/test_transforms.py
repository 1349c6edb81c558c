"""torch.func's transforms and forward mode through modules: on the engine, without falling back, and with the numbers of plain
calls in a loop, or of plain tensor operations.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, stack_module_state, vjp, vmap
from torch.nn.utils.rnn import PackedSequence

import fastlstm
from fastlstm import GRU, LSTM, GRUCell, LSTMCell
from fastlstm.torch.runners import chained, composite
from tests.tolerances import AUTOCAST_LOSS

# torch's own decompositions for forward mode use what it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
T, N, I, H = 5, 4, 3, 7
CLOSE = {"rtol": 1e-9, "atol": 1e-10}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"bias": False, "batch_first": True},
    {"proj_size": 2, "num_layers": 2},
]
LAYERS = [(kind, o) for kind in (LSTM, GRU) for o in OPTIONS if kind is LSTM or "proj_size" not in o]
each_layer = pytest.mark.parametrize(("kind", "options"), LAYERS, ids=lambda v: getattr(v, "__name__", str(v)))


@pytest.fixture(autouse=True)
def nothing_falls_back():
    fastlstm.strict()
    yield
    fastlstm.strict(False)


def build(kind: Any, options: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    return kind(I, H, **options, dtype=torch.float64)


def draw(layer: Any, *members: int) -> Tensor:
    return torch.randn(*members, *((N, T) if layer.batch_first else (T, N)), I, dtype=torch.float64)


def states(layer: Any, *members: int) -> Any:
    D = (2 if layer.bidirectional else 1) * layer.num_layers
    h = torch.randn(*members, D, N, getattr(layer, "proj_size", 0) or H, dtype=torch.float64)
    return h if isinstance(layer, GRU) else (h, torch.randn(*members, D, N, H, dtype=torch.float64))


def flat(results: Any) -> list[Tensor]:
    """Of a call, or of a transform of it."""
    if isinstance(results, dict):
        return [t for key in sorted(results) for t in flat(results[key])]
    return [results] if isinstance(results, Tensor) else [t for each in results for t in flat(each)]


def by_equations(call: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same with plain tensor operations in the engine's place."""
    with monkeypatch.context() as patch:
        patch.setattr("fastlstm.torch.runners.forward_mode.run", lambda *_: None)
        patch.setattr(chained.chain, "run", composite.chain)
        return call()


@each_layer
@pytest.mark.parametrize("of", ["x", "x and hx", "hx", "lengths", "reset", "parameters", "everything"])
def test_vmap_is_a_loop(kind, options, of):
    layer, members = build(kind, options), 3
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    random = torch.Generator().manual_seed(1)
    shape = (N, T) if layer.batch_first else (T, N)
    given: dict[str, Any] = {
        "parameters": {name: torch.stack([p, p / 2, -p]) for name, p in parameters.items()},
        "x": draw(layer, members),
        "hx": states(layer, members),
        "lengths": torch.randint(1, T + 1, (members, N), generator=random),
        "reset": torch.rand(members, *shape, generator=random) < 0.3,
    }
    whole: dict[str, Any] = {
        "parameters": parameters,
        "x": draw(layer),
        "hx": states(layer),
        "lengths": None,
        "reset": None,
    }
    batched = {
        "x and hx": {"x", "hx"},
        "lengths": {"x", "lengths"},
        "reset": {"reset"},
        "everything": set(given),
    }.get(of, {of})
    arguments = [given[name] if name in batched else whole[name] for name in given]
    dims = tuple(0 if name in batched else None for name in given)

    def call(parameters: Any, x: Any, hx: Any, lengths: Any, reset: Any) -> Any:
        return functional_call(layer, parameters, (x, hx), {"lengths": lengths, "reset": reset})

    def member(k: int, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: t[k] for name, t in value.items()}
        return tuple(t[k] for t in value) if isinstance(value, tuple) else value[k]

    expected = [
        flat(call(*(a if d is None else member(k, a) for a, d in zip(arguments, dims, strict=True))))
        for k in range(members)
    ]
    found = flat(vmap(call, in_dims=dims)(*arguments))
    torch.testing.assert_close(found, [torch.stack(each) for each in zip(*expected, strict=True)], **CLOSE)


@each_layer
@pytest.mark.parametrize("form", ["dense", "lengths", "reset", "packed", "unbatched"])
def test_forward_mode_of_every_form(kind, options, form, monkeypatch):
    layer = build(kind, options)
    x, hx = draw(layer), states(layer)
    more: dict[str, Any] = {}
    if form == "lengths":
        more = {"lengths": torch.tensor([3, 5, 1, 4])}
    elif form == "reset":
        more = {"reset": torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(1)) < 0.3}
    elif form == "packed":
        x = torch.randn(13, I, dtype=torch.float64)  # torch's pack_padded_sequence has no forward mode
    elif form == "unbatched":
        x, hx = (
            x.select(0 if layer.batch_first else 1, 0),
            (hx[:, 0] if isinstance(hx, Tensor) else tuple(t[:, 0] for t in hx)),
        )
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def call(x: Any, hx: Any, parameters: Any) -> Any:
        if form == "packed":
            output, last = functional_call(layer, parameters, (PackedSequence(x, torch.tensor([4, 3, 3, 2, 1])), hx))
            return output.data, last
        return functional_call(layer, parameters, (x, hx), more)

    def like(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: torch.randn_like(t) for name, t in value.items()}
        return tuple(map(torch.randn_like, value)) if isinstance(value, tuple) else torch.randn_like(value)

    primals = (x, hx, parameters)
    tangents = tuple(map(like, primals))
    found = jvp(call, primals, tangents)
    expected = by_equations(lambda: jvp(call, primals, tangents), monkeypatch)
    torch.testing.assert_close(flat(found), flat(expected), **CLOSE)
    of_x = jvp(lambda x: call(x, hx, parameters), (x,), (tangents[0],))
    torch.testing.assert_close(
        flat(of_x),
        flat(by_equations(lambda: jvp(lambda x: call(x, hx, parameters), (x,), (tangents[0],)), monkeypatch)),
        **CLOSE,
    )
    with forward_ad.dual_level(), torch.no_grad():
        output = flat(call(forward_ad.make_dual(x, tangents[0]), hx, parameters))[0]
        torch.testing.assert_close(forward_ad.unpack_dual(output).tangent, flat(of_x[1])[0], **CLOSE)
    with forward_ad.dual_level():  # and the tangent itself differentiable
        output = flat(call(forward_ad.make_dual(x, tangents[0].requires_grad_()), hx, parameters))[0]
        (d,) = torch.autograd.grad(forward_ad.unpack_dual(output).tangent.sum(), tangents[0])
    (pulled,) = torch.autograd.grad(flat(call(x.requires_grad_(), hx, parameters))[0].sum(), x)
    torch.testing.assert_close(d, pulled, **CLOSE)


@each_layer
def test_jacobians_hessians_and_products_with_them(kind, options):
    layer, x = build(kind, options), None
    x = draw(layer)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def output(x: Tensor) -> Tensor:
        return functional_call(layer, parameters, (x,))[0]

    def loss(x: Tensor) -> Tensor:
        return output(x).pow(2).sum()

    torch.testing.assert_close(jacfwd(output)(x), jacrev(output)(x), **CLOSE)
    both = hessian(loss)(x)
    torch.testing.assert_close(both, jacrev(grad(loss))(x), **CLOSE)
    v = torch.randn_like(x)
    product = (both.reshape(x.numel(), -1) @ v.reshape(-1)).reshape(x.shape)
    torch.testing.assert_close(jvp(grad(loss), (x,), (v,))[1], product, **CLOSE)
    torch.testing.assert_close(vjp(grad(loss), x)[1](v)[0], product, **CLOSE)


@pytest.mark.filterwarnings(
    "ignore:fastlstm runs in plain tensor operations", "ignore:Attempted to insert a get_attr Node"
)
def test_linearize_where_it_traces_plain_operations():
    """torch.func.linearize records the tangent's operations, which then are plain ones."""
    fastlstm.strict(False)
    layer = build(LSTM, {})
    x = draw(layer)
    value, along = linearize(lambda x: layer(x)[0], x)
    v = torch.randn_like(x)
    expected = jvp(lambda x: layer(x)[0], (x,), (v,))
    torch.testing.assert_close((value, along(v)), expected, **CLOSE)


@each_layer
def test_gradients_of_each_sample(kind, options):
    layer = build(kind, options)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    x, dim = draw(layer), 0 if layer.batch_first else 1

    def loss(parameters: Any, x: Tensor) -> Tensor:
        return functional_call(layer, parameters, (x,))[0].pow(2).sum()

    found = vmap(grad(loss), in_dims=(None, dim))(parameters, x)
    for k in range(N):
        layer.zero_grad()
        layer(x.select(dim, k))[0].pow(2).sum().backward()
        for name, p in layer.named_parameters():
            torch.testing.assert_close(found[name][k], p.grad, msg=lambda m, name=name: f"{name}: {m}", **CLOSE)


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_an_ensemble_trains(kind):
    layers = [build(kind, {"num_layers": 2}) for _ in range(3)]
    for k, layer in enumerate(layers):
        with torch.no_grad():
            for p in layer.parameters():
                p.mul_(1 + k)
    stacked, _ = stack_module_state(layers)
    x = draw(layers[0])
    together = vmap(lambda p: functional_call(layers[0], p, (x,))[0])(stacked)
    together.pow(2).sum().backward()
    for k, layer in enumerate(layers):
        layer.zero_grad()
        output = layer(x)[0]
        torch.testing.assert_close(together[k], output, **CLOSE)
        output.pow(2).sum().backward()
        for name, p in layer.named_parameters():
            torch.testing.assert_close(stacked[name].grad[k], p.grad, **CLOSE)


@pytest.mark.parametrize("randomness", ["error", "same", "different"])
def test_dropout_between_layers_asks_for_randomness(randomness):
    layer = LSTM(I, H, 2, dropout=0.5, dtype=torch.float64)
    x = draw(layer)[None].repeat(2, 1, 1, 1)
    call = vmap(lambda x: layer(x)[0], randomness=randomness)
    if randomness == "error":
        with pytest.raises(RuntimeError, match="randomness"):
            call(x)
        return
    first, second = call(x)
    assert torch.equal(first, second) == (randomness == "same")


@pytest.mark.parametrize("kind", [LSTMCell, GRUCell])
def test_cells(kind, monkeypatch):
    cell = kind(I, H, dtype=torch.float64)
    x, h = torch.randn(3, N, I, dtype=torch.float64), torch.randn(3, N, H, dtype=torch.float64)
    hx = (h, h.flip(0)) if kind is LSTMCell else h
    found = flat(vmap(cell)(x, hx))
    expected = [flat(cell(x[k], (hx[0][k], hx[1][k]) if kind is LSTMCell else h[k])) for k in range(3)]
    torch.testing.assert_close(found, [torch.stack(each) for each in zip(*expected, strict=True)], **CLOSE)
    v = torch.randn_like(x[0])
    along = jvp(cell, (x[0],), (v,))
    torch.testing.assert_close(flat(along), flat(by_equations(lambda: jvp(cell, (x[0],), (v,)), monkeypatch)), **CLOSE)


def test_vmap_of_vmap_and_of_gradients_of_gradients():
    layer = build(LSTM, {})
    x = draw(layer, 2, 3)
    found = vmap(vmap(lambda x: layer(x)[0]))(x)
    torch.testing.assert_close(found, torch.stack([torch.stack([layer(t)[0] for t in row]) for row in x]), **CLOSE)
    (each,) = x[0, :1]
    each.requires_grad_()
    (d,) = torch.autograd.grad(layer(each)[0].pow(2).sum(), each, create_graph=True)
    v = torch.eye(d.numel(), dtype=d.dtype)[:4].reshape(4, *d.shape)
    (batched,) = torch.autograd.grad(d, each, v, retain_graph=True, is_grads_batched=True)
    looped = torch.stack([torch.autograd.grad(d, each, row, retain_graph=True)[0] for row in v])
    torch.testing.assert_close(batched, looped, **CLOSE)


def test_what_the_engine_says():
    layer = build(LSTM, {})
    said = []
    vmap(lambda x: said.append(str(fastlstm.engine(layer, x))) or layer(x)[0])(draw(layer, 2))
    jvp(lambda x: said.append(str(fastlstm.engine(layer, x))) or layer(x)[0], (draw(layer),), (draw(layer),))
    half = LSTM(I, H, dtype=torch.bfloat16)  # a vmap alone is a call of more rows, whatever the dtype
    vmap(lambda x: said.append(str(fastlstm.engine(half, x))) or half(x)[0])(draw(half, 2).bfloat16())
    assert all(each.startswith("native: ") for each in said)


@each_layer
def test_all_that_gradcheck_can_ask(kind, options):
    """Forward mode, batched gradients and batched tangents, in the older way of torch.autograd, and forward over reverse."""
    layer = build(kind, options)
    x = torch.randn(3, 2, I, dtype=torch.float64, requires_grad=True)

    def output(x: Tensor) -> Tensor:
        return layer(x)[0]

    batches = {"check_batched_grad": True, "check_batched_forward_grad": True}
    assert torch.autograd.gradcheck(output, x, check_forward_ad=True, **batches)
    assert torch.autograd.gradgradcheck(output, x, check_fwd_over_rev=True, check_batched_grad=True)


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_gradients_of_gradients_under_autocast(kind):
    """The first are computed in the dtype of what they read. Products in them torch differentiates under autocast, as any."""
    layer, x = kind(I, H), torch.randn(T, N, I)

    def twice(within: torch.autocast) -> list[Tensor]:
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            output = layer(leaf)[0].float()
        with within:
            (d,) = torch.autograd.grad(output.sum(), leaf, create_graph=True)
            return [d, *torch.autograd.grad(d.pow(2).sum(), list(layer.parameters()))]

    off, on = (twice(torch.autocast("cpu", torch.bfloat16, enabled=enabled)) for enabled in (False, True))
    assert torch.equal(off[0], on[0])
    assert all((a - b).norm() <= AUTOCAST_LOSS * a.norm() for a, b in zip(off, on, strict=True))


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_a_batch_without_rows(kind):
    layer, x = build(kind, {}), torch.randn(T, 0, I, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        assert vmap(lambda x: layer(x)[0])(x.detach().expand(2, -1, -1, -1)).shape == (2, T, 0, H)
    (d,) = torch.autograd.grad(layer(x)[0].sum(), x, create_graph=True)
    assert all(
        not g.any() for g in torch.autograd.grad(d.sum(), list(layer.parameters()), allow_unused=True) if g is not None
    )
    assert jvp(lambda x: layer(x)[0], (x.detach(),), (x.detach(),))[1].shape == (T, 0, H)
    for derive in (torch.func.jacrev, torch.func.jacfwd):
        assert derive(lambda x: layer(x)[0])(x.detach()).shape == (T, 0, H, T, 0, I)
    assert torch.func.hessian(lambda x: layer(x)[0].sum())(x.detach()).shape == (T, 0, I, T, 0, I)


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_second_derivatives_of_one_row(kind):
    layer, x = build(kind, {}).requires_grad_(False), torch.randn(2, 1, I, dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        return layer(x)[0].sin().sum()

    expected = torch.autograd.functional.hessian(loss, x)
    for outer in (torch.func.jacfwd, torch.func.jacrev):
        for inner in (torch.func.jacfwd, torch.func.jacrev):
            torch.testing.assert_close(outer(inner(loss))(x), expected, **CLOSE)
