"""The engine survives fork and concurrent calls from Python threads; the GIL is released.

What could end in a deadlock has a time limit.
"""

import sys
import threading
import time

import pytest
import torch
from conftest import Call, draw, evaluate, run_python
from torch import Tensor

from fastlstm import LSTM

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


def test_two_threads_in_one_graph_have_its_gradients_or_an_error():
    """The first to be done may not give away what the other still reads, nor may a later call of the layer have it."""
    lstm = LSTM(64, 128)
    x = torch.randn(400, 16, 64, requires_grad=True)
    wanted = [x, *lstm.parameters()]
    output = lstm(x)[0]
    expected = torch.autograd.grad(output.sum(), wanted, retain_graph=True)
    took = time.perf_counter()
    torch.autograd.grad(output.sum(), wanted, retain_graph=True)
    took = time.perf_counter() - took
    wrong: list[str] = []

    def backward(total: Tensor, delay: float) -> None:
        time.sleep(delay)
        try:
            found = torch.autograd.grad(total, wanted)
        except RuntimeError as error:  # as torch says it
            if "second time" not in str(error):
                wrong.append(str(error))
            return
        with torch.no_grad():
            lstm(x)
        lstm(x)[0].sum().backward()  # has the memory that is free now
        if not all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)):
            wrong.append(f"gradients after {delay}")

    for share in (0.0, 0.2, 0.3, 0.5, 0.7):
        total = lstm(x)[0].sum()
        workers = [threading.Thread(target=backward, args=(total, k * share * took), daemon=True) for k in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
        assert not any(worker.is_alive() for worker in workers)
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


def test_openmp_may_give_fewer_threads_than_asked_for():
    run_python(
        "import os\n"
        "os.environ['OMP_THREAD_LIMIT'] = '1'\n"
        "import torch\n"
        "from fastlstm import LSTM, _engine\n"
        "torch.set_num_threads(2)\n"
        "lstm, x = LSTM(64, 256), torch.randn(100, 32, 64)\n"
        "for _ in range(3):\n"
        "    _engine.let_teams_run()\n"
        "    lstm(x)[0].sum().backward()\n"
        "assert _engine.let_teams_run() == 0\n",
        seconds=60,
    )
