"""Which engine runs a call, and what is said about it."""

import ctypes
import subprocess
import sys
import warnings

import pytest
import torch
from conftest import draw, evaluate, run_python
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.profiler import ProfilerActivity, profile

import fastlstm
from fastlstm import GRU, LSTM, GRUCell, LSTMCell, _engine
from fastlstm.torch import context, runners, threads
from fastlstm.torch.runners import fallback
from fastlstm.weights import Sizes


@pytest.fixture(autouse=True)
def _nothing_said_yet(monkeypatch):
    monkeypatch.setattr(fallback, "_announced", set())
    yield
    fastlstm.strict(False)


@pytest.mark.parametrize("module", [LSTM, LSTMCell, GRU, GRUCell])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_native_engine_runs_real_cpu_tensors(module, dtype):
    found = fastlstm.engine(module(3, 4, dtype=dtype), torch.zeros(5, 3, dtype=dtype))
    assert found.name == "native"
    assert str(found) == f"native: the CPU engine computes in {str(dtype)[6:]}"


@pytest.mark.parametrize(
    ("dtype", "name", "words"),
    [
        (torch.float16, "native", "adds up in float32 and rounds to float16"),
        (torch.bfloat16, "native", "adds up in float32 and rounds to bfloat16"),
        (torch.complex64, "composite", "no complex64"),
        (torch.complex128, "composite", "no complex128"),
    ],
)
def test_other_dtypes(dtype, name, words):
    found = fastlstm.engine(LSTM(3, 4, dtype=dtype), torch.zeros(5, 2, 3, dtype=dtype))
    assert found.name == name
    assert words in found.why


def test_a_packed_batch_is_asked_for_its_data():
    packed = pack_padded_sequence(torch.zeros(5, 2, 3), torch.tensor([5, 2]))
    assert fastlstm.engine(LSTM(3, 4), packed).name == "native"


@pytest.mark.parametrize(
    ("device", "name"),
    [("cuda", "cudnn"), ("mps", "composite"), ("xpu", "composite"), ("meta", "native"), ("cpu", "native")],
)
def test_devices(device, name):
    found = runners.engine(Sizes(3, 4), torch.device(device), torch.float32, context.here())
    assert found.name == name
    assert found.why


def test_cuda_has_no_kernel_for_complex_numbers():
    found = runners.engine(Sizes(3, 4), torch.device("cuda"), torch.complex64, context.here())
    assert found.name == "composite"


def test_transforms_and_forward_mode_are_native_chain_by_chain():
    lstm = LSTM(3, 4)
    said = []

    def ask(x):
        said.append(fastlstm.engine(lstm, x))
        return x.sum()

    torch.func.grad(ask)(torch.zeros(5, 2, 3))
    with torch.autograd.forward_ad.dual_level():
        ask(torch.zeros(5, 2, 3))
    ask(torch.zeros(5, 2, 3))
    assert {engine.name for engine in said} == {"native"}
    assert ["chain by chain" in engine.why for engine in said] == [True, True, False]


def test_engine_knows_only_lstms_and_grus():
    with pytest.raises(
        TypeError, match=r"fastlstm\.LSTMCell, or one of torch\.nn, got torch\.nn\.modules\.linear\.Linear"
    ):
        fastlstm.engine(nn.Linear(3, 4), torch.zeros(5, 2, 3))


