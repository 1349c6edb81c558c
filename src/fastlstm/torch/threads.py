"""Lends torch's own OpenMP threads to the engine.

Beside torch's workers, which spin for a while after each operator, a second pool cost up to 1.35x (an LSTM, then a
Linear).
"""

import ctypes
import os
import sys
from pathlib import Path

import torch

from fastlstm import _engine


def share_torch_threads() -> bool:
    """Gives the engine the OpenMP runtime that torch runs on; False, and nothing done, where none is to be found."""
    if sys.platform != "linux":
        return False
    # dlsym on torch's own library looks through what that library was linked with: the very runtime torch runs on,
    # whichever others (scikit-learn's, conda's) are in the process. RTLD_NOLOAD: only what is loaded already.
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        library = ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
        functions = [getattr(library, name) for name in ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")]
    except (OSError, AttributeError):
        return False
    parallel, thread_num, num_threads = (ctypes.cast(function, ctypes.c_void_p).value or 0 for function in functions)
    _engine.use_openmp(parallel, thread_num, num_threads)
    return True
