"""design.md, "Promises" 1 to 6, and what the engine says of threads, forks and torch's own operators.

What could end in a crash or a deadlock runs in a process of its own, with a time limit.
"""

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import pytest
import torch
from conftest import Call, assert_bits, assert_close, draw, evaluate, twin
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fastlstm import LSTM

THREADS = [1, 2, 3, 5]
DTYPES = [torch.float32, torch.float64]
SIZES = [(7, 1), (3, 7), (64, 64), (33, 97), (65, 200)]  # I, H
OPTIONS = [{}, {"num_layers": 2, "bidirectional": True}, {"proj_size": True}, {"num_layers": 3, "bias": False}]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_options = pytest.mark.parametrize("options", OPTIONS, ids=str)
each_size = pytest.mark.parametrize("size", SIZES, ids=str)


def build(size: tuple[int, int], options: dict[str, object], dtype: torch.dtype) -> LSTM:
    I, H = size
    proj_size = H // 2 if options.get("proj_size") else 0
    return LSTM(I, H, **{**options, "proj_size": proj_size}, dtype=dtype)


def forward(lstm: LSTM, call: Call, grad: bool) -> dict[str, Tensor]:
    with torch.set_grad_enabled(grad):
        output, (h_n, c_n) = lstm(call.x, call.hx)
    return {"output": output.detach(), "h_n": h_n.detach(), "c_n": c_n.detach()}


def rows(call: Call, chosen: list[int]) -> Call:
    return Call(call.x[:, chosen], (call.hx[0][:, chosen], call.hx[1][:, chosen]), call.cotangents)


# 1. A row's forward result is the same bits whatever the other rows, the batch size and the number of threads.


@each_dtype
@each_options
@each_size
@pytest.mark.parametrize("T", [1, 2, 19])
def test_promise_1_a_rows_bits_do_not_depend_on_batch_mates_or_threads(T, size, options, dtype):
    lstm = build(size, options, dtype)
    N = 70
    call = draw(lstm, T, N)
    ranges = [range(N), range(6), range(7), range(12, 29), range(32, 65), range(69, -1, -1)]
    batches = [[0], [69], [5, 3], *map(list, ranges)]
    for grad in (False, True):
        torch.set_num_threads(1)
        whole = forward(lstm, call, grad)
        for threads in THREADS:
            torch.set_num_threads(threads)
            for batch in batches:
                expected = {name: t[:, batch] for name, t in whole.items()}
                hint = f"{threads} threads, rows {batch}, grad {grad}"
                assert_bits(forward(lstm, rows(call, batch), grad), expected, hint)


@each_dtype
@each_size
def test_promise_1_other_rows_may_hold_anything(size, dtype):
    """NaN, infinities and huge numbers in the other rows leave a row's bits alone."""
    lstm = build(size, {"num_layers": 2, "bidirectional": True}, dtype)
    call = draw(lstm, 9, 13)
    expected = forward(lstm, call, False)
    for value in (float("nan"), float("inf"), 1e30):
        x = call.x.clone()
        x[:, 1::2] = value
        found = forward(lstm, call._replace(x=x), False)
        assert_bits({n: t[:, ::2] for n, t in found.items()}, {n: t[:, ::2] for n, t in expected.items()}, hint=value)


@each_dtype
@each_options
def test_promise_1_in_packed_batches(options, dtype):
    """Of the same T: a row among other mates, of other lengths, in another place."""
    lstm = build((33, 65), options, dtype)
    T = 19
    call = draw(lstm, T, 9)
    lengths = [19, 19, 12, 7, 7, 5, 2, 1, 1]

    def run(chosen: list[int]) -> dict[str, Tensor]:
        some = rows(call, chosen)
        packed = pack_padded_sequence(some.x, torch.tensor([lengths[k] for k in chosen]), enforce_sorted=False)
        with torch.no_grad():
            output, (h_n, c_n) = lstm(packed, some.hx)
        return {"output": pad_packed_sequence(output)[0], "h_n": h_n, "c_n": c_n}

    whole = run(list(range(9)))
    for threads in THREADS:
        torch.set_num_threads(threads)
        for chosen in ([0], [1], [0, 1], [8, 0, 3], [2, 4, 6, 0, 8], list(range(8, -1, -1))):
            expected = {name: t[:, chosen] for name, t in whole.items()}
            assert_bits(run(chosen), expected, hint=f"{threads} threads, rows {chosen}")


