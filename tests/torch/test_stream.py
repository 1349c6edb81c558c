"""lstm.stream(): the layer's own output, frame by frame. What a stream is, tests/numpy/test_numpy_stream.py says."""

import pytest
import torch

from fastlstm import GRU, LSTM


@pytest.mark.parametrize("kind", [LSTM, GRU])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("grad", [True, False])
def test_chunks_are_the_whole(kind, dtype, grad):
    layer = kind(5, 9, 2, dtype=dtype)
    x = torch.randn(7, 3, 5, dtype=dtype)
    with torch.set_grad_enabled(grad):
        output, last = layer(x)
        stream = layer.stream(3)
        out = torch.empty(2, 3, 9, dtype=dtype)
        found = [stream.step(x[0]), stream.step(x[1]), *stream.block(x[2:5]), *stream.block(x[5:], out=out)]
    assert torch.equal(torch.stack(found), output)
    assert torch.equal(out, output[5:])
    assert not found[0].requires_grad
    states = stream.state if kind is LSTM else (stream.state,)
    assert all(torch.equal(a, b) for a, b in zip(states, last if kind is LSTM else (last,), strict=True))


def test_state_rows_and_copies():
    stream = LSTM(5, 9).stream(4)
    x = torch.randn(4, 5)
    fresh = stream.step(x)
    again = stream.copy()
    again.reset(torch.tensor([True, False, False, True]))
    assert torch.equal((again.step(x) == fresh).all(1), torch.tensor([True, False, False, True]))
    stream.state = again.state
    assert torch.equal(stream.step(x), again.step(x))
    with pytest.raises(ValueError, match="expected states of shapes"):
        stream.state = torch.zeros(1, 4, 9)


def test_the_weights_are_those_it_began_with():
    lstm, x = LSTM(5, 9), torch.randn(5)
    expected = lstm.stream().step(x)
    stream = lstm.stream()
    with torch.no_grad():
        lstm.weight_ih_l0.zero_()
    assert torch.equal(stream.step(x), expected)
    assert not torch.equal(lstm.stream().step(x), expected)


def test_what_it_refuses():
    stream = LSTM(5, 9).stream()
    for wrong in (
        torch.randn(4),
        torch.randn(5).double(),
        torch.randn(10)[::2],
        [0.0] * 5,
        torch.randn(5, device="meta"),
    ):
        with pytest.raises(ValueError, match=r"expected a contiguous array of torch\.float32"):
            stream.step(wrong)
    with pytest.raises(ValueError, match="bidirectional"):
        LSTM(5, 9, bidirectional=True).stream()
    with pytest.raises(ValueError, match="batch of at least 1"):
        LSTM(5, 9).stream(0)
    for other in (LSTM(5, 9, device="meta"), LSTM(5, 9, dtype=torch.bfloat16)):
        with pytest.raises(TypeError, match="float32 or all float64"):
            other.stream()
