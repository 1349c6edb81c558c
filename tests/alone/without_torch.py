"""Does the installed package work with NumPy and safetensors alone? `make test-alone`, and `make test-wheels` for every wheel.

    python -I tests/alone/without_torch.py [--isas "generic avx2 avx512"] [--time]

It needs nothing else, pytest neither.
"""

import argparse
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import fastlstm
from fastlstm import _engine
from fastlstm.numpy import GRU, LSTM, load, set_num_threads
from fastlstm.reference import Weights, gru, lstm, sequence

I, H, N, T = 12, 64, 3, 200
CLOSE = 2e-6  # as tests/tolerances.py has it of float32
LARGEST = 5_000_000  # bytes of the installed package
SLOWEST = 20  # milliseconds that `import fastlstm.numpy` takes beyond NumPy's own


def check_size() -> None:
    folder = Path(fastlstm.__file__).parent
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc")
    print(f"installed: {size / 1e6:.2f} MB")
    assert size < LARGEST


def check_what_needs_torch() -> None:
    try:
        fastlstm.LSTM(3, 4)
    except ImportError as error:
        assert "torch" in str(error), error  # noqa: PT017  # there is no pytest here
    else:
        raise AssertionError("a layer on tensors, without torch")


def check_cell(kind: type, cell: object, gates: int, isas: list[str]) -> None:
    """A file is loaded, run by the equations on every instruction set, traced and streamed."""
    random = np.random.default_rng(0)
    x = random.standard_normal((T, N, I), np.float32)
    sizes = {"weight_ih_l0": (I,), "weight_hh_l0": (H,), "bias_ih_l0": (), "bias_hh_l0": ()}
    arrays = {name: random.uniform(-0.2, 0.2, (gates * H, *to)).astype(np.float32) for name, to in sizes.items()}
    states = (np.zeros((N, H)),) * (2 if kind is LSTM else 1)
    by_equations, *_ = sequence(cell, x.astype(np.float64), states, Weights(*map(np.float64, arrays.values())))
    with tempfile.TemporaryDirectory() as folder:
        save_file(arrays, f"{folder}/layer.safetensors")
        for isa in isas:
            _engine.use_isa(isa)
            layer = load(f"{folder}/layer.safetensors")  # its weights are packed for that one
            assert type(layer) is kind
            for threads in (1, 2):  # two: libstdc++ and glibc start a thread
                set_num_threads(threads)
                output, _ = layer(x)
                np.testing.assert_allclose(output, by_equations, rtol=0, atol=CLOSE)
            stream = layer.stream(batch=N)
            np.testing.assert_array_equal(np.concatenate([[stream.step(x[0])], stream.block(x[1:])]), output)
            np.testing.assert_array_equal(layer.trace(x).layers[0][0].h, output)


def check_import() -> None:
    pairs = [(milliseconds("fastlstm.numpy"), milliseconds("numpy")) for _ in range(21)]  # in turn
    beyond = statistics.median(ours - numpys for ours, numpys in pairs)
    print(f"import fastlstm.numpy: {beyond:.1f} ms beyond numpy's")
    assert beyond < SLOWEST


def milliseconds(imported: str) -> float:
    """To import it in a process of its own."""
    code = f"import time; start = time.perf_counter(); import {imported}; print(1e3 * (time.perf_counter() - start))"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--isas", help="which instruction sets the engine must find, as a build from source here does")
    parser.add_argument(
        "--time", action="store_true", help="how long the import takes, too: on a machine with no other work"
    )
    asked = parser.parse_args()
    for name in ("torch", "typer", "matplotlib"):
        assert find_spec(name) is None, f"this environment has {name}"
    assert Path(fastlstm.__file__).is_relative_to(sysconfig.get_path("platlib")), fastlstm.__file__
    isas = _engine.isas()
    assert asked.isas in (None, " ".join(isas)), f"it finds {isas}, the build from source {asked.isas}"
    check_size()
    check_what_needs_torch()
    for kind, cell, gates in ((LSTM, lstm, 4), (GRU, gru, 3)):
        check_cell(kind, cell, gates, isas)
    assert "torch" not in sys.modules
    if asked.time:
        check_import()
    print(f"Python {sys.version.split()[0]}, numpy {np.__version__}: loads, runs and streams on {', '.join(isas)}")


if __name__ == "__main__":
    main()
