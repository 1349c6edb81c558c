"""gru.trace: the numbers of forward, and on the way to them those of the equations, each with its gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from fastlstm import GRU
from tests.conftest import assert_bits, assert_close, draw
from tests.tolerances import STEP_VALUE, TOLERANCE
from tests.torch.test_lstm_lengths import layers
from tests.torch.test_lstm_mask import mask_of
from tests.torch.test_trace import LENGTHS, H, I, N, T, compare, leaves, traced

falls_back = pytest.mark.filterwarnings("ignore:fastlstm runs in plain tensor operations")


@falls_back
@given(layers(GRU), st.integers(1, 9), st.none() | st.integers(1, 6), st.booleans(), st.booleans(), st.data())
def test_it_is_what_the_equations_compute_with_every_gradient(gru, T, N, hx, ragged, data):
    compare(gru, T, N, hx, ragged, data)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str)
def test_the_equations_of_a_step(options, dtype):
    """From the traced gates: h = (1 - z) n + z h, and r, z, n from what the layer below traced, all names as in the docstring."""
    gru = GRU(I, H, **options, dtype=dtype)
    close = STEP_VALUE if dtype is torch.float64 else {"rtol": 0, "atol": TOLERANCE[dtype, "value"]}
    call = draw(gru, T, N)
    trace = gru.trace(call.x, call.hx)
    assert [len(directions) for directions in trace.layers] == [1 + gru.bidirectional] * gru.num_layers
    x = call.x
    for k, directions in enumerate(trace.layers):
        for d, s in enumerate(directions):
            assert s._fields == ("h", "r", "z", "n")
            at = f"_l{k}" + ("_reverse" if d else "")
            h_0 = call.hx[k * (1 + gru.bidirectional) + d][None]
            before = torch.cat([s.h[1:], h_0] if d else [h_0, s.h[:-1]])
            given, kept = x @ getattr(gru, f"weight_ih{at}").T, before @ getattr(gru, f"weight_hh{at}").T
            if gru.bias:
                given, kept = given + getattr(gru, f"bias_ih{at}"), kept + getattr(gru, f"bias_hh{at}")
            (x_r, x_z, x_n), (h_r, h_z, h_n) = given.chunk(3, -1), kept.chunk(3, -1)
            torch.testing.assert_close(s.r, torch.sigmoid(x_r + h_r), **close)
            torch.testing.assert_close(s.z, torch.sigmoid(x_z + h_z), **close)
            torch.testing.assert_close(s.n, torch.tanh(x_n + s.r * h_n), **close)
            torch.testing.assert_close(s.h, (1 - s.z) * s.n + s.z * before, **close)
        x = torch.cat([s.h for s in directions], -1)
    assert torch.equal(x, trace.output)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("arguments", [{}, {"lengths": LENGTHS}], ids=str)
def test_its_results_have_the_bits_of_forward(grad, arguments):
    gru = GRU(I, H, 2, bidirectional=True, dropout=0.5)
    call = draw(gru, T, N)
    with torch.set_grad_enabled(grad):
        torch.manual_seed(4)
        output, h_n = gru(call.x, call.hx, **arguments)
        torch.manual_seed(4)
        trace = gru.trace(call.x, call.hx, **arguments)
    assert_bits({"output": trace.output, "h_n": trace.h_n}, {"output": output, "h_n": h_n})
    assert torch.equal(torch.cat([s.h for s in trace.layers[-1]], -1), output)
    assert trace.output.requires_grad == grad
    assert (trace.lengths is None) == (not arguments)
    assert trace.batch_first is False


def test_padding_is_zero_and_never_read():
    gru = GRU(I, H, 2, bidirectional=True, batch_first=True)
    call = draw(gru, T, N)
    dirty = call._replace(x=call.x.clone())
    for n, length in enumerate(LENGTHS):
        dirty.x[n, length:] = float("nan")
    values, gradients = traced(gru, dirty, lengths=LENGTHS)
    assert all(t.isfinite().all() for t in (*values.values(), *gradients.values()))
    for n, length in enumerate(LENGTHS):
        for name, t in values.items():
            assert name == "h_n" or (t[n, length:] == 0).all(), name


def test_a_packed_batch_a_nested_one_and_a_mask():
    gru = GRU(I, H, 2, bidirectional=True, batch_first=True)
    x, lengths = torch.randn(4, T, I), [3, 1, 7, 5]
    padded = gru.trace(x, lengths=lengths)
    packed = gru.trace(pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False))
    rows = [row[:n] for row, n in zip(x, lengths, strict=True)]
    nested = gru.trace(torch.nested.nested_tensor(rows, layout=torch.jagged))
    masked = gru.trace(x, mask=mask_of(lengths, True))
    assert_bits({"h_n": packed.h_n}, {"h_n": padded.h_n})
    assert_bits(leaves(masked), leaves(padded))
    assert masked.lengths.tolist() == lengths
    for layer in range(2):
        for direction in range(2):
            for name in "hrzn":
                theirs = getattr(padded.layers[layer][direction], name)
                a, b = (getattr(trace.layers[layer][direction], name) for trace in (packed, nested))
                assert isinstance(a, PackedSequence)
                assert torch.equal(pad_packed_sequence(a, batch_first=True)[0], theirs), name
                for n, row in enumerate(b.unbind()):
                    assert torch.equal(row, theirs[n, : lengths[n]]), name


@falls_back
def test_gradients_have_gradients():
    gru = GRU(2, 3, 2, bidirectional=True, dtype=torch.float64)
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: tuple(leaves(gru.trace(x)).values()), (x,))
    assert torch.autograd.gradgradcheck(lambda x: tuple(leaves(gru.trace(x)).values()), (x,), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits(dtype):
    gru = GRU(I, H, 2, dtype=dtype)
    call = draw(gru, T, N)
    values, _ = traced(gru, call)
    wide = GRU(I, H, 2)
    wide.load_state_dict(gru.state_dict())
    theirs, _ = traced(wide, call.to(torch.float32))
    for name, t in values.items():
        assert t.dtype is dtype
        assert torch.equal(t, theirs[name].to(dtype)), name


@falls_back
def test_under_saved_tensor_hooks():
    gru = GRU(I, H, 2)
    call = draw(gru, T, N)
    values, gradients = traced(gru, call)
    with torch.autograd.graph.save_on_cpu():
        again, their_gradients = traced(gru, call)
    for name, t in values.items():
        tolerance = TOLERANCE[torch.float32, "value"]
        torch.testing.assert_close(again[name], t, rtol=tolerance, atol=tolerance)
    assert_close(gradients, their_gradients, torch.float32)


@pytest.mark.parametrize("name", ["r", "z", "n", "h"])
@pytest.mark.parametrize("layer", [0, 1])
def test_a_loss_of_one_gate_alone(layer, name):
    """Gradients of what the caller reads of a trace, and of nothing else."""
    gru, wide = GRU(I, H, 2), GRU(I, H, 2, dtype=torch.float64)
    wide.load_state_dict(gru.state_dict())
    x, found = torch.randn(T, N, I), []
    for kind in (gru, wide):
        s = kind.trace(x.to(kind.weight_ih_l0.dtype)).layers[layer][0]
        named = dict(kind.named_parameters())
        gradients = torch.autograd.grad(getattr(s, name).square().sum(), list(named.values()), allow_unused=True)
        found.append({f"d{key}": torch.zeros(()) if g is None else g for key, g in zip(named, gradients, strict=True)})
    for key, g in found[0].items():
        assert ("_l1" in key and layer == 0) == (not g.any()), key
    above = [key for key in found[0] if not found[0][key].any()]
    assert_close(*({key: g for key, g in each.items() if key not in above} for each in found), torch.float32)


@pytest.mark.parametrize("grad", [True, False])
def test_strides_change_nothing(grad):
    gru, x, h_0 = GRU(I, H, 2), torch.randn(T, N, I), torch.randn(N, 2, H).transpose(0, 1)
    expected = leaves(gru.trace(x.clone(), h_0.contiguous()))
    for parameter in gru.parameters():
        parameter.data = torch.stack([parameter.data, parameter.data], -1)[..., 0]
    with torch.set_grad_enabled(grad):
        assert_bits(leaves(gru.trace(x.transpose(0, 1).contiguous().transpose(0, 1), h_0)), expected)
