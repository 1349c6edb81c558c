"""Does an installed wheel work, with numpy and safetensors alone?

    python -I wheels/check.py "generic avx2 avx512"

The argument: which instruction sets the engine must find, as a build from source on this machine does. Without it: any.
"""

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


def main() -> None:
    assert find_spec("torch") is None, "the wheel is to work without torch"
    assert Path(fastlstm.__file__).is_relative_to(sysconfig.get_path("platlib")), fastlstm.__file__
    expected = sys.argv[1].split() if len(sys.argv) > 1 else _engine.isas()
    assert _engine.isas() == expected, f"the wheel finds {_engine.isas()}, the build from source {expected}"

    random = np.random.default_rng(0)
    x = random.standard_normal((T, N, I), np.float32)
    for kind, cell, gates in ((LSTM, lstm, 4), (GRU, gru, 3)):
        sizes = {"weight_ih_l0": (I,), "weight_hh_l0": (H,), "bias_ih_l0": (), "bias_hh_l0": ()}
        arrays = {name: random.uniform(-0.2, 0.2, (gates * H, *to)).astype(np.float32) for name, to in sizes.items()}
        with tempfile.TemporaryDirectory() as folder:
            save_file(arrays, f"{folder}/layer.safetensors")
            layer = load(f"{folder}/layer.safetensors")
        assert isinstance(layer, kind)

        states = (np.zeros((N, H)),) * (2 if kind is LSTM else 1)
        by_equations, *_ = sequence(cell, x.astype(np.float64), states, Weights(*map(np.float64, arrays.values())))
        for isa in expected:
            _engine.use_isa(isa)
            for threads in (1, 2):  # two: the wheel starts a thread by libstdc++ and glibc
                set_num_threads(threads)
                output, _ = layer(x)
                np.testing.assert_allclose(output, by_equations, rtol=0, atol=2e-6)
            stream = layer.stream(batch=N)
            streamed = np.concatenate([[stream.step(x[0])], stream.block(x[1:])])
            np.testing.assert_array_equal(streamed, output)

    version = "{}.{}".format(*sys.version_info[:2])
    print(f"Python {version}, numpy {np.__version__}: loads, runs and streams on {', '.join(expected)}")


if __name__ == "__main__":
    main()
