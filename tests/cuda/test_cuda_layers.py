"""Layers on CUDA beside nn.LSTM and nn.GRU there, and on the CPU: every option, form and dtype."""

import pytest
import torch
from torch import nn

import fastlstm
from fastlstm import GRU, LSTM
from tests.conftest import assert_close, draw, evaluate, run_python, twin
from tests.cuda.on_device import DEVICE, found_on, hold_to_theirs
from tests.tolerances import TF32

each_layer = pytest.mark.parametrize("kind", [LSTM, GRU])
OPTIONS = [
    {},
    {"bias": False, "batch_first": True},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 3, "proj_size": 9, "bidirectional": True, "batch_first": True},
]
FORMS = {
    "dense": {"T": 11, "N": 5},
    "no states": {"T": 11, "N": 5, "hx": False},
    "one step": {"T": 1, "N": 5},
    "one row": {"T": 11, "N": 1},
    "no rows": {"T": 11, "N": 0},
    "unbatched": {"T": 11, "N": None},
    "packed": {"T": 11, "N": 4, "lengths": [11, 7, 7, 1]},
    "unsorted": {"T": 11, "N": 4, "lengths": [2, 11, 1, 7], "enforce_sorted": False},
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("form", FORMS)
@each_layer
def test_it_is_torchs_layer(kind, form, options, dtype):
    own = {name: value for name, value in options.items() if kind is LSTM or name != "proj_size"}
    layer = kind(13, 17, **own, dtype=dtype)
    hold_to_theirs(layer, draw(layer, **FORMS[form]))


@each_layer
def test_large_ones(kind):
    layer = kind(64, 512, 2, bidirectional=True)
    hold_to_theirs(layer, draw(layer, 100, 64))


@each_layer
def test_cudnn_runs_it(kind):
    layer = kind(3, 4, device=DEVICE)
    assert fastlstm.engine(layer, torch.zeros(5, 2, 3, device=DEVICE)).name == "cudnn"
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profile:
        layer(torch.zeros(5, 2, 3, device=DEVICE))
    assert "aten::_cudnn_rnn" in {event.key for event in profile.key_averages()}


@each_layer
def test_float32_against_float64_on_the_cpu_with_tf32(kind):
    """What a user gets who changes no setting of torch's: 11 bits of each factor, on GPUs that have TF32."""
    torch.backends.cudnn.allow_tf32 = True
    layer = kind(64, 256, 2)
    call = draw(layer, 20, 8)
    expected = evaluate(twin(layer, torch.float64), call.to(torch.float64))
    for name, t in found_on(layer, call).items():
        error = (t.double() - expected[name]).norm() / expected[name].norm()
        assert error < TF32, name


@each_layer
def test_dropout_falls_between_layers_in_training_alone_at_its_rate(kind):
    """One step, one-hot weights above: what is dropped stands in the second layer's input."""
    layer = kind(5, 4000, 2, dropout=0.3, device=DEVICE)
    x = torch.randn(1, 1, 5, device=DEVICE)

    def dropped() -> torch.Tensor:
        layer.zero_grad(set_to_none=True)
        layer(x)[0].sum().backward()
        return layer.weight_ih_l1.grad.abs().sum(0) == 0

    first, second = dropped(), dropped()
    assert not torch.equal(first, second)
    assert first.double().mean().item() == pytest.approx(0.3, abs=0.05)
    layer.eval()
    with torch.no_grad():
        assert torch.equal(layer(x)[0], layer(x)[0])


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_the_same_seed_drops_the_same_elements_as_in_torchs_layer(kind):
    """In a process each: cuDNN seeds its own generator once."""

    def drawn(module: str) -> str:
        return run_python(
            f"import torch, fastlstm\n"
            f"from torch import nn\n"
            f"torch.backends.cudnn.allow_tf32 = False\n"
            f"torch.manual_seed(3)\n"
            f"layer = {module}.{kind}(5, 9, 3, dropout=0.5, device='cuda')\n"
            f"print((layer(torch.ones(6, 4, 5, device='cuda'))[0] * 1e4).round().int().tolist())\n"
        )

    first = drawn("fastlstm")
    assert first == drawn("fastlstm")
    assert first == drawn("nn")


@each_layer
def test_gradients_in_eval_are_refused_as_by_torchs_layer(kind):
    for layer in (kind(3, 4, device=DEVICE), getattr(nn, kind.__name__)(3, 4, device=DEVICE)):
        output = layer.eval()(torch.randn(5, 2, 3, device=DEVICE))[0]
        with pytest.raises(RuntimeError, match="only be called in training mode"):
            output.sum().backward()


@each_layer
def test_gradients_of_gradients_are_cudnns_to_refuse_and_come_without_it(kind):
    layer = kind(3, 4, dtype=torch.float64, device=DEVICE)
    x = torch.randn(5, 2, 3, dtype=torch.float64, device=DEVICE, requires_grad=True)

    def gradient() -> torch.Tensor:
        return torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)[0]

    with pytest.raises(RuntimeError, match="Double backwards is not supported for CuDNN RNNs"):
        gradient().sum().backward()
    with torch.backends.cudnn.flags(enabled=False):
        assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], (x,))


@each_layer
def test_strides(kind):
    layer = kind(5, 7, dtype=torch.float64)
    call = draw(layer, 6, 4)
    expected = evaluate(layer, call)
    layer.to(DEVICE)
    for p in layer.parameters():
        p.data = p.data.t().contiguous().t()
    swapped = [
        t.transpose(0, 1).contiguous().transpose(0, 1) for t in (call.x, *(call.hx if kind is LSTM else [call.hx]))
    ]
    x, *hx = (t.to(DEVICE) for t in swapped)
    with torch.no_grad():
        output, _ = layer(x, tuple(hx) if kind is LSTM else hx[0])
    assert_close({"output": output.cpu()}, {"output": expected["output"]})
