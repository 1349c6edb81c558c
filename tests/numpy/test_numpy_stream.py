"""Streams: chunked is whole, to the bit, for any chunking; nothing is read or written but what it says."""

import gc
import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fastlstm
import fastlstm.numpy
from tests.numpy.test_numpy_layers import arrays_of, as_tuple


def layer_of(kind: str, I: int, H: int, layers: int, P: int = 0, dtype: Any = torch.float32, bias: bool = True) -> Any:
    projection = {"proj_size": P} if P else {}
    module = getattr(fastlstm, kind)(I, H, layers, bias, **projection, dtype=dtype)
    return getattr(fastlstm.numpy, kind).from_state(arrays_of(module))


def frames(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@given(
    kind=st.sampled_from(["LSTM", "GRU"]),
    sizes=st.tuples(st.integers(1, 40), st.integers(2, 70), st.integers(1, 3)),
    projected=st.booleans(),
    wide=st.booleans(),
    N=st.integers(1, 9),
    cuts=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    hx=st.booleans(),
)
def test_chunked_is_whole_to_the_bit(kind, sizes, projected, wide, N, cuts, hx):
    I, H, layers = sizes
    P = H // 2 if projected and kind == "LSTM" else 0
    dtype = torch.float64 if wide else torch.float32
    layer = layer_of(kind, I, H, layers, P, dtype)
    T = max(2, sum(cuts))
    x = frames(T, N, I, dtype=layer.dtype)
    states = tuple(frames(layers, N, width, dtype=layer.dtype) for width in layer.sizes.of_states)
    initial = states if len(states) > 1 else states[0]
    output, last = layer(x, initial if hx else None)
    stream = layer.stream(N)
    if hx:
        stream.state = initial
    found, start = np.empty_like(output), 0
    for cut in [*cuts, T]:
        end = min(T, start + cut)
        if end - start == 1:
            stream.step(x[start], out=found[start])
        elif end > start:
            found[start:end] = stream.block(x[start:end])
        start = end
    assert np.array_equal(found, output)
    for mine, other in zip(as_tuple(stream.state), as_tuple(last), strict=True):
        assert np.array_equal(mine, other)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_one_sequence_needs_no_batch(kind):
    layer = layer_of(kind, 3, 5, 2)
    x = frames(6, 3)
    expected, _ = layer(x)
    stream = layer.stream()
    assert stream.step(x[0]).shape == (5,)
    assert np.array_equal(stream.block(x[1:]), expected[1:])
    stream.reset()
    assert np.array_equal(stream.step(x[:1])[0], expected[0])


def test_reset_of_rows_and_copies():
    layer = layer_of("LSTM", 3, 5, 1)
    x = frames(4, 3)
    fresh = layer.stream(4).step(x)
    stream = layer.stream(4)
    for rows in (1, [0, 2], np.array([False, True, False, True]), slice(1, 3), -1):
        stream.block(frames(3, 4, 3))
        copy = stream.copy()
        stream.reset(rows)
        again, other = stream.step(x), copy.step(x)
        chosen = np.zeros(4, bool)
        chosen[rows] = True
        assert np.array_equal((again == fresh).all(1), chosen)
        assert not (other == fresh).all(1).any()
    with pytest.raises(IndexError):
        stream.reset(4)
    stream.reset([])
    assert not np.array_equal(stream.step(x), fresh)


def test_what_it_refuses():
    layer = layer_of("LSTM", 3, 5, 1)
    stream, x = layer.stream(2), frames(2, 3)
    before = stream.step(x)
    state = stream.state
    read_only = np.empty((2, 5), np.float32)
    read_only.flags.writeable = False
    for call in (
        lambda: stream.step(x.astype(np.float64)),
        lambda: stream.step(frames(2, 4)),
        lambda: stream.step(frames(3, 3)),
        lambda: stream.step(frames(3)),
        lambda: stream.step(frames(2, 6)[:, ::2]),
        lambda: stream.step(x.tolist()),
        lambda: stream.step(None),
        lambda: stream.step(x, out=np.empty((2, 4), np.float32)),
        lambda: stream.step(x, out=np.empty((2, 5))),
        lambda: stream.step(x, out=read_only),
        lambda: stream.block(x),
        lambda: stream.block(frames(2, 2, 3), out=np.empty((1, 2, 5), np.float32)),
    ):
        with pytest.raises(ValueError, match=r"expected a contiguous array of float32 and shape \(.*H_in = 3"):
            call()
    assert all(np.array_equal(a, b) for a, b in zip(stream.state, state, strict=True)), "nothing half-done"
    for wrong in (state[0], (state[0],), (state[0], state[1], state[1]), (state[0][:, :1], state[1])):
        with pytest.raises(ValueError, match="expected states of shapes"):
            stream.state = wrong
    with pytest.raises(ValueError, match="batch of at least 1"):
        layer.stream(0)
    both = fastlstm.numpy.LSTM.from_state(arrays_of(fastlstm.LSTM(3, 5, bidirectional=True)))
    with pytest.raises(ValueError, match="its reverse direction begins at the last step"):
        both.stream()
    assert before.shape == (2, 5)


def test_many_streams_share_a_layer_in_many_threads():
    layer = layer_of("LSTM", 16, 64, 2)
    x = frames(200, 16)
    expected, _ = layer(x)
    found: list[Any] = [None] * 6

    def work(k: int) -> None:
        stream = layer.stream()
        found[k] = np.stack([stream.step(frame) for frame in x])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(y, expected) for y in found)


def test_a_stream_outlives_its_layer():
    layer = layer_of("GRU", 3, 5, 1)
    x = frames(5, 3)
    expected, _ = layer(x)
    stream = layer.stream()
    del layer
    gc.collect()
    assert np.array_equal(stream.block(x), expected)


def test_a_step_into_out_allocates_nothing():
    stream, x, y = layer_of("LSTM", 16, 32, 1).stream(), frames(16), np.empty(32, np.float32)
    stream.step(x, y)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(1000):
        stream.step(x, out=y)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 1000
    assert peak - before < 4000
