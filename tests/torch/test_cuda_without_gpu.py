"""Calls on CUDA tensors where there is no GPU: FakeTensorMode has tensors of any device, without numbers, and tells when two
devices are mixed; a double stands in for torch's kernel. `make test-cuda` has what needs a GPU.

Without gradients: the CPU build of torch can't make a graph node for CUDA.
"""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.backends.cudnn.rnn
from conftest import draw, outcome, states_of
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import fastlstm
from fastlstm import GRU, LSTM, GRUCell, LSTMCell
from fastlstm.torch import arguments, context, runners
from tests.torch.kernels import Kernel

CUDA = torch.device("cuda", 0)
RESET = torch.zeros(5, 2, dtype=torch.bool)
RESET[2, 0] = True
each_layer = pytest.mark.parametrize("kind", [LSTM, GRU])


@pytest.fixture
def kernel(monkeypatch):
    double = Kernel()
    monkeypatch.setattr(context, "torch_layer", double)
    with torch.no_grad():
        yield double


def faked(t: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return torch.empty(t.shape, dtype=dtype or t.dtype, device=CUDA)


def on_cuda(module: Any) -> Any:
    """Its parameters as fake CUDA tensors."""
    for name, parameter in list(module.named_parameters()):
        setattr(module, name, nn.Parameter(faked(parameter)))
    return module


def fake_mode() -> FakeTensorMode:
    return FakeTensorMode(allow_non_fake_inputs=True)


@each_layer
@pytest.mark.parametrize("form", ["dense", "states", "batch_first", "unbatched"])
def test_a_call_stays_on_its_device(kind, form, kernel):
    layer = kind(3, 4, 2, bidirectional=True, batch_first=form == "batch_first")
    call = draw(layer, 5, None if form == "unbatched" else 2)
    with fake_mode():
        on_cuda(layer)
        x = faked(call.x)
        hx = tuple(map(faked, states_of(call.hx))) if form != "dense" else None
        assert fastlstm.engine(layer, x).name == "cudnn"
        output, last = layer(x, hx if kind is LSTM or hx is None else hx[0])
        assert {t.device for t in (output, *states_of(last))} == {CUDA}
        assert [t.shape for t in states_of(last)] == [t.shape for t in states_of(call.hx)]
    assert len(kernel.calls) == 1


@pytest.mark.parametrize("kind", [LSTMCell, GRUCell])
@pytest.mark.parametrize("N", [[2], []], ids=["batched", "unbatched"])
def test_a_cell_stays_on_its_device(kind, N, kernel):
    cell = kind(3, 4)
    with fake_mode():
        states = states_of(on_cuda(cell)(torch.empty(*N, 3, device=CUDA)))
        assert {(t.device, t.shape) for t in states} == {(CUDA, (*N, 4))}
    assert [name for name, _ in kernel.calls] == [f"{kind.__name__.lower()[:-4]}_cell"]


class Copies(TorchDispatchMode):
    """A list of copies from one device to another: from, to, and whether nobody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, bool]] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if op is torch.ops.aten._to_copy.default and kwargs.get("device") not in (None, args[0].device):
            self.found.append((args[0].device.type, kwargs["device"].type, bool(kwargs.get("non_blocking"))))
        return op(*args, **kwargs)


@each_layer
@pytest.mark.parametrize(
    "rows", [{"lengths": [5, 2]}, {"lengths": [0, 0]}, {"reset": RESET}, {"lengths": [3, 5], "reset": RESET}], ids=str
)
def test_rows_of_any_lengths_take_one_copy_to_the_device(kind, rows, kernel):
    """What says where rows stand: nothing waits for it, and nothing loops over time."""
    layer = kind(3, 4, 2, bidirectional=True)
    call = draw(layer, 5, 2)
    batch, x, hx = arguments.read(  # outside the mode: the engine reads lengths
        layer._known(), torch.float32, layer, False, call.x, call.hx, rows.get("lengths"), rows.get("reset")
    )
    with fake_mode(), Copies() as copies:
        weights = [faked(w) for w in layer.parameters()]
        output, *last = runners.run(layer._known(), batch, faked(x), tuple(map(faked, hx)), weights, None)
        assert {t.device for t in (output, *last)} == {CUDA}
        assert (output.shape, last[0].shape) == ((5, 2, 8), hx[0].shape)
    assert copies.found == [("cpu", "cuda", True)]
    assert len(kernel.calls) == 1


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_mask_on_the_device_is_read_once(batch_first):
    """All that is asked of it, it is asked on the CPU: each answer from the device would be waited for."""
    mask = torch.ones(5, 2, dtype=torch.bool)
    with fake_mode(), Copies() as copies:
        x, given = torch.empty(5, 2, 3, device=CUDA), faked(mask)
        found = outcome(lambda: arguments.lengths_of_mask(given, None, x, batch_first))
    assert found[0] is not None  # a tensor without numbers has no answer
    assert copies.found == [("cuda", "cpu", False)]


@each_layer
@pytest.mark.parametrize("states", [torch.float32, torch.float16])
def test_under_autocast_tensors_of_several_dtypes_go_to_the_kernel(kind, states, kernel):
    """As nn.LSTM's do: torch's autocast casts them there."""
    layer = kind(3, 4)
    call = draw(layer, 5, 2)
    torch.set_autocast_enabled("cuda", True)
    try:
        with fake_mode():
            hx = [faked(t, states) for t in states_of(call.hx)]
            on_cuda(layer)(faked(call.x, torch.float16), tuple(hx) if kind is LSTM else hx[0])
    finally:
        torch.set_autocast_enabled("cuda", False)
    assert len(kernel.calls) == 1


@each_layer
@pytest.mark.parametrize("where", ["input", "hidden", "parameter"])
def test_tensors_of_several_devices_are_refused_in_torchs_words(kind, where, kernel):
    layer = kind(3, 4)
    call = draw(layer, 5, 2)
    with fake_mode():
        on_cuda(layer)
        x, hx = faked(call.x), [faked(t) for t in states_of(call.hx)]
        if where == "input":
            x = call.x
        elif where == "hidden":
            hx[-1] = states_of(call.hx)[-1]
        else:
            layer.bias_hh_l0 = nn.Parameter(torch.empty(layer.bias_hh_l0.shape))
        error, said = outcome(lambda: layer(x, tuple(hx) if kind is LSTM else hx[0]))
    named = "parameter" if where == "input" else where
    here, there = ("cpu", "cuda:0") if where == "input" else ("cuda:0", "cpu")
    assert error is RuntimeError
    assert said == (
        f"Input and {named} tensors are not at the same device, "
        f"found input tensor at {here} and {named} tensor at {there}"
    )
    assert not kernel.calls


@each_layer
def test_a_stream_is_for_the_cpu(kind):
    layer = kind(3, 4, 2)
    with fake_mode():
        error, said = outcome(on_cuda(layer).stream)
    assert (error, said) == (TypeError, "stream: expected parameters on the CPU, all float32 or all float64")


def laid_in_one_piece(layer: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `flatten_parameters` asks of torch: each parameter by its name, and the numbers."""
    asked: list[Any] = []
    monkeypatch.setattr(torch.backends.cudnn, "is_acceptable", lambda _: True)
    monkeypatch.setattr(torch.backends.cudnn.rnn, "get_cudnn_mode", str)
    monkeypatch.setattr(torch.cuda, "device_of", lambda _: nullcontext())
    monkeypatch.setattr(Tensor, "data_ptr", lambda t: id(t))
    monkeypatch.setattr(torch, "_use_cudnn_rnn_flatten_weight", lambda: True)
    monkeypatch.setattr(torch, "_cudnn_rnn_flatten_weight", lambda *given: asked.append(given))
    with fake_mode():
        on_cuda(layer).flatten_parameters()
    names = {id(parameter): name for name, parameter in layer.named_parameters()}
    return [([names[id(w)] for w in weights], *numbers) for weights, *numbers in asked]


@pytest.mark.parametrize(
    "options", [{}, {"bias": False, "num_layers": 2}, {"bidirectional": True, "batch_first": True}], ids=str
)
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_parameters_come_to_lie_in_one_piece_as_nn_lstms_do(kind, options, monkeypatch):
    """Where they don't, cuDNN's caller copies them at every call and warns."""
    ours = laid_in_one_piece(getattr(fastlstm, kind)(3, 4, **options), monkeypatch)
    assert ours == laid_in_one_piece(getattr(nn, kind)(3, 4, **options), monkeypatch)[-1:]
    assert ours


@each_layer
def test_they_do_so_when_made_and_whenever_they_move(kind, monkeypatch):
    times = []
    monkeypatch.setattr(kind, "flatten_parameters", lambda _: times.append(1))
    layer = kind(3, 4)
    assert len(times) == 1
    assert layer.double() is layer
    assert len(times) == 2
    nn.Sequential(layer).float()
    assert len(times) == 3
