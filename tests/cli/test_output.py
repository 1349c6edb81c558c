"""What can go wrong from outside ends a command with a line and a status, before anything is measured."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.table import Table
from typer.testing import CliRunner

import fastlstm
from fastlstm.bench import measure
from fastlstm.bench.conditions import CONDITIONS
from fastlstm.cli import app, check, output
from fastlstm.demo import training

MAIN = "from fastlstm.__main__ import main; main()"
COMMANDS = {
    "info": [],
    "shapes": ["--input-size", "3", "--hidden-size", "4"],
    "check": [],
    "bench": [],
    "conditions": [],
    "demo": ["--output", "results"],
}


def run(*arguments: str, stdout: object = subprocess.PIPE, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, which ends before anything could be measured."""
    variables = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | environment
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=variables,
        text=True,
        check=False,
        timeout=120,
    )


def in_one_line(said: subprocess.CompletedProcess[str]) -> str:
    assert said.returncode == 1, said.stderr
    (line,) = said.stderr.splitlines()
    return line


@pytest.fixture
def nothing_is_measured(monkeypatch):
    def begins(*_: object) -> None:
        raise AssertionError("it measures")

    monkeypatch.setattr(check, "measure", begins)
    monkeypatch.setattr("fastlstm.bench.floor.measure_floor", begins)
    monkeypatch.setattr(measure, "measure", begins)
    monkeypatch.setattr(training, "train", begins)
    for name, condition in list(CONDITIONS.items()):
        monkeypatch.setitem(CONDITIONS, name, condition._replace(measure=begins))


@pytest.mark.parametrize("command", COMMANDS)
def test_an_instruction_set_that_is_not_here(command, tmp_path):
    said = run(command, *COMMANDS[command], FASTLSTM_ISA="garbage")
    assert in_one_line(said).startswith("FASTLSTM_ISA: instruction set 'garbage' is not available here; available: gen")
    assert said.stdout == ""


