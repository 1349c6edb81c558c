"""`fastlstm info` reports what the engine and torch themselves say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import fastlstm
from fastlstm import _engine
from fastlstm.cli import app
from fastlstm.cli.info import WORDS
from tests.conftest import run_python
from tests.doubles import WITHOUT_TABLE


def lines(environment: dict[str, str] | None = None, arguments: str = "") -> dict[str, str]:
    """The table that `info` prints, by name; with --plan, the one before its words."""
    result = CliRunner().invoke(app, ["info", *arguments.split()], env={"COLUMNS": "400", **(environment or {})})
    assert result.exit_code == 0, result.output
    table = result.stdout.partition("\n\n")[0]
    rows = (line.strip().split("  ", 1) for line in table.splitlines())
    return {name: value.strip() for name, value in rows}


def test_it_says_what_runs_here():
    table = lines()
    assert table["fastlstm"] == fastlstm.__version__
    assert table["instruction sets"] == ", ".join(_engine.isas())
    assert table["in use"].split()[0] == _engine.isa()
    assert table["torch"].split()[0] == torch.__version__
    assert ("exchange table" in table["torch"]) != hasattr(torch.Tensor, "__dlpack_c_exchange_api__")
    assert table["a CPU tensor goes to"].startswith("native: ")


def test_a_torch_without_an_exchange_table_is_told_apart():
    script = "import sys; sys.argv = ['fastlstm', 'info']; from fastlstm.__main__ import main; main()"
    said = run_python(WITHOUT_TABLE + "import os; os.environ['COLUMNS'] = '400'\n" + script)
    assert (
        f"{torch.__version__} (it has no DLPack exchange table: a call takes longer, the results are the same)" in said
    )


def test_threads_are_those_of_torch():
    torch.set_num_threads(2)  # conftest puts it back
    assert lines()["threads"].startswith("2 ")


def test_a_forced_instruction_set_is_named():
    assert lines({"FASTLSTM_ISA": "generic"})["in use"].endswith("(FASTLSTM_ISA=generic)")


def test_a_forced_instruction_set_that_is_not_here_is_one_line():
    environment = {**os.environ, "FASTLSTM_ISA": "z80"}
    said = subprocess.run(
        [sys.executable, "-c", "from fastlstm.__main__ import main; main()", "info"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert said.returncode == 1
    assert said.stderr.startswith("FASTLSTM_ISA: instruction set 'z80' is not available here; available: generic")
    assert len(said.stderr.splitlines()) == 1


def plan(arguments: str) -> dict[str, str]:
    """The table that `info --plan` prints: the same on every processor, as the instruction set is one that all have."""
    before = _engine.isa()
    _engine.use_isa("generic")
    try:
        return lines(arguments=f"--plan {arguments}")
    finally:
        _engine.use_isa(before)


def test_the_plan_of_a_call_in_words():
    table = plan("--T 100 --N 8 --I 128 --H 128 --threads 2")
    assert table["instruction set"] == "generic"
    assert table["threads"].startswith("2 of 2")
    assert table["products"] == "fused multiply-adds of float32"
    assert table["forward"] == "each thread its own rows, no barrier; the input's products in each step"
    assert "backward" not in table


def test_the_plan_of_training():
    table = plan("--T 100 --N 64 --I 7 --H 64 --threads 2 --train")
    assert table["backward"].startswith("each thread its own rows, no barrier; half of the threads for each half")


def test_the_plan_follows_sizes_and_threads():
    assert plan("--T 1 --threads 1")["forward"].startswith("one thread; one step")
    assert "own hidden units" in plan("--T 100 --N 1 --I 512 --H 512 --threads 2")["forward"]
    assert plan("--bidirectional --threads 2")["forward"].startswith("a thread for each direction")
    stacked = plan("--layers 3 --P 16 --threads 1 --N 32")
    assert (
        stacked["forward, layer 0"]
        == stacked["forward, layers 1 to 2"]
        == "one thread; the input's products in each step"
    )


def test_the_plan_of_each_dtype():
    assert plan("--dtype float64")["products"] == "fused multiply-adds of float64"
    assert plan("--dtype float16")["products"] == "fused multiply-adds of float32"
    if "avx512_bf16" in _engine.isas():
        _engine.use_isa("avx512_bf16")  # conftest puts it back
        assert lines(arguments="--plan --dtype bfloat16")["products"] == "pairs of bfloat16"


def test_the_plan_of_a_gru():
    sizes = "--T 100 --N 64 --I 7 --H 64 --threads 2 --train"
    decided = dict(_engine.Layer(7, 64, cell="GRU").decisions(100, 64, "float32", True, 2))
    assert plan(f"{sizes} --cell gru").keys() == {"instruction set", *decided}
    assert plan(f"{sizes} --cell gru")["threads"] != plan(sizes)["threads"]  # it says for how much work
    assert plan(f"{sizes} --cell lstm") == plan(sizes)


def test_a_plan_s_words_are_told_where_they_occur():
    result = CliRunner().invoke(app, ["info", "--plan", *["--T", "1", "--threads", "1"]], env={"COLUMNS": "400"})
    told = result.stdout.partition("\n\n")[2]
    assert "packed" in told
    assert "copied into the order in which they are read" in told
    assert "wait for each other" not in told  # one thread waits for nobody
    training = CliRunner().invoke(
        app, ["info", "--plan", *["--N", "64", "--threads", "2", "--train"]], env={"COLUMNS": "400"}
    )
    assert "a point where the threads wait for each other" in training.stdout


def test_every_word_that_is_told_is_one_of_a_plan():
    text = (Path(__file__).parents[2] / "native" / "src" / "plan" / "words.cpp").read_text()
    assert [word for word in WORDS if word not in text] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--dtype int8", "float32"),
        ("--T 0", "--T"),
        ("--P 128", "P must be smaller"),
        ("--cell rnn", "there is no cell 'rnn', but lstm, gru"),
        ("--cell gru --P 3", "a GRU has no projection"),
    ],
)
def test_a_plan_of_what_cannot_be_is_refused(arguments, said):
    result = CliRunner().invoke(app, ["info", "--plan", *arguments.split()])
    assert result.exit_code == 2
    assert said in result.output
