"""TorchFunctionMode: it sees a call as the registered operator; a default device, which is one too, changes nothing."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from conftest import assert_bits
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

import fastlstm
from fastlstm import GRU, LSTM, GRUCell, LSTMCell
from fastlstm.torch.graph import operator

X, LENGTHS = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 5, 1])
CALLS: list[tuple[Any, dict[str, Any], tuple[Any, ...], dict[str, Any]]] = [
    (kind, options, arguments, named)
    for kind in (LSTM, GRU)
    for options, arguments, named in (
        ({"num_layers": 2, "bidirectional": True}, (X,), {}),
        ({"batch_first": True}, (X,), {}),
        ({}, (X[0],), {}),
        ({}, (X.double(),), {}),
        ({}, (X,), {"lengths": LENGTHS}),
        ({}, (X,), {"reset": torch.arange(15).reshape(5, 3) % 4 == 0}),
        ({}, (pack_padded_sequence(X, LENGTHS, enforce_sorted=False),), {}),
        ({}, (torch.nested.nested_tensor([X[:2, 0], X[:, 1]], layout=torch.jagged),), {}),
        ({"checkpoint_every": 2}, (X,), {}),
    )
] + [(kind, {}, (x,), {}) for kind in (LSTMCell, GRUCell) for x in (X[0], X[0, 0])]
each_call = pytest.mark.parametrize(("kind", "options", "arguments", "named"), CALLS)


class Watching(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(func)
        return func(*args, **(kwargs or {}))

    def operators(self) -> list[str]:
        return [
            str(f) for f in self.seen if isinstance(f, torch._ops.OpOverload) and f.namespace in ("fastlstm", "aten")
        ]


def computed(module: nn.Module, grad: bool, *arguments: Any, **named: Any) -> dict[str, Tensor]:
    """Results by their place, and gradients of the parameters."""
    module.zero_grad()
    with torch.set_grad_enabled(grad):
        results = module(*arguments, **named)
    with torch._C.DisableTorchFunction():
        flat = [t.values() if t.is_nested else t for t in tree_leaves(results) if isinstance(t, Tensor)]
        flat = [t for t in flat if t.is_floating_point()]
        if grad:
            sum(t.sin().sum() for t in flat).backward()
    found = {f"result {k}": t.detach() for k, t in enumerate(flat)}
    return found | {f"d{name}": p.grad for name, p in module.named_parameters() if p.grad is not None}


@each_call
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
def test_a_mode_sees_the_call_and_changes_no_bit(kind, options, arguments, named, grad):
    data = arguments[0].data if hasattr(arguments[0], "batch_sizes") else arguments[0]
    module = kind(4, 6, dtype=data.dtype, **options)
    expected = computed(module, grad, *arguments, **named)
    with Watching() as mode:
        found = computed(module, grad, *arguments, **named)
    assert mode.operators() == [f"fastlstm.{kind.__name__.removesuffix('Cell').lower()}.default"]
    assert_bits(found, expected)


@pytest.fixture(params=["set_default_device", "with torch.device", "none"])
def _default_device(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "set_default_device":
        torch.set_default_device("cpu")
        yield
        torch.set_default_device(None)
    elif request.param == "with torch.device":
        with torch.device("cpu"):
            yield
    else:
        yield


@pytest.mark.usefixtures("_default_device")
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize("kind", [LSTM, GRU, LSTMCell, GRUCell])
def test_a_default_device_leaves_the_call_by_address(kind, grad, monkeypatch):
    by_operator = []
    monkeypatch.setattr(operator, "run", lambda *_: by_operator.append(1))
    with torch.set_grad_enabled(grad):
        kind(4, 6)(X[0])
    assert not by_operator


def test_a_mode_within_a_default_device_sees_the_call():
    lstm = LSTM(4, 6)
    with torch.device("cpu"), Watching() as outer, torch.device("cpu"), Watching() as inner:
        lstm(X)
    assert inner.operators() == outer.operators() == ["fastlstm.lstm.default"]


def test_what_a_mode_returns_is_what_is_returned():
    class Zeros(Watching):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            results = super().__torch_function__(func, types, args, kwargs)
            return tuple(map(torch.zeros_like, results)) if func is torch.ops.fastlstm.lstm.default else results

    with torch.no_grad(), Zeros():
        output, _ = LSTM(4, 6)(X)
    assert not output.any()


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_transforms_traces_and_graphs_within_a_mode():
    lstm = LSTM(4, 6)
    run: Any = lambda x: lstm(x)[0].sin().sum()  # noqa: E731
    expected, gradient = lstm(X)[0], torch.func.grad(run)(X)
    with Watching():
        torch.testing.assert_close(torch.func.grad(run)(X), gradient)
        torch.testing.assert_close(torch.func.vmap(lambda x: lstm(x)[0])(X.unsqueeze(0))[0], expected)
        torch.testing.assert_close(torch.func.jvp(run, (X,), (X,))[1], (gradient * X).sum())
        assert torch.equal(lstm.trace(X).output, expected)
        with torch.autocast("cpu"):
            assert lstm(X)[0].dtype is torch.bfloat16
        torch.testing.assert_close(torch.export.export(lstm, (X,)).module()(X)[0], expected)


def test_a_mode_around_nn_lstm_under_enable_sees_torchs_function():
    lstm = nn.LSTM(4, 6)
    expected = lstm(X)[0]
    with fastlstm.enabled(), Watching() as mode:
        torch.testing.assert_close(lstm(X)[0], expected)
    assert any(getattr(f, "__name__", "") == "lstm" for f in mode.seen)