def failing(error: OSError) -> Callable[..., None]:
    def write(*_: object, **more: object) -> None:
        raise error

    return write


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EPIPE], ids=["full", "broken pipe"])
@pytest.mark.parametrize("command", COMMANDS)
def test_output_that_fails(command, error, tmp_path, monkeypatch, capfd, nothing_is_measured):
    """The first line is printed before anything is measured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["fastlstm", command, *COMMANDS[command]])
    monkeypatch.setattr(sys.stdout, "flush", failing(OSError(error, os.strerror(error))))
    monkeypatch.setattr("os.dup2", lambda *_: None)  # it would take pytest's own stdout
    with pytest.raises(SystemExit) as end:
        app()
    assert end.value.code == 1
    monkeypatch.undo()
    assert capfd.readouterr().err == f"fastlstm: output: {os.strerror(error)}\n"


@pytest.mark.parametrize(
    "arguments", [["shapes", *COMMANDS["shapes"]], ["shapes", *COMMANDS["shapes"], "--json"], ["--help"], ["--version"]]
)
def test_a_full_device_a_pipe_that_nobody_reads_and_no_output_at_all(arguments):
    with open("/dev/full", "w") as full:
        assert in_one_line(run(*arguments, stdout=full)) == "fastlstm: output: No space left on device"
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert in_one_line(run(*arguments, stdout=writer)) == "fastlstm: output: Broken pipe"
    finally:
        os.close(writer)
    closed = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", MAIN, *arguments],
        stderr=-1,
        text=True,
        check=False,
    )
    assert in_one_line(closed) == "fastlstm: output: Bad file descriptor"


def test_a_file_that_fails_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("fastlstm.cli.shapes.describe", failing(OSError(errno.EIO, "Input/output error", "a file")))
    result = CliRunner().invoke(app, ["shapes", *COMMANDS["shapes"]])
    assert result.exit_code == 1
    assert result.stderr == "fastlstm: a file: Input/output error\n"


def test_the_version():
    assert run("--version").stdout == f"fastlstm {fastlstm.__version__}\n"


def test_help_is_not_cut():
    said = run("--help").stdout
    assert "..." not in said.replace("[ARGS]...", "")


UNWRITABLE = {
    "a folder": ("folder", "is a folder"),
    "the root": ("/", "is a folder"),
    "nothing": ("", "is a folder"),
    "no folder": ("nowhere/a.png", "there is no folder 'nowhere'"),
    "a file for a folder": ("file/a.png", "there is no folder 'file'"),
    "a name too long": ("x" * 300, "can't be written: File name too long"),
    "not here": ("/proc/a.png", "can't be written: "),
}


@pytest.mark.parametrize("path", UNWRITABLE)
@pytest.mark.parametrize("option", ["bench --csv", "bench --plot", "conditions --csv"])
def test_a_file_that_can_not_be_written_is_refused_first(option, path, tmp_path, monkeypatch, nothing_is_measured):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").touch()
    given, why = UNWRITABLE[path]
    result = CliRunner().invoke(app, [*option.split(), given])
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert why in line
    assert option.split()[1] in line
    assert sorted(os.listdir()) == ["file", "folder"]


def test_what_is_there_already_is_tried_and_left(tmp_path):
    from fastlstm.cli.needs import needs_file

    old, fifo = tmp_path / "old", tmp_path / "fifo"
    old.write_text("old")
    os.mkfifo(fifo)
    for path in (old, fifo, Path("/dev/null"), tmp_path / "new"):
        needs_file(path, "--csv")
    assert old.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["fifo", "old"]


def test_a_kind_of_picture_that_nobody_draws_is_refused_first(tmp_path, nothing_is_measured):
    result = CliRunner().invoke(app, ["bench", "--plot", str(tmp_path / "ratios.docx")])
    assert result.exit_code == 2
    assert "ratios.docx' is none of" in result.stderr
    assert "svg" in result.stderr


@pytest.mark.parametrize("name", ["forecast.png", "report.md", "lstm.safetensors", "head.safetensors"])
def test_what_the_demo_can_not_write_is_refused_first(name, tmp_path, nothing_is_measured):
    (tmp_path / name).mkdir()
    result = CliRunner().invoke(app, ["demo", "--output", str(tmp_path)])
    assert result.exit_code == 2
    assert f"{name}' is a folder" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        "check --count 0",
        "check --count -1",
        f"check --count {10**30}",
        "check --count many",
        "check --seed 0.5",
        "bench --threads 0",
        f"bench --threads {10**9}",
        f"bench --threads {10**30}",
        "bench --grid nothing",
        "bench --peers ,",
        "conditions nothing",
        f"shapes --input-size 1 --hidden-size {10**30}",
        f"shapes --input-size {'9' * 5000} --hidden-size 1",
        f"shapes --input-size 1 --hidden-size 1 --num-layers {10**9}",
        f"shapes --input-size 1 --hidden-size 1 --batch {2**63}",
        "shapes --input-size 1 --hidden-size 1 --length -1",
        "shapes --input-size 1 --hidden-size 2 --proj-size -1",
        "shapes --input-size 1e3 --hidden-size 2",
        "demo --output /dev/null",
        "demo --output /dev/null/a",
        "info more",
    ],
)
def test_nonsense_is_refused_in_a_line(arguments, nothing_is_measured):
    result = CliRunner().invoke(app, arguments.split())
    assert result.exit_code == 2
    assert result.stdout == ""
    assert isinstance(result.exception, SystemExit)
    assert len([line for line in result.stderr.splitlines() if line.startswith("Error: ")]) == 1
    assert result.stderr.splitlines()[-1].startswith("Error: ")


def test_the_largest_sizes_are_shown():
    result = CliRunner().invoke(app, f"shapes --input-size {2**63 - 1} --hidden-size {2**63 - 1}".split())
    assert result.exit_code == 0, result.output
    assert f"({4 * (2**63 - 1)}, {2**63 - 1})" in result.stdout


def test_nothing_is_wrapped_in_a_file():
    """Lines of any length stay whole where stdout has no width; where it has one, cells go on in their next line."""
    size = 10**17
    arguments = [
        "shapes",
        "--input-size",
        str(size),
        "--hidden-size",
        str(size),
        "--num-layers",
        "2",
        "--bidirectional",
    ]
    said = run(*arguments).stdout
    assert f"(4, 3, {size})" in said
    assert "hidden state to start from; zeros if left out" in said
    assert max(map(len, said.splitlines())) > 100
    narrow = run(*arguments, COLUMNS="50").stdout
    assert "…" not in narrow

    def numbers(found: str) -> str:
        rows = [line.split("│") for line in found.splitlines() if line.startswith("│")]
        return "".join(row[3] for row in rows).replace(" ", "")

    assert numbers(said) == numbers(narrow)
    assert str(size) in numbers(narrow)


def test_a_table_that_is_wider_than_the_terminal_keeps_its_words(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    table = Table("name", box=None)
    table.add_column("figures", no_wrap=True, min_width=12)
    for _ in range(3):
        table.add_column("more", no_wrap=True)
    table.add_row("a" * 30, "b" * 30, "c" * 30, "d" * 30, "e" * 30)
    output.show(output.output(), table)
    said = capsys.readouterr().out
    for letter in "bcde":
        assert said.count(letter) >= 30


def test_progress_is_not_in_the_output(monkeypatch):
    """stdout may go to a file; how far a command is stays on the screen."""
    monkeypatch.setattr(check, "measure", lambda configuration: {"c_n": (0.0, 0.0)})
    result = CliRunner().invoke(app, ["check", "--count", "3"])
    assert result.exit_code == 0, result.output
    assert "Comparing" not in result.stdout
    assert "Comparing" in result.stderr
