"""Where a measurement was taken: the columns that make a CSV row comparable with another one's."""

import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import torch

import fastlstm
from fastlstm import _engine


def host(threads: int, packages: Iterable[str] = ()) -> dict[str, str]:
    """Processor, instruction set, threads and versions, those of `packages` too."""
    return {
        "processor": processor(),
        "isa": _engine.isa(),
        "threads": str(threads),
        "fastlstm": fastlstm.__version__,
        "torch": torch.__version__,
        **{package: version(package) for package in packages},
        "python": platform.python_version(),
        "system": platform.system(),
    }


def processor() -> str:
    """The processor's name as its maker gives it, where the system tells (Linux on x86), or the machine's type."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
