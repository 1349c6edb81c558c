"""Two builds of fastlstm in turn: is the second slower than the first anywhere? A process each, of which one works at a time.

    python benchmarks/pair.py BEFORE/.venv/bin/python AFTER/.venv/bin/python [--threads 2] [--grids people,ragged] [--seconds 1]

The arguments are Pythons that have the builds installed. A B, B A, A B, ...: bursts of some 3 ms; a ratio is that of the lower
quartiles, since a machine is disturbed in one direction only.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from typing import Any

PAUSE = 0.01  # seconds: the other process's workers still spin after a call, on the processors of this one's
GRIDS = ("people", "ragged", "proj", "float64", "bfloat16")


def prepare(point: Any, train: bool, cell: str) -> Any:
    import torch

    import fastlstm

    torch.manual_seed(0)
    dtype = getattr(torch, point.dtype)
    projection = {"proj_size": point.P} if point.P else {}
    options = {"num_layers": point.layers, "bidirectional": point.D == 2, **projection}
    layer = getattr(fastlstm, cell)(point.I, point.H, **options, dtype=dtype)
    x = torch.randn(point.T, point.N, point.I).to(dtype)
    if point.packed:
        x = torch.nn.utils.rnn.pack_padded_sequence(x, point.lengths)

    def infer() -> None:
        with torch.no_grad():
            layer(x)

    def step() -> None:
        output = layer(x)[0]
        (output.data if point.packed else output).backward(cotangent)
        for parameter in layer.parameters():
            parameter.grad = None

    if not train:
        return infer
    with torch.no_grad():
        output = layer(x)[0]
    cotangent = torch.randn_like(output.data if point.packed else output)
    return step


def work() -> None:
    """A build's process: a line of JSON asks for a call, or for the microseconds of a burst of so many of it."""
    import torch

    from fastlstm.bench.points import Point

    run = None
    for line in sys.stdin:
        asked = json.loads(line)
        if "point" in asked:
            torch.set_num_threads(asked["threads"])
            run = prepare(Point(*asked["point"]), asked["train"], asked["cell"])
        assert run is not None
        time.sleep(PAUSE)
        run()
        start = time.perf_counter()
        for _ in range(asked["count"]):
            run()
        print((time.perf_counter() - start) / asked["count"] * 1e6, flush=True)


class Build:
    def __init__(self, python: str) -> None:
        self.process = subprocess.Popen(
            [python, __file__, "--work"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def microseconds(self, count: int, **asked: Any) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps({"count": count, **asked}), file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def compare(builds: list[Build], seconds: float, **asked: Any) -> list[float]:
    """The lower quartile of the bursts of each build."""
    first = [build.microseconds(2, **asked) for build in builds]
    count = max(1, int(3000 / max(first)))
    bursts: list[list[float]] = [[], []]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(bursts[0]) < 6:
        for k in (0, 1) if len(bursts[0]) % 2 == 0 else (1, 0):
            bursts[k].append(builds[k].microseconds(count))
    return [sorted(found)[len(found) // 4] for found in bursts]


def main() -> None:
    from fastlstm.bench.points import BFLOAT16, FLOAT64, PEOPLE, PROJ, RAGGED

    parser = argparse.ArgumentParser()
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--grids", default=",".join(GRIDS))
    parser.add_argument("--cell", default="LSTM")
    arguments = parser.parse_args()
    grids = dict(zip(GRIDS, (PEOPLE, RAGGED, PROJ, FLOAT64, BFLOAT16), strict=True))
    builds = [Build(arguments.before), Build(arguments.after)]
    print("threads,grid,mode,point,dtype,before_us,now_us,now_over_before")
    for grid in arguments.grids.split(","):
        for train in (False, True):
            ratios = []
            for point in grids[grid]:
                asked = {
                    "point": list(point)[:10],
                    "train": train,
                    "threads": arguments.threads,
                    "cell": arguments.cell,
                }
                before, now = compare(builds, arguments.seconds, **asked)
                ratios.append(now / before)
                mode = "training" if train else "inference"
                figures = f"{before:.1f},{now:.1f},{now / before:.3f}"
                print(f'{arguments.threads},{grid},{mode},"{point}",{point.dtype},{figures}', flush=True)
            mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
            print(f"# {grid} {mode}: geometric mean {mean:.3f}, worst {max(ratios):.3f}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    work() if "--work" in sys.argv else main()
