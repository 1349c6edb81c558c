"""How many threads a call may use; the results are the same bits for any number."""

import os

_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def get_num_threads() -> int:
    """How many a call may use: at first, as many as there are processors for this process."""
    return _threads


def set_num_threads(threads: int) -> None:
    """From now on, in this process. ValueError: below 1."""
    global _threads
    if threads < 1:
        raise ValueError(f"expected a positive number of threads, got {threads}")
    _threads = threads