# 2. Gradients are the same bits for any number of threads.


@each_dtype
@each_options
@each_size
@pytest.mark.parametrize("batch", [(1, 1), (1, 64), (19, 1), (19, 5), (11, 64)], ids=str)
def test_promise_2_gradients_have_the_same_bits_for_any_number_of_threads(batch, size, options, dtype):
    lstm = build(size, options, dtype)
    call = draw(lstm, *batch)
    torch.set_num_threads(1)
    expected = evaluate(lstm, call)
    for threads in THREADS[1:]:
        torch.set_num_threads(threads)
        for _ in range(2):
            assert_bits(evaluate(lstm, call), expected, hint=f"{threads} threads")


@each_dtype
def test_promise_2_in_packed_batches(dtype):
    lstm = build((33, 65), {"num_layers": 2, "bidirectional": True}, dtype)
    call = draw(lstm, 19, 12, lengths=[19, 19, 17, 12, 12, 11, 9, 7, 3, 1, 1, 1])
    expected = evaluate(lstm, call)
    for threads in THREADS[1:]:
        torch.set_num_threads(threads)
        assert_bits(evaluate(lstm, call), expected, hint=f"{threads} threads")


# 3. No call reads or writes outside its arrays.


def run_python(script: str, seconds: float = 120) -> str:
    """A process of its own: its output, or a failure that shows what it said; a hang is a failure too."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


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

address = lambda array: 0 if array is None else array.ctypes.data

def run(isa, dtype, at_end, T, N, I, H, P, layers, D, lengths, threads):
    _engine.use_isa(isa)
    make = lambda *shape: fenced(int(np.prod(shape)), dtype, at_end)
    sizes = None if lengths is None else [sum(length > t for length in lengths) for t in range(T)]
    problem = _engine.Problem(T, N, I, H, P, layers, D, dtype == np.float64, sizes)
    rows, out = problem.rows, P or H
    weights, dweights = [], []
    for k, _ in itertools.product(range(layers), range(D)):
        shapes = [(4 * H, I if k == 0 else D * out), (4 * H, out), (4 * H,), (4 * H,), (P, H)]
        weights += [make(*shape) if np.prod(shape) else None for shape in shapes]
        dweights += [make(*shape) if np.prod(shape) else None for shape in shapes]
    x, h_0, c_0 = make(rows, I), make(layers * D, N, out), make(layers * D, N, H)
    masks = [make(rows, D * out) for _ in range(layers - 1)]
    output, h_n, c_n = make(rows, D * out), make(layers * D, N, out), make(layers * D, N, H)
    saved = make(problem.saved_reals)
    given = [address(x), address(h_0), address(c_0), [address(w) for w in weights], [address(m) for m in masks]]
    _engine.forward(problem, *given, address(output), address(h_n), address(c_n), 0, threads)
    _engine.forward(problem, *given, address(output), address(h_n), address(c_n), address(saved), threads)
    dx, dh_0, dc_0 = make(rows, I), make(layers * D, N, out), make(layers * D, N, H)
    _engine.backward(problem, *given, address(output), address(saved), address(output), address(h_n), address(c_n),
                     address(dx), address(dh_0), address(dc_0), [address(w) for w in dweights], threads)
    assert all(np.isfinite(a).all() for a in (output, h_n, c_n, dx, dh_0, dc_0))
    kept.clear()

ran = 0
for isa in _engine.isas():
    for dtype, at_end, (T, N, I, H, P) in itertools.product(
        (np.float32, np.float64),
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
                run(isa, dtype, at_end, T, N, I, H, P, layers, D, lengths, threads)
                ran += 1
print(ran)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mprotect")
def test_promise_3_no_call_reads_or_writes_outside_its_arrays():
    """Every array against a page that no one may touch, at its end and then at its beginning."""
    assert int(run_python(GUARDED)) > 100


# 4. Padding is never read.


@each_dtype
@each_options
@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_promise_4_nan_in_padding_changes_nothing(enforce_sorted, options, dtype):
    lstm = build((7, 9), options, dtype)
    lengths = [6, 4, 4, 1] if enforce_sorted else [4, 1, 6, 4]
    call = draw(lstm, 6, 4)
    spoiled = call.x.clone()
    for row, length in enumerate(lengths):
        spoiled[length:, row] = float("nan")

    def run(x: Tensor) -> dict[str, Tensor]:
        lstm.zero_grad(set_to_none=True)
        x = x.clone().requires_grad_()
        packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=enforce_sorted)
        output, (h_n, c_n) = lstm(packed, call.hx)
        padded, _ = pad_packed_sequence(output)
        (padded.pow(2).sum() + h_n.sum() + c_n.pow(2).sum()).backward()
        named = {f"d{name}": p.grad for name, p in lstm.named_parameters()}
        return {"output": padded.detach(), "h_n": h_n.detach(), "c_n": c_n.detach(), "dx": x.grad, **named}

    found = run(spoiled)
    assert all(t.isfinite().all() for t in found.values())
    assert_bits(found, run(call.x))


# 5 is in test_lstm_constructor.py (checkpoints), 6 in test_lstm_errors.py (wrong arguments).


# Threads, forks, and several callers


FORKED = """
import torch
from torch.utils.data import DataLoader, Dataset
from fastlstm import LSTM

