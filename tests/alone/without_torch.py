"""The installed package in an environment that has NumPy and safetensors alone: `make test-alone`. It needs no pytest."""

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import fastlstm
import fastlstm.numpy

LARGEST = 5_000_000  # bytes of the installed package
SLOWEST = 20  # milliseconds that `import fastlstm.numpy` takes beyond NumPy's own


def state(kind: str, I: int, H: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    rows = {"LSTM": 4, "GRU": 3}[kind] * H
    shapes = {"weight_ih_l0": (rows, I), "weight_hh_l0": (rows, H), "bias_ih_l0": (rows,), "bias_hh_l0": (rows,)}
    return {name: draw.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def milliseconds(imported: str) -> float:
    """To import it in a process of its own."""
    code = f"import time; start = time.perf_counter(); import {imported}; print(1e3 * (time.perf_counter() - start))"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)


class WithoutTorch(unittest.TestCase):
    def test_this_environment_has_none(self) -> None:
        for name in ("torch", "typer", "matplotlib"):
            assert importlib.util.find_spec(name) is None, name

    def test_a_file_is_loaded_run_traced_and_streamed(self) -> None:
        x = np.random.default_rng(1).standard_normal((50, 8), np.float32)
        for kind in ("LSTM", "GRU"):
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "layer.safetensors")
                save_file(state(kind, 8, 32), path)
                layer = fastlstm.numpy.load(path)
            assert type(layer) is getattr(fastlstm.numpy, kind)
            output, _ = layer(x)
            assert output.shape == (50, 32)
            stream = layer.stream()
            first = stream.step(x[0])
            np.testing.assert_array_equal(np.concatenate([first[None], stream.block(x[1:])]), output)
            np.testing.assert_array_equal(layer.trace(x).layers[0][0].h, output)
        assert "torch" not in sys.modules

    def test_what_needs_torch_says_so(self) -> None:
        with self.assertRaisesRegex(ImportError, "torch"):  # noqa: PT027  # there is no pytest here
            fastlstm.LSTM(3, 4)

    def test_the_package_is_small(self) -> None:
        folder = Path(fastlstm.__file__).parent
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc")
        print(f"installed: {size / 1e6:.2f} MB")
        assert size < LARGEST

    @unittest.skipUnless("--time" in sys.argv, "speed has no place in CI: --time")
    def test_the_import_is_short(self) -> None:
        pairs = [(milliseconds("fastlstm.numpy"), milliseconds("numpy")) for _ in range(21)]  # in turn
        beyond = statistics.median(ours - numpys for ours, numpys in pairs)
        print(f"import fastlstm.numpy: {beyond:.1f} ms beyond numpy's")
        assert beyond < SLOWEST


if __name__ == "__main__":
    unittest.main(argv=[argument for argument in sys.argv if argument != "--time"])
