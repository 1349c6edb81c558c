"""A process of its own for a measurement, and what this process holds in memory (Linux)."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")
SELF = Path("/proc/self")
TELLS_MEMORY = (SELF / "clear_refs").exists()
MIB = 2**20


def new_process() -> ProcessPoolExecutor:
    """A new interpreter, where nothing has run yet; what it is given must be importable by its name."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def fresh(function: Callable[..., Result], *arguments: object) -> Result:
    """What `function` returns in a process of its own."""
    with new_process() as process:
        return process.submit(function, *arguments).result()


def resident() -> float:
    """MiB of this process that are in memory now."""
    return _status("VmRSS")


def peak_of(call: Callable[[], object]) -> float:
    """MiB by which this process grew at most, above what it held before `call`, while that ran."""
    (SELF / "clear_refs").write_text("5")  # the peak so far is forgotten
    before = resident()
    call()
    return _status("VmHWM") - before


def _status(name: str) -> float:
    lines = (SELF / "status").read_text().splitlines()
    kib = next(line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(kib) * 1024 / MIB
