"""The build from source, where the compiler is missing or too old: one line says what to install."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent  # CMake and Ninja are of the extra `dev`
LINE = (
    "fastlstm's engine is built from source here: install a C++20 compiler, GCC 11 or later or Clang 14 or later"
    " (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install;"
    " Windows: Clang and Ninja, CXX=clang++)"
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere g++ is Clang")


def configured(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [
        BIN / "cmake",
        "-S",
        ROOT,
        "-B",
        folder / "build",
        "-G",
        "Ninja",
        f"-DCMAKE_MAKE_PROGRAM={BIN / 'ninja'}",
    ]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def compiler(folder: Path, generation: int) -> str:
    """g++, which says that it is GCC of this generation."""
    script = folder / "g++"
    script.write_text(f'#!/bin/sh\nexec {shutil.which("g++")} -U__GNUC__ -D__GNUC__={generation} "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.mark.parametrize(
    "found", ["no compiler", "one that compiles nothing", pytest.param("one that is too old", marks=linux)]
)
def test_without_a_compiler_for_it_the_build_says_what_to_install(found, tmp_path):
    environment = {
        "no compiler": {"PATH": str(tmp_path / "empty")},
        "one that compiles nothing": {"PATH": "/usr/bin:/bin", "CXX": "false"},
        "one that is too old": {"PATH": "/usr/bin:/bin", "CXX": compiler(tmp_path, 10)},
    }[found]
    result = configured(tmp_path, **environment)
    assert result.returncode == 1
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    assert lines[0].startswith("CMake Error at CMakeLists.txt:")
    assert lines[1] == LINE
    assert len(lines) < 5, "a trace of CMake's"


@linux
def test_gcc_11_is_new_enough(tmp_path):
    result = configured(tmp_path, PATH="/usr/bin:/bin", CXX=compiler(tmp_path, 11))
    assert "identification is GNU 11" in result.stdout
    assert LINE not in result.stderr
