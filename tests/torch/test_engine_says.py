"""`fastlstm.engine(lstm, x, ...)` says what `lstm(x, ...)` runs on, for every kind of call."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.overrides import BaseTorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

import fastlstm
from fastlstm import LSTM, LSTMCell, _engine
from fastlstm.torch.runners import composite, forward_mode

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit"),  # deprecated, and used by torch's own forward-mode rules
    pytest.mark.filterwarnings("ignore:fastlstm runs in plain tensor operations"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage"),
]

T, N, I, H = 6, 3, 4, 5
LENGTHS = torch.tensor([6, 2, 4])


def nested(x: Tensor) -> Tensor:
    return torch.nested.as_nested_tensor([x[:n, k] for k, n in enumerate(LENGTHS.tolist())], layout=torch.jagged)


# Options of the layer, what x becomes, further arguments.
KINDS: dict[str, tuple[dict[str, Any], Callable[[Tensor], Any], dict[str, Any]]] = {
    "dense": ({}, lambda x: x, {}),
    "unbatched": ({}, lambda x: x[:, 0], {}),
    "batch_first": ({"batch_first": True}, lambda x: x, {}),
    "packed": ({}, lambda x: pack_padded_sequence(x, LENGTHS, enforce_sorted=False), {}),
    "nested": ({}, nested, {}),
    "lengths": ({}, lambda x: x, {"lengths": LENGTHS}),
    "reset": ({}, lambda x: x, {"reset": torch.arange(T * N).reshape(T, N) % 4 == 0}),
    "reset_to": (
        {"num_layers": 2, "batch_first": True},
        lambda x: x,
        {"reset": torch.arange(T * N).reshape(T, N) % 4 == 0, "reset_to": (torch.zeros(T, N, 2, H),) * 2},
    ),
    "mask": ({}, lambda x: x, {"mask": torch.arange(T)[:, None] < LENGTHS}),
    "states": ({}, lambda x: x, {"hx": (torch.zeros(1, N, H), torch.zeros(1, N, H))}),
    "dropout": ({"num_layers": 2, "dropout": 0.5}, lambda x: x, {}),
    "projection": ({"proj_size": 2}, lambda x: x, {}),
    "float64": ({"dtype": torch.float64}, lambda x: x.double(), {}),
    "bfloat16": ({"dtype": torch.bfloat16}, lambda x: x.bfloat16(), {}),
    "complex64": ({"dtype": torch.complex64}, lambda x: x.to(torch.complex64), {}),
    "strided": ({}, lambda x: torch.cat([x, x], -1)[..., ::2], {}),
    "negated": ({}, torch._neg_view, {}),
}
AROUND: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "gradients": nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "a dispatch mode": lambda: FlopCounterMode(display=False),
    "saved-tensor hooks": lambda: torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t),
}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what has run."""
    names: list[str] = []
    forward, equations, dual = _engine.forward, composite.traced, forward_mode._layer

    def native(*arguments: Any) -> Any:
        done = forward(*arguments)
        if done is not None:
            names.append("native")
        return done

    def by_chains(*arguments: Any, chain: Any) -> Any:
        names.append("composite" if chain is composite.chain else "native")
        return equations(*arguments, chain=chain)

    def with_tangents(*arguments: Any) -> Any:
        names.append("native")
        return dual(*arguments)

    monkeypatch.setattr(_engine, "forward", native)
    monkeypatch.setattr(composite, "traced", by_chains)
    monkeypatch.setattr(forward_mode, "_layer", with_tangents)
    return names


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("kind", KINDS)
def test_what_it_says_is_what_ran(kind: str, around: str, ran: list[str]) -> None:
    options, form, more = KINDS[kind]
    lstm, x = LSTM(I, H, **options), form(torch.randn(T, N, I))
    with AROUND[around]():
        said = fastlstm.engine(lstm, x, **more)
        lstm(x, **more)
    assert ran == [said.name], str(said)


