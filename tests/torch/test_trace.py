"""lstm.trace: the numbers of forward, and on the way to them those of the equations, each with its gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from fastlstm import LSTM
from fastlstm.torch.runners import native
from tests.conftest import VALUES, assert_bits, assert_close, draw, evaluate, like, outcome, states_of
from tests.tolerances import STEP_VALUE, TOLERANCE
from tests.torch.test_lstm_lengths import layers, resets

T, N, I, H = 7, 5, 3, 4
LENGTHS = [3, 0, 7, 1, 5]
falls_back = pytest.mark.filterwarnings("ignore:fastlstm runs in plain tensor operations")


def states_of_trace(trace) -> tuple[Tensor, ...]:
    return (trace.h_n, trace.c_n) if hasattr(trace, "c_n") else (trace.h_n,)


def leaves(trace) -> dict[str, Tensor]:
    """Everything in a trace, by name."""
    named = dict(zip(VALUES, (trace.output, *states_of_trace(trace)), strict=False))
    for layer, directions in enumerate(trace.layers):
        for direction, steps in enumerate(directions):
            named |= {f"{name}_l{layer}_d{direction}": t for name, t in zip(steps._fields, steps, strict=True)}
    return {name: t.data if isinstance(t, PackedSequence) else t for name, t in named.items()}


def traced(lstm: nn.Module, call, **arguments) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A trace, and the gradients of a weighted sum of everything in it."""
    x = call.x.detach().clone().requires_grad_()
    hx = None if call.hx is None else like(call.hx, [t.detach().clone().requires_grad_() for t in states_of(call.hx)])
    torch.manual_seed(0)
    found = leaves(lstm.trace(x, hx, **arguments))
    generator = torch.Generator().manual_seed(1)
    loss = sum((torch.randn(t.shape, generator=generator).to(t) * t).sum() for t in found.values())
    inputs = {"dx": x} | ({} if hx is None else dict(zip(("dh_0", "dc_0"), states_of(hx), strict=False)))
    inputs |= {f"d{name}": p for name, p in lstm.named_parameters()}
    gradients = dict(zip(inputs, torch.autograd.grad(loss, list(inputs.values())), strict=True))
    return {name: t.detach() for name, t in found.items()}, gradients


