"""The C and C++ examples, built as a user would build them, against fastlstm.numpy."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import fastlstm.numpy

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "c"


FLAGS = os.environ.get("CFLAGS", "").split()  # a sanitizer's, as CMake takes them


def run(*command: object, prefix: Path, folder: Path | None = None) -> str:
    environment = {
        **os.environ,
        "PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig"),
        "LD_LIBRARY_PATH": str(prefix / "lib"),
    }
    done = subprocess.run(
        list(map(str, command)), env=environment, cwd=folder, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(prefix, tmp_path_factory):
    """By CMake's find_package."""
    folder = tmp_path_factory.mktemp("examples")
    run("cmake", "-S", EXAMPLES, "-B", folder, f"-DCMAKE_PREFIX_PATH={prefix}", prefix=prefix)
    run("cmake", "--build", folder, prefix=prefix)
    return folder


@pytest.fixture(scope="module")
def by_pkg_config(prefix, tmp_path_factory):
    """With one call of the compiler."""
    folder = tmp_path_factory.mktemp("pkg-config")
    flags = run("pkg-config", "--cflags", "--libs", "fastlstm", prefix=prefix).split()
    warnings = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
    run("cc", EXAMPLES / "filter.c", *FLAGS, *warnings, *flags, "-o", folder / "filter", prefix=prefix)
    static = run("pkg-config", "--static", "--cflags", "--libs", "fastlstm", prefix=prefix).split()
    archive = [str(prefix / "lib" / "libfastlstm.a") if flag == "-lfastlstm" else flag for flag in static]
    run("cc", EXAMPLES / "filter.c", *FLAGS, *warnings, *archive, "-o", folder / "filter_static", prefix=prefix)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    command = [sys.executable, EXAMPLES / "train.py", folder / "layer.safetensors", "3"]
    assert "mean squared error" in subprocess.run(command, text=True, capture_output=True, check=True).stdout
    return folder / "layer.safetensors"


@pytest.mark.parametrize("program", ["filter", "filter_cpp", "pkg-config", "static"])
def test_a_filtered_file_has_the_bits_of_the_numpy_face(program, built, by_pkg_config, trained, prefix, tmp_path):
    x = np.random.default_rng(0).standard_normal(1000, np.float32)
    x.tofile(tmp_path / "in.f32")
    path = {"pkg-config": by_pkg_config / "filter", "static": by_pkg_config / "filter_static"}.get(
        program, built / program
    )
    assert run(path, trained, tmp_path / "in.f32", tmp_path / "out.f32", prefix=prefix) == "1000 samples\n"
    expected, _ = fastlstm.numpy.LSTM.load(trained)(x.reshape(1000, 1))
    assert np.array_equal(np.fromfile(tmp_path / "out.f32", np.float32), expected.reshape(-1))


def test_the_page_runs(prefix, tmp_path):
    (block,) = re.findall(
        r"^```c\n(.*?)^```", (ROOT / "docs" / "deploy.md").read_text(), flags=re.MULTILINE | re.DOTALL
    )
    (tmp_path / "page.c").write_text(block)
    flags = run("pkg-config", "--cflags", "--libs", "fastlstm", prefix=prefix).split()
    run("cc", *FLAGS, "-Werror", "-Wall", tmp_path / "page.c", *flags, "-o", tmp_path / "page", prefix=prefix)
    state = {name: t.numpy() for name, t in torch.nn.LSTM(8, 32).state_dict().items()}
    save_file(state, tmp_path / "layer.safetensors")
    x = np.zeros((1, 8), np.float32)
    x[0, 0] = 1
    shown = run(tmp_path / "page", prefix=prefix, folder=tmp_path)
    assert shown == f"{fastlstm.numpy.LSTM.from_state(state).stream().step(x)[0, 0]:f}\n"


def test_a_wrong_layer_is_said(built, tmp_path):
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    for path, text in ((tmp_path / "none", "no such file"), (tmp_path / "other.safetensors", "no recurrent layer")):
        done = subprocess.run([built / "filter_cpp", path, "in", "out"], text=True, capture_output=True, check=False)
        assert done.returncode == 1
        assert text in done.stderr


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_latency(kind, built, prefix, tmp_path):
    gates = 4 if kind == "LSTM" else 3
    state = {f"weight_{of}_l0": np.full((gates * 32, 32), 0.01, np.float32) for of in ("ih", "hh")}
    save_file(state, tmp_path / "layer.safetensors")
    shown = run(built / "latency", tmp_path / "layer.safetensors", 2000, prefix=prefix)
    assert re.match(rf"{kind}, 32 in, 32 units: {gates * 32 * 64 * 4} bytes of weights, 2000 steps", shown)
    assert re.search(r"step / loop \d+\.\d\d", shown)


def test_the_shared_library_has_the_headers_names_alone(prefix):
    header = (prefix / "include" / "fastlstm" / "fastlstm.h").read_text()
    declared = set(re.findall(r"FASTLSTM_API [\w* ]*?(fastlstm_\w+)\(", header))
    shown = run("nm", "-D", "--defined-only", prefix / "lib" / "libfastlstm.so", prefix=prefix)
    assert {line.split()[-1] for line in shown.splitlines()} == declared
    assert {"fastlstm_step", "fastlstm_run", "fastlstm_error"} <= declared