torch.set_num_threads(2)
torch.manual_seed(0)
lstm = LSTM(16, 64, 2)
x = torch.randn(12, 32, 16)  # torch's own operators, one thread below 32768 elements, hang after a fork with two

def use():
    lstm.zero_grad(set_to_none=True)
    output, _ = lstm(x)
    output.pow(2).sum().backward()
    with torch.no_grad():
        return lstm(x)[0]

class Calls(Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, k):
        torch.set_num_threads(THREADS)
        return use()

if __name__ == "__main__":
    expected = use()
    for round in range(2):
        loader = DataLoader(Calls(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60)
        results = list(loader)
        assert len(results) == 8
        assert all(torch.equal(result, expected) for result in results)
        assert torch.equal(use(), expected)
    print("ended")
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork")
@pytest.mark.parametrize("threads", [1, 2])
def test_forked_dataloader_workers_that_call_the_layer_end(threads):
    """After the parent has used it, forward and backward, with threads of its own."""
    assert run_python(FORKED.replace("THREADS", str(threads))).strip() == "ended"


@pytest.mark.parametrize("engine_threads", [1, 2])
def test_eight_python_threads_call_one_module(engine_threads):
    """Forward and backward at once, each with tensors of its own shape: the numbers of each alone."""
    torch.set_num_threads(engine_threads)
    lstm = LSTM(9, 33, 2, bidirectional=True)
    calls = [draw(lstm, 5 + k, 3 + 2 * k, seed=k) for k in range(8)]
    with torch.no_grad():
        expected = [lstm(call.x, call.hx)[0] for call in calls]
    wanted = list(lstm.parameters())

    def gradients(call: Call) -> tuple[Tensor, ...]:
        output, (h_n, c_n) = lstm(call.x, call.hx)
        return torch.autograd.grad((output, h_n, c_n), wanted, call.cotangents)

    expected_gradients = [gradients(call) for call in calls]
    wrong: list[str] = []
    together = threading.Barrier(8)

    def work(k: int) -> None:
        torch.set_num_threads(engine_threads)
        together.wait(60)
        for _ in range(20):
            with torch.no_grad():
                if not torch.equal(lstm(calls[k].x, calls[k].hx)[0], expected[k]):
                    wrong.append(f"output of {k}")
            if not all(torch.equal(a, b) for a, b in zip(gradients(calls[k]), expected_gradients[k], strict=True)):
                wrong.append(f"gradients of {k}")

    workers = [threading.Thread(target=work, args=(k,), daemon=True) for k in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert not any(worker.is_alive() for worker in workers), "a caller never came back"
    assert not wrong


def test_the_gil_is_released_during_a_call():
    """Another Python thread goes on while a long call runs: its longest stop is no match for the call."""
    lstm = LSTM(64, 256)
    x = torch.randn(300, 64, 64)
    shares = []
    for _ in range(5):  # a busy machine may stop this thread for reasons of its own
        begun, done, seconds = threading.Event(), threading.Event(), []

        def call(begun: threading.Event = begun, done: threading.Event = done, seconds: list[float] = seconds) -> None:
            begun.set()
            start = time.perf_counter()
            with torch.no_grad():
                lstm(x)
            seconds.append(time.perf_counter() - start)
            done.set()

        caller = threading.Thread(target=call, daemon=True)
        caller.start()
        begun.wait()
        longest, last = 0.0, time.perf_counter()
        while not done.is_set():
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        longest = max(longest, time.perf_counter() - last)
        caller.join(60)
        shares.append(longest / seconds[0])
    assert min(shares) < 0.5, shares


def test_the_number_of_threads_is_left_as_it_was():
    lstm = LSTM(9, 33)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        evaluate(lstm, draw(lstm, 5, 4))
        assert torch.get_num_threads() == threads


# What runs: no recurrent operator of torch, nothing per step


def events(function: Callable[[], object]) -> list[str]:
    function()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as trace:
        function()
    return [event.name for event in trace.events()]


@each_dtype
@each_options
@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
def test_a_profile_shows_no_recurrent_operator_and_none_per_step(packed, options, dtype):
    """Forward and backward: as many events for 60 steps as for 6, and none of them torch's own LSTM."""
    lstm = build((7, 9), options, dtype)
    found = {}
    for T in (6, 60):
        call = draw(lstm, T, 3, lengths=[T, T // 2, 1] if packed else None)
        found[T] = events(lambda call=call: evaluate(lstm, call))
        assert not [name for name in found[T] if "lstm" in name.lower() and name.startswith("aten")]
        assert not [name for name in found[T] if "rnn" in name.lower()]
        assert not {"aten::mm", "aten::addmm", "aten::bmm", "aten::linear", "aten::sigmoid", "aten::tanh"} & set(
            found[T]
        )
    steps = {T: len(names) for T, names in found.items()}
    assert steps[6] == steps[60], steps


def test_a_profile_of_inference_is_as_quiet():
    lstm = LSTM(7, 9, 2)
    found = []
    for T in (6, 60):
        x = torch.randn(T, 3, 7)
        with torch.no_grad():
            found.append(events(lambda x=x: lstm(x)))
    assert len(found[0]) == len(found[1])
    assert not [name for name in found[0] + found[1] if "lstm" in name or "rnn" in name or "mm" in name]


def test_the_profile_of_nn_lstm_does_show_its_operator():
    """So the tests above can fail."""
    theirs = twin(LSTM(7, 9))
    assert "aten::lstm" in events(lambda: theirs(torch.randn(6, 3, 7)))


def test_results_are_still_right_after_all_this():
    lstm = LSTM(9, 33, 2, bidirectional=True)
    call = draw(lstm, 12, 5)
    assert_close(evaluate(lstm, call), evaluate(twin(lstm, torch.float64), call.to(torch.float64)))
