"""torch.compile of a layer: how long it takes at a short and at a long L, each in fresh processes with empty caches, then a
compiled call's time beside the eager call's, in turn. `python benchmarks/compiled.py`: one thread; some five minutes.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

import fastlstm
from fastlstm.bench.measure import FULL, take_in_turn
from fastlstm.bench.points import PEOPLE, Point

LENGTHS = (16, 4096)
PROCESSES = 3
SIZES = {
    (1, 1, 64, 64),
    (5, 3, 10, 20),
    (100, 1, 128, 128),
    (100, 8, 128, 128),
    (28, 64, 28, 128),
    (100, 64, 256, 256),
    (50, 64, 512, 512),
}  # T, N, I, H of the grid people


def call_of(layer: Any, x: Tensor, train: bool) -> Callable[[], Any]:
    def infer() -> Any:
        with torch.no_grad():
            return layer(x)

    def step() -> None:
        layer(x)[0].sum().backward()

    return step if train else infer


def seconds_to_compile(L: int, train: bool) -> float:
    """Of the first compiled call, less that of a second one."""
    layer, x = fastlstm.LSTM(64, 64), torch.randn(L, 4, 64, requires_grad=train)
    call_of(layer, x, train)()  # what the engine does once
    call = call_of(torch.compile(layer, fullgraph=True), x, train)
    times = []
    for _ in range(2):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times[0] - times[1]


def in_fresh_process(L: int, train: bool) -> float:
    with TemporaryDirectory() as cache:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
        command = [sys.executable, __file__, str(L), str(int(train))]
        return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def compile_times() -> None:
    for train in (False, True):
        seconds = {L: median(in_fresh_process(L, train) for _ in range(PROCESSES)) for L in LENGTHS}
        short, long = seconds.values()
        said = ", ".join(f"L {L} {found:.2f} s" for L, found in seconds.items())
        print(f"to compile, {'training' if train else 'inference'}: {said}, ratio {long / short:.2f}", flush=True)


def run_times(point: Point, train: bool) -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    layer = fastlstm.LSTM(point.I, point.H, point.layers, bidirectional=point.D == 2)
    x = torch.randn(point.T, point.N, point.I, requires_grad=train)
    compiled = torch.compile(layer, fullgraph=True)
    calls = {"eager": call_of(layer, x, train), "compiled": call_of(compiled, x, train)}
    _, seconds = take_in_turn(calls, FULL)
    said = []
    for name, figure in (("medians", median), ("fastest", min)):
        eager, ours = (figure(seconds[call]) * 1e6 for call in calls)
        said.append(f"{name} {eager:.0f} and {ours:.0f} us, ratio {ours / eager:.3f}, {ours - eager:+.0f} us")
    print(f"{point}, {'training' if train else 'inference'}: eager and compiled, {'; '.join(said)}", flush=True)


def main() -> None:
    compile_times()
    for point in PEOPLE:
        if (point.T, point.N, point.I, point.H) in SIZES:
            for train in (False, True):
                run_times(point, train)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        print(seconds_to_compile(int(sys.argv[1]), sys.argv[2] == "1"))
    else:
        main()