def test_a_fallback_says_so_once():
    lstm, x = LSTM(3, 4, dtype=torch.complex64), torch.zeros(5, 2, 3, dtype=torch.complex64)
    with pytest.warns(
        fallback.FallbackWarning, match="plain tensor operations, slowly: the CPU engine has no complex64"
    ):
        lstm(x)
    lstm(x)  # warnings are errors here
    half = LSTM(3, 4, dtype=torch.bfloat16)
    with pytest.warns(fallback.FallbackWarning, match="derivatives of any order .* in bfloat16"):
        torch.func.grad(lambda x: half(x)[0].sum())(torch.zeros(5, 2, 3, dtype=torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_gradients_do_not_fall_back(dtype):
    x = torch.randn(5, 2, 3, requires_grad=True, dtype=dtype)
    output, _ = LSTM(3, 4, dtype=dtype)(x)
    (dx,) = torch.autograd.grad(output.sum(), x, retain_graph=True)
    assert not dx.requires_grad
    fastlstm.strict(True)
    (dx,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    assert dx.requires_grad


def test_strict_raises_for_what_was_said_before():
    lstm, x = LSTM(3, 4, dtype=torch.complex64), torch.zeros(5, 2, 3, dtype=torch.complex64)
    with pytest.warns(fallback.FallbackWarning):
        lstm(x)
    fastlstm.strict(True)
    with pytest.raises(RuntimeError, match=r"fastlstm\.strict: .*no complex64"):
        lstm(x)


def test_a_transform_has_no_kernel_on_any_device():
    def asked(x: torch.Tensor) -> torch.Tensor:
        assert runners.engine(Sizes(3, 4), torch.device("cuda"), torch.float32, context.here()).name == "composite"
        return x.sum()

    torch.func.grad(asked)(torch.zeros(2))
    torch.func.vmap(asked)(torch.zeros(2))


def test_strict_raises_where_a_call_would_fall_back():
    lstm, x = LSTM(3, 4, dtype=torch.complex64), torch.zeros(5, 2, 3, dtype=torch.complex64)
    fastlstm.strict(True)
    with pytest.raises(RuntimeError, match=r"fastlstm\.strict: .*no complex64"):
        lstm(x)
    LSTM(3, 4)(torch.zeros(5, 2, 3))
    LSTM(3, 4, dtype=torch.bfloat16)(torch.zeros(5, 2, 3, dtype=torch.bfloat16))
    LSTM(3, 4, device="meta")(torch.zeros(5, 2, 3, device="meta"))
    fastlstm.strict(False)
    with pytest.warns(fallback.FallbackWarning):
        lstm(x)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
def test_no_rnn_operator_of_torch_runs_on_a_cpu(packed, train):
    lstm = LSTM(3, 4, 2, bidirectional=True, dropout=0.5).train(train)
    call = draw(lstm, 50, 3, lengths=[50, 40, 1] if packed else None)
    with warnings.catch_warnings(), profile(activities=[ProfilerActivity.CPU]) as trace:
        warnings.simplefilter("ignore")
        evaluate(lstm, call)
    counts = {event.key: event.count for event in trace.key_averages()}
    unwanted = ("lstm", "rnn", "mm", "linear", "sigmoid", "tanh", "addmm", "matmul")
    assert not [key for key in counts if key.startswith("aten::") and any(word in key for word in unwanted)]
    busiest = max(counts, key=lambda key: counts[key])
    assert counts[busiest] < 50, f"{busiest} ran {counts[busiest]} times: once a step?"


def test_torchs_own_threads_are_lent_to_the_engine(monkeypatch):
    if sys.platform != "linux":
        pytest.skip("torch runs on libgomp on Linux")
    given = []
    monkeypatch.setattr(_engine, "use_openmp", lambda *addresses: given.append(addresses))
    assert threads.share_torch_threads() == torch.backends.openmp.is_available()
    if given:
        # The second address answers as omp_get_thread_num does outside a parallel region, the third as
        # omp_get_num_threads.
        _, thread_num, num_threads = (ctypes.CFUNCTYPE(ctypes.c_int)(address) for address in given[0])
        assert (thread_num(), num_threads()) == (0, 1)


def test_no_openmp_no_harm(monkeypatch):
    def absent(*_, **__):
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", absent)
    assert threads.share_torch_threads() is False


def test_more_threads_give_the_same_bits():
    code = (
        "import torch, fastlstm\n"
        "lstm, x = fastlstm.LSTM(16, 64, 2), torch.randn(40, 33, 16)\n"
        "found = []\n"
        "for threads in (1, 2, 3):\n"
        "    torch.set_num_threads(threads)\n"
        "    lstm.zero_grad()\n"
        "    output, _ = lstm(x)\n"
        "    output.square().sum().backward()\n"
        "    found.append([output.detach(), *(p.grad.clone() for p in lstm.parameters())])\n"
        "print(all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other)))\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "True"


@pytest.mark.parametrize("mode", ["torch.inference_mode()", "FakeTensorMode()", "torch.no_grad()"])
def test_what_is_used_first_inside_a_mode_trains_on_the_engine_after_it(mode):
    run_python(
        "import torch\n"
        "from torch._subclasses import FakeTensorMode\n"
        f"with {mode}:\n"
        "    from fastlstm import LSTM, strict\n"
        "    LSTM(3, 4)(torch.zeros(5, 2, 3))\n"
        "strict()\n"
        "lstm = LSTM(3, 4)\n"
        "lstm(torch.zeros(5, 2, 3))[0].sum().backward()\n"
    )
