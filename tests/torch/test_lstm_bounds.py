"""No call of either cell reads or writes outside its arrays. Every array lies against a page no one may touch."""

import sys

import pytest
from conftest import run_python

GUARDED = """
import ctypes, itertools, mmap
import numpy as np
from fastlstm import _engine

libc = ctypes.CDLL(None, use_errno=True)
PAGE = mmap.PAGESIZE
kept = []

def fenced(count, dtype, at_end):
    '''`count` numbers whose last (or first) byte touches a page that nobody may read or write.'''
    bytes = count * np.dtype(dtype).itemsize
    pages = -(-bytes // PAGE)
    area = mmap.mmap(-1, (pages + 2) * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    for fence in (start, start + (pages + 1) * PAGE):
        assert libc.mprotect(ctypes.c_void_p(fence), PAGE, 0) == 0
    offset = PAGE + (pages * PAGE - bytes if at_end else 0)
    kept.append(area)
    array = np.frombuffer(area, dtype, count, offset)
    array[:] = np.random.default_rng(count).standard_normal(count) * 0.3
    return array

def run(isa, cell, dtype, at_end, T, N, I, H, P, layers, D, lengths, threads):
    _engine.use_isa(isa)
    make = lambda *shape: fenced(int(np.prod(shape)), dtype, at_end).reshape(shape)
    gates = 4 if cell == "LSTM" else 3
    layer, out, real = _engine.Layer(I, H, P, layers, D, cell=cell), P or H, np.float64 if dtype == np.float64 else np.float32
    lead, batch_sizes = (T, N), None
    if lengths is not None:
        batch_sizes = fenced(T, np.int64, at_end)
        batch_sizes[:] = [sum(length > t for length in lengths) for t in range(T)]
        lead = (int(batch_sizes.sum()),)
    weights = []
    for k, _ in itertools.product(range(layers), range(D)):
        weights += [make(gates * H, I if k == 0 else D * out), make(gates * H, out), make(gates * H), make(gates * H)]
        weights += [make(P, H)] if P else []
    features = (out, H) if cell == "LSTM" else (H,)  # of the states
    x, hx = make(*lead, I), tuple(make(layers * D, N, size) for size in features)
    masks = [make(*lead, D * out) for _ in range(layers - 1)]
    results = [make(*lead, D * out), *(make(layers * D, N, size) for size in features)]
    saved = fenced(int(np.prod(lead)) * layer.saved_reals(np.dtype(dtype).name), real, at_end)
    call = (layer, weights, x, hx if cell == "LSTM" else hx[0], threads, False, None, None, batch_sizes, None, masks)
    assert _engine.forward(*call, False, results) is not None
    _, _, left = _engine.forward(*call, saved, results)
    inputs = [x, *hx, *weights]
    gradients = [make(*array.shape) for array in inputs]
    found = _engine.backward(left, inputs, masks, results, [True] * len(inputs), threads, gradients)
    assert all(a is b for a, b in zip(found, gradients, strict=True))
    assert all(np.isfinite(a).all() for a in (*results, *gradients))
    kept.clear()

ran = 0
for isa, cell in itertools.product(_engine.isas(), ("LSTM", "GRU")):
    for dtype, at_end, (T, N, I, H, P) in itertools.product(
        (np.float32, np.float64, np.float16),
        (True, False),
        [
            (1, 1, 1, 1, 0),
            (2, 1, 3, 5, 2),
            (3, 7, 9, 7, 0),
            (5, 6, 17, 33, 31),
            (4, 13, 63, 65, 0),
            (7, 19, 97, 31, 7),
            (1, 64, 15, 16, 0),
        ],
    ):
        for layers, D, threads in ((1, 1, 1), (2, 2, 2)):
            for lengths in (None, sorted((1 + n * 3 % T for n in range(1, N)), reverse=True)):
                lengths = None if lengths is None else [T, *lengths]
                run(isa, cell, dtype, at_end, T, N, I, H, P if cell == "LSTM" else 0, layers, D, lengths, threads)
                ran += 1
print(ran)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mprotect")
def test_no_call_reads_or_writes_outside_its_arrays():
    """Every array against a page that no one may touch, at its end and then at its beginning."""
    assert int(run_python(GUARDED)) > 100
