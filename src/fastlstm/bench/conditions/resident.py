"""Whether memory stays what it is over thousands of calls of random shapes, from one thread of Python and from several.

Any growth after the first calls is a leak, or a pool that keeps a block for every size it has seen. Up to call SETTLED
the pools fill: the largest shapes have not come yet. After that, 4 KiB a call would be 32 MiB; a call's own arrays
have 2 MiB on average. So 32 MiB, or a tenth where more is held: what an allocator's gaps may come to.
"""

import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache, partial

import torch

import fastlstm
from fastlstm.bench.conditions.condition import Reading, Track, Verdict
from fastlstm.bench.conditions.process import new_process, resident
from fastlstm.cells import LSTM, Cell

CALLS = 10_000
EVERY = 1_000  # calls between two looks
SETTLED = 2_000
THREADS = (1, 8)
SHARE, LEAST = 0.1, 32.0  # growth that is allowed: of what was held, and in MiB


def measure(track: Track, cell: Cell) -> list[Reading]:
    """A process for each number of Python threads."""
    said = "" if cell is LSTM else f", {cell.name}"  # as a point says it
    readings = {threads: Reading(f"Python threads: {threads}{said}", "both", {}) for threads in THREADS}
    with ExitStack() as stack:
        processes = {threads: stack.enter_context(new_process()) for threads in THREADS}
        for threads, calls in track([(threads, calls) for threads in THREADS for calls in range(0, CALLS, EVERY)]):
            held = processes[threads].submit(held_after, threads, range(calls, calls + EVERY), cell).result()
            readings[threads].values[_after(calls + EVERY)] = held
    return list(readings.values())


def judge(readings: list[Reading], cell: Cell) -> Verdict:
    """The growth that is furthest beyond what is allowed, or nearest to that."""
    return max((_growth(reading) for reading in readings), key=lambda verdict: verdict.figure - verdict.limit)


def _growth(reading: Reading) -> Verdict:
    settled, last = (reading.values[_after(calls)] for calls in (SETTLED, CALLS))
    said = f"growth of resident memory from call {SETTLED:,} to {CALLS:,} ({reading.at}, {settled:.0f} MiB)"
    return Verdict(last - settled, max(LEAST, SHARE * settled), " MiB", said)


def _after(calls: int) -> str:
    return f"{calls:,} calls, MiB"


def held_after(threads: int, seeds: Iterable[int], cell: Cell) -> float:
    """MiB that are resident when these calls have been made, by so many threads. For a process of their own."""
    for _ in _pool(threads).map(partial(call, cell), seeds):
        pass
    return resident()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """The same threads for all calls of a process: a new thread may have memory of its own in malloc."""
    return ThreadPoolExecutor(threads)


def call(cell: Cell, seed: int) -> None:
    """A new layer of random sizes, called once; every other one also goes back. The same for the same seed."""
    pick = partial(random.Random(seed).randint, 1)
    T, N, I, H, layers = (pick(most) for most in (60, 32, 200, 200, 2))
    train = seed % 2 == 1
    x = torch.ones(T, N, I, requires_grad=train)
    with torch.set_grad_enabled(train):
        output = getattr(fastlstm, cell.name)(I, H, layers)(x)[0]
    if train:
        output.sum().backward()
