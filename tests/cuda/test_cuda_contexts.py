"""What stands around a call on CUDA: autocast, torch.compile, traces, CUDA graphs, transforms, DDP."""

import warnings

import pytest
import torch
from torch import Tensor, nn

import fastlstm
from fastlstm import GRU, LSTM, GRUCell, LSTMCell
from fastlstm.torch.runners.fallback import FallbackWarning
from tests.conftest import assert_close, draw, evaluate, run_python, states_of
from tests.cuda.on_device import DEVICE, found_on, their_own

each_layer = pytest.mark.parametrize("kind", [LSTM, GRU])


@pytest.mark.parametrize("given", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
@each_layer
def test_autocast(kind, packed, given):
    layer = kind(5, 7, 2)
    call = draw(layer, 6, 3, hx=False, lengths=[6, 4, 1] if packed else None).to(DEVICE)
    theirs = their_own(layer)
    layer.to(DEVICE)
    with torch.autocast("cuda", torch.float16):
        found, expected = layer(call.x.to(given)), theirs(call.x.to(given))
    for ours, own in zip(
        (found[0].data, *states_of(found[1])), (expected[0].data, *states_of(expected[1])), strict=True
    ):
        assert ours.dtype is own.dtype
        assert_close({"output": ours}, {"output": own}, torch.float16)


@pytest.mark.parametrize("kind", [LSTMCell, GRUCell])
def test_autocast_of_cells(kind):
    ours, theirs = kind(5, 7, device=DEVICE), getattr(nn, kind.__name__)(5, 7, device=DEVICE)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 5, device=DEVICE)
    with torch.autocast("cuda", torch.float16):
        for own, their in zip(states_of(ours(x)), states_of(theirs(x)), strict=True):
            assert own.dtype is their.dtype
            assert_close({"output": own}, {"output": their}, torch.float16)


@pytest.mark.usefixtures("compiler")
@each_layer
def test_torch_compile_breaks_where_torchs_layer_does(kind):
    layer = kind(5, 7, dtype=torch.float64)
    call = draw(layer, 6, 3)
    expected = evaluate(layer, call)
    layer.compile()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own
        assert_close(found_on(layer, call), expected)


@each_layer
def test_a_trace_looks_inside_in_plain_operations(kind):
    layer = kind(5, 7, 2, dtype=torch.float64)
    call = draw(layer, 6, 3)
    expected = layer.trace(call.x, call.hx)
    there = call.to(DEVICE)
    with pytest.warns(FallbackWarning, match="outside plain CPU tensors"):
        found = layer.to(DEVICE).trace(there.x, there.hx)
    for ours, own in zip(found.layers[1][0], expected.layers[1][0], strict=True):
        assert_close({"output": ours.cpu()}, {"output": own})


@pytest.mark.filterwarnings("ignore:`torch.jit")
@each_layer
def test_torch_jit_trace(kind):
    layer = kind(5, 7, 2, device=DEVICE)
    x = torch.randn(6, 3, 5, device=DEVICE)
    traced = torch.jit.trace(layer, x)
    other = torch.randn(9, 2, 5, device=DEVICE)
    torch.testing.assert_close(traced(other)[0], layer(other)[0])


@each_layer
def test_a_cuda_graph(kind):
    layer = kind(5, 7, 2, device=DEVICE)
    x = torch.randn(6, 3, 5, device=DEVICE)
    expected = layer(x)[0]
    replayed = torch.cuda.make_graphed_callables(kind(5, 7, 2, device=DEVICE), (torch.randn_like(x),))
    replayed.load_state_dict(layer.state_dict())
    output = replayed(x)[0]
    torch.testing.assert_close(output, expected)
    output.sum().backward()
    assert all(p.grad is not None for p in replayed.parameters())


@each_layer
def test_transforms_of_torch_func(kind):
    layer = kind(3, 4, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64)

    def loss(x: Tensor, **arguments: object) -> Tensor:
        return layer(x, **arguments)[0].square().sum()

    for arguments in ({}, {"lengths": [5, 2]}):
        leaf = x.clone().requires_grad_()
        (expected,) = torch.autograd.grad(loss(leaf, **arguments), leaf)
        layer.to(DEVICE)
        there = x.to(DEVICE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FallbackWarning)
            assert fastlstm.engine(layer, there).name == "cudnn"
            found = torch.func.grad(lambda x, given=arguments: loss(x, **given))(there)
            rows = torch.func.vmap(lambda x: layer(x)[0])(torch.stack([there, 2 * there]))
        assert_close({"dx": found.cpu()}, {"dx": expected})
        assert_close({"output": rows[0].cpu()}, {"output": layer(there)[0].detach().cpu()})
        layer.cpu()


@pytest.mark.parametrize("backend", ["gloo", "nccl"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_ddp_on_one_device(kind, backend):
    run_python(
        "import tempfile, torch, fastlstm, torch.distributed as dist\n"
        "from torch.nn.parallel import DistributedDataParallel\n"
        "with tempfile.NamedTemporaryFile() as file:\n"
        f"    dist.init_process_group('{backend}', f'file://{{file.name}}', rank=0, world_size=1)\n"
        f"    layer = fastlstm.{kind}(5, 7, 2, device='cuda')\n"
        "    x = torch.randn(6, 3, 5, device='cuda')\n"
        "    layer(x)[0].sum().backward()\n"
        "    expected = [p.grad.clone() for p in layer.parameters()]\n"
        "    layer.zero_grad()\n"
        "    model = DistributedDataParallel(layer, device_ids=[0])\n"
        "    model(x)[0].sum().backward()\n"
        "    torch.testing.assert_close([p.grad for p in layer.parameters()], expected)\n"
        "    dist.destroy_process_group()\n"
    )