def expected(lstm: nn.Module, call, **arguments) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The same in float64 and plain tensor operations."""
    wide = type(lstm)(
        lstm.input_size, lstm.hidden_size, lstm.num_layers, lstm.bias, lstm.batch_first, 0.0, lstm.bidirectional,
        lstm.proj_size, dtype=torch.float64,
    )  # fmt: skip
    wide.load_state_dict(lstm.state_dict())
    with pytest.MonkeyPatch.context() as patch:  # as if no tensor could be read by address
        patch.setattr(native, "wants_graph", lambda *_: None)
        return traced(wide, call.to(torch.float64), **arguments)


@falls_back
@given(layers(), st.integers(1, 9), st.none() | st.integers(1, 6), st.booleans(), st.booleans(), st.data())
def test_it_is_what_the_equations_compute_with_every_gradient(lstm, T, N, hx, ragged, data):
    compare(lstm, T, N, hx, ragged, data)


def compare(lstm, T, N, hx, ragged, data):
    call = draw(lstm, T, N, hx=hx)
    arguments = {}
    if ragged:
        shape = [T] if N is None else [N, T] if lstm.batch_first else [T, N]
        length = st.integers(1, T)
        arguments["lengths"] = data.draw(length if N is None else st.lists(length, min_size=N, max_size=N))
        arguments["reset"] = resets(0.2, *shape)
    values, gradients = traced(lstm, call, **arguments)
    theirs, their_gradients = expected(lstm, call, **arguments)
    dtype = lstm.weight_ih_l0.dtype
    results = VALUES if lstm.mode == "LSTM" else VALUES[:2]
    assert_close({k: values[k] for k in results}, {k: theirs[k] for k in results}, dtype)
    tolerance = TOLERANCE[dtype, "value"]
    for name, value in values.items():
        torch.testing.assert_close(
            value.double(), theirs[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert_close(gradients, their_gradients, dtype)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("arguments", [{}, {"lengths": LENGTHS}])
def test_its_results_have_the_bits_of_forward(grad, arguments):
    lstm = LSTM(I, H, 2, bidirectional=True, dropout=0.5)
    call = draw(lstm, T, N)
    with torch.set_grad_enabled(grad):
        torch.manual_seed(4)
        output, (h_n, c_n) = lstm(call.x, call.hx, **arguments)
        torch.manual_seed(4)
        trace = lstm.trace(call.x, call.hx, **arguments)
    assert_bits(
        {"output": trace.output, "h_n": trace.h_n, "c_n": trace.c_n}, {"output": output, "h_n": h_n, "c_n": c_n}
    )
    assert torch.equal(torch.cat([s.h for s in trace.layers[-1]], -1), output)
    assert trace.output.requires_grad == grad


def test_so_much_that_threads_share_the_copying():
    lstm = LSTM(I, 100, 2, bidirectional=True)
    x = torch.randn(40, 33, I)  # 10 MiB of steps: a thread copies half a MiB
    threads = torch.get_num_threads()
    try:
        traces = []
        for count in (1, 5):
            torch.set_num_threads(count)
            with torch.no_grad():
                traces.append(leaves(lstm.trace(x)))
    finally:
        torch.set_num_threads(threads)
    assert_bits(*traces)


def test_its_gradients_are_those_of_forward_where_only_results_are_used():
    lstm = LSTM(I, H, 2, proj_size=2)
    call = draw(lstm, T, N)

    class Tracing(LSTM):
        def forward(self, x, hx):
            trace = self.trace(x, hx)
            return trace.output, (trace.h_n, trace.c_n)

    ours = Tracing(I, H, 2, proj_size=2)
    ours.load_state_dict(lstm.state_dict())
    assert_bits(evaluate(ours, call), evaluate(lstm, call))


def test_padding_is_zero_and_never_read():
    lstm = LSTM(I, H, 2, bidirectional=True, batch_first=True)
    call = draw(lstm, T, N)
    dirty = call._replace(x=call.x.clone())
    for n, length in enumerate(LENGTHS):
        dirty.x[n, length:] = float("nan")
    values, gradients = traced(lstm, dirty, lengths=LENGTHS)
    assert all(t.isfinite().all() for t in (*values.values(), *gradients.values()))
    for n, length in enumerate(LENGTHS):
        for name, t in values.items():
            assert name in ("h_n", "c_n") or (t[n, length:] == 0).all(), name


def test_a_packed_batch_and_a_nested_one_keep_their_form():
    lstm = LSTM(I, H, 2, bidirectional=True, batch_first=True)
    x = torch.randn(4, T, I)
    lengths = [3, 1, 7, 5]
    padded = lstm.trace(x, lengths=lengths)
    packed = lstm.trace(pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False))
    nested = lstm.trace(
        torch.nested.nested_tensor([row[:n] for row, n in zip(x, lengths, strict=True)], layout=torch.jagged)
    )
    assert_bits({"h": packed.h_n, "c": packed.c_n}, {"h": padded.h_n, "c": padded.c_n})
    for layer in range(2):
        for direction in range(2):
            for name in padded.layers[0][0]._fields:
                theirs = getattr(padded.layers[layer][direction], name)
                a = getattr(packed.layers[layer][direction], name)
                assert isinstance(a, PackedSequence)
                whole, _ = torch.nn.utils.rnn.pad_packed_sequence(a, batch_first=True)
                assert torch.equal(whole, theirs), name
                b = getattr(nested.layers[layer][direction], name)
                assert b.is_nested
                for n, row in enumerate(b.unbind()):
                    assert torch.equal(row, theirs[n, : lengths[n]]), name


@falls_back
def test_gradients_have_gradients():
    lstm = LSTM(2, 3, 2, bidirectional=True, dtype=torch.float64)
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)

    def run(x):
        return tuple(leaves(lstm.trace(x)).values())

    assert torch.autograd.gradcheck(run, (x,))
    assert torch.autograd.gradgradcheck(run, (x,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits(dtype):
    lstm = LSTM(I, H, 2, dtype=dtype)
    call = draw(lstm, T, N)
    values, _ = traced(lstm, call)
    wide = LSTM(I, H, 2)
    wide.load_state_dict(lstm.state_dict())
    theirs, _ = traced(wide, call.to(torch.float32))
    for name, t in values.items():
        assert t.dtype is dtype
        assert torch.equal(t, theirs[name].to(dtype)), name


@falls_back
def test_under_saved_tensor_hooks():
    lstm = LSTM(I, H, 2)
    call = draw(lstm, T, N)
    values, gradients = traced(lstm, call)
    seen = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t.numel()) or t.clone(), lambda t: t):
        again, their_gradients = traced(lstm, call)
    assert sum(seen) > 2 * T * N * 5 * H  # the gates and cells of both layers are among them
    for name, t in values.items():
        tolerance = TOLERANCE[torch.float32, "value"]
        torch.testing.assert_close(again[name], t, rtol=tolerance, atol=tolerance)
    assert_close(gradients, their_gradients, torch.float32)


def test_a_trace_of_torch_jit_is_another_thing():
    class Tracing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = LSTM(I, H)

        def forward(self, x):
            return self.lstm.trace(x).output

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastlstm.torch.layer.tracing_state", lambda: object())
        kind, message = outcome(lambda: Tracing()(torch.zeros(T, N, I)))
    assert kind is RuntimeError
    assert message == "torch.jit.trace records forward alone"


def test_the_equations_of_a_step():
    """The names are those of the equations: c = f c + i g, h = o tanh(c)."""
    lstm = LSTM(I, H, dtype=torch.float64)
    call = draw(lstm, T, N)
    s = lstm.trace(call.x, call.hx).layers[0][0]
    before = torch.cat([call.hx[1], s.c[:-1]])
    torch.testing.assert_close(s.c, s.f * before + s.i * s.g, **STEP_VALUE)
    torch.testing.assert_close(s.h, s.o * s.c.tanh(), **STEP_VALUE)


@falls_back
@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
def test_complex_numbers():
    lstm = LSTM(I, H, 2, dtype=torch.complex64)
    call = draw(lstm, T, N)
    trace = lstm.trace(call.x, call.hx)
    output, (h_n, c_n) = lstm(call.x, call.hx)
    assert_bits(
        {"output": trace.output, "h_n": trace.h_n, "c_n": trace.c_n}, {"output": output, "h_n": h_n, "c_n": c_n}
    )
    assert trace.layers[0][0].f.dtype is torch.complex64


def test_errors_are_those_of_forward():
    lstm = LSTM(I, H)
    x, hx = torch.zeros(T, N, I), (torch.zeros(1, N, H, dtype=torch.float64),) * 2
    for arguments in ((x[..., :2],), (x, hx), (x.double(),), (x[:0],)):
        expected = outcome(lambda a=arguments: lstm(*a))
        assert expected[0] is not None
        assert outcome(lambda a=arguments: lstm.trace(*a)) == expected


def test_in_eval_nothing_is_dropped():
    lstm, x = LSTM(I, H, 2, dropout=0.5).eval(), torch.randn(T, N, I)
    trace = lstm.trace(x)
    assert torch.equal(trace.output, lstm(x)[0])


def test_hidden_states_stand_before_dropout_for_gradients_too():
    lstm, x = LSTM(I, H, 2, dropout=0.5, dtype=torch.float64), torch.randn(T, N, I, dtype=torch.float64)
    found = []
    for mode in (True, False):
        leaf = x.clone().requires_grad_()
        found += torch.autograd.grad(lstm.train(mode).trace(leaf).layers[0][0].h.sum(), leaf)
    assert torch.equal(*found)


@pytest.mark.parametrize("grad", [True, False])
def test_strides_change_nothing(grad):
    lstm, x = LSTM(I, H, 2), torch.randn(T, N, I)
    hx = tuple(torch.randn(N, 2, H).transpose(0, 1) for _ in range(2))
    expected = leaves(lstm.trace(x.clone(), tuple(t.contiguous() for t in hx)))
    for parameter in lstm.parameters():
        parameter.data = torch.stack([parameter.data, parameter.data], -1)[..., 0]
    assert not lstm.weight_hh_l0.is_contiguous()
    with torch.set_grad_enabled(grad):
        assert_bits(leaves(lstm.trace(x.transpose(0, 1).contiguous().transpose(0, 1), hx)), expected)


def test_the_lengths_it_keeps_are_its_own():
    lengths = torch.tensor(LENGTHS)
    trace = LSTM(I, H).trace(torch.randn(T, N, I), lengths=lengths)
    lengths.zero_()
    assert trace.lengths.tolist() == LENGTHS