@pytest.mark.parametrize("transform", ["grad", "vmap", "jvp"])
def test_within_a_transform(transform: str, ran: list[str]) -> None:
    lstm, x, said = LSTM(I, H), torch.randn(T, N, I), []

    def run(x: Tensor) -> Tensor:
        said.append(fastlstm.engine(lstm, x).name)
        return lstm(x)[0].sum()

    if transform == "grad":
        torch.func.grad(run)(x)
    elif transform == "vmap":
        torch.func.vmap(run)(x[None])
    else:
        torch.func.jvp(run, (x,), (x,))
    assert ran == said


@pytest.mark.parametrize("grad", [True, False])
def test_of_a_cell(grad: bool, ran: list[str]) -> None:
    for cell in (LSTMCell(I, H), LSTMCell(I, H, dtype=torch.complex64), LSTMCell(I, H, dtype=torch.float64)):
        x = torch.randn(N, I, dtype=cell.weight_ih.dtype)
        with torch.set_grad_enabled(grad):
            cell(x)
        assert ran == [fastlstm.engine(cell, x).name]
        ran.clear()


# Without what nn.LSTM doesn't take, and without a negated tensor, which torch resolves on its way to some kernels.
THEIRS = [kind for kind in KINDS if not KINDS[kind][2].keys() - {"hx"} and kind not in ("nested", "negated")]


@pytest.mark.filterwarnings("ignore:.*lstm")  # torch's own, of complex numbers and of recorded calls
@pytest.mark.parametrize("around", [*AROUND, "a function mode"])
@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.parametrize("way", ["neither", "enabled", "keep_type"])
def test_of_torch_s_own_module(way: str, kind: str, around: str, ran: list[str]) -> None:
    options, form, more = KINDS[kind]
    lstm, x = nn.LSTM(I, H, **options), form(torch.randn(T, N, I))
    if way == "keep_type":
        fastlstm.convert(lstm, keep_type=True)
    with (
        fastlstm.enabled() if way == "enabled" else nullcontext(),
        {**AROUND, "a function mode": BaseTorchFunctionMode}[around](),
    ):
        said = fastlstm.engine(lstm, x, **more)
        with suppress(RuntimeError):  # torch's kernels can't compute complex numbers
            lstm(x, **more)
    assert (ran or ["torch"]) == [said.name], str(said)
    if way == "neither":
        assert str(said) == "torch: neither enable() nor convert() has put it on the engine"


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.GRU])
def test_of_torch_s_other_modules(kind: Any, ran: list[str]) -> None:
    module, x = kind(I, H), torch.randn(N, I)
    assert fastlstm.engine(module, x).name == "torch"
    with fastlstm.enabled():
        for hx in (None, torch.zeros(N, H)) if kind is nn.GRUCell else (None,):
            assert str(fastlstm.engine(module, x, hx)) == "native: the CPU engine computes in float32"
            module(x, hx)
            assert ran == ["native"]
            ran.clear()
        assert fastlstm.engine(module, torch.randn(0, I)).why == "there is no step"
        assert fastlstm.engine(module.double(), x.cfloat()).why == "the CPU engine has no complex64"
        assert fastlstm.engine(module, x).why == "its tensors are not all plain ones on the CPU, of one dtype"
    with pytest.raises(TypeError, match=r"or one of torch\.nn, got torch\.nn\.modules\.rnn\.RNN"):
        fastlstm.engine(nn.RNN(I, H), x)


@pytest.mark.parametrize("kind", KINDS)
def test_strict_mode_refuses_what_it_calls_composite(kind: str) -> None:
    options, form, more = KINDS[kind]
    lstm, x = LSTM(I, H, **options), form(torch.randn(T, N, I))
    fastlstm.strict(True)
    try:
        if fastlstm.engine(lstm, x, **more).name == "composite":
            with pytest.raises(RuntimeError, match=r"fastlstm\.strict"):
                lstm(x, **more)
        else:
            lstm(x, **more)
    finally:
        fastlstm.strict(False)
