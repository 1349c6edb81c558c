"""The examples that run a package's trained weights: as a module, and as the user runs them, where torch must stay out."""

import importlib.util
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from tests.ecosystem.three_ways import LINES

FOLDER = Path(__file__).parents[2] / "examples"
ROUNDS = 7
PERCENTILES = re.compile(r"median [\d,.]+, 99% [\d,.]+, 99\.9% [\d,.]+")
WITHOUT_TORCH = """
import runpy, sys
path, *sys.argv[1:] = sys.argv[1:]
runpy.run_path(path, run_name="__main__")
assert "torch" not in sys.modules
"""


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def output(name: str, *arguments: str, folder: Path) -> str:
    """Of a process of its own in `folder` that imports no torch; it ends well and has said what a step takes."""
    command = [sys.executable, "-c", WITHOUT_TORCH, str(FOLDER / f"{name}.py"), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert PERCENTILES.search(done.stdout), done.stdout
    return done.stdout


def compare(what: str, steps: int, theirs: Callable[[], object], ours: Callable[[], object]) -> None:
    """A line of the summary: what a step takes the package and the example, by the medians of runs in turn."""
    seconds: dict[Callable[[], object], list[float]] = {theirs: [], ours: []}
    for _ in range(ROUNDS):
        for run, times in seconds.items():
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    their, our = (1e6 * statistics.median(times) / steps for times in seconds.values())
    LINES.append(f"{what}: the package {their:.0f} us, the example {our:.0f}, {their / our:.2f}")
