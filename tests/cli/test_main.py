"""The `fastlstm` script itself: what it offers, and that it works, or says what to install, without torch."""

import subprocess
import sys

import pytest
import typer

import fastlstm
from fastlstm.cli import needs

WITHOUT_RICH_AND_TYPER = "import sys; sys.modules['rich'] = sys.modules['typer'] = None\n"
SCRIPT = "from importlib.metadata import entry_points\nentry_points(group='console_scripts')['fastlstm'].load()()"
MODULE = "import runpy; runpy.run_module('fastlstm', run_name='__main__')"
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None\n"  # as if it were not installed
MAIN = "from fastlstm.__main__ import main; main()"


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_help_names_every_command_and_imports_nothing_heavy():
    code = (
        "import sys\nfrom fastlstm.cli import app\n"
        "try: app()\n"
        "finally: print([name for name in ('torch', 'matplotlib', 'numpy') if name in sys.modules])"
    )
    result = run(code, "--help")
    assert result.returncode == 0, result.stderr
    for command in ("info", "check", "shapes", "demo", "bench", "conditions"):
        assert command in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["check", "demo", "bench", "conditions"])
def test_without_torch_a_command_that_needs_it_says_what_to_install(command, tmp_path):
    arguments = ["--output", str(tmp_path / "out")] if command == "demo" else []
    result = run(WITHOUT_TORCH + MAIN, command, *arguments)
    assert result.returncode == 1
    assert result.stderr == 'This command needs torch: pip install ".[torch]" in the folder of fastlstm\n'
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_the_demo_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['matplotlib'] = None\n" + MAIN
    result = run(code, "demo", "--output", str(tmp_path / "out"))
    assert result.returncode == 1
    assert result.stderr == 'This command needs matplotlib: pip install ".[plot]" in the folder of fastlstm\n'


def test_shapes_works_without_torch():
    result = run(WITHOUT_TORCH + MAIN, "shapes", "--input-size", "10", "--hidden-size", "20")
    assert result.returncode == 0, result.stderr
    assert "weight_ih_l0" in result.stdout


def test_info_without_torch_names_the_engine_and_what_to_install():
    result = run(WITHOUT_TORCH + MAIN, "info")
    assert result.returncode == 0, result.stderr
    assert "generic" in result.stdout
    assert 'pip install ".[torch]"' in result.stdout


@pytest.mark.parametrize("face", [SCRIPT, MODULE], ids=["script", "module"])
def test_without_the_packages_of_the_command_line_it_says_what_to_install(face):
    result = run(WITHOUT_RICH_AND_TYPER + face, "info")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == 'The command line needs rich and typer: pip install ".[cli]" in the folder of fastlstm\n'


@pytest.mark.parametrize("face", [SCRIPT, MODULE], ids=["script", "module"])
def test_the_script_and_the_module_are_one_command_line(face):
    assert run(face, "--version").stdout == f"fastlstm {fastlstm.__version__}\n"


def test_the_library_works_without_the_packages_of_the_command_line():
    code = (
        "import torch, fastlstm, fastlstm.plot\n"
        "output, (h_n, c_n) = fastlstm.LSTM(10, 20, 2)(torch.randn(5, 3, 10))\n"
        "print(tuple(output.shape), tuple(h_n.shape), tuple(c_n.shape))\n"
    )
    result = run(WITHOUT_RICH_AND_TYPER + code)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "(5, 3, 20) (2, 3, 20) (2, 3, 20)\n"


def test_an_unknown_command_exits_with_2():
    assert run(MAIN, "tune").returncode == 2


def test_every_missing_package_names_its_extra(monkeypatch, capsys):
    monkeypatch.setattr(needs, "find_spec", lambda package: None)
    with pytest.raises(typer.Exit):
        needs.needs("torch", "matplotlib")
    said = 'This command needs torch and matplotlib: pip install ".[torch,plot]" in the folder of fastlstm\n'
    assert capsys.readouterr().err == said
