"""`fastlstm shapes` prints the table of shapes, for people and for programs, and says what is wrong with a size."""

import json
import math

import pytest
from typer.testing import CliRunner

from fastlstm.cli import app
from fastlstm.shapes import describe


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden-size", "20"], "--input-size"),
        (["--input-size", "ten", "--hidden-size", "20"], "--input-size"),
        (["--input-size", "10", "--hidden-size", "20", "--proj-size", "20"], "proj_size has to be smaller"),
        (["--input-size", "10", "--hidden-size", "20", "--batch", "0"], "batch must be greater than zero"),
        (["--input-size", "10", "--hidden-size", "20", "--length", "-1"], "length must be greater than zero"),
    ],
)
def test_bad_input_exits_with_2_and_says_why(arguments, message):
    result = CliRunner().invoke(app, ["shapes", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_json_holds_the_same_tables():
    command = "shapes --input-size 10 --hidden-size 20 --num-layers 2 --bidirectional --proj-size 5 --unbatched --json"
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    layer = describe(10, 20, 2, bidirectional=True, proj_size=5, unbatched=True)
    assert printed["sizes"] == layer.sizes
    assert [tuple(t["numbers"]) for t in printed["tensors"]] == [t.shape.numbers for t in layer.tensors]
    assert [p["count"] for p in printed["parameters"]] == [math.prod(p.shape.numbers) for p in layer.parameters]
    assert printed["total"] == layer.total


def test_the_tables_show_letters_numbers_and_the_total():
    result = CliRunner().invoke(app, ["shapes", "--input-size", "10", "--hidden-size", "20", "--num-layers", "2"])
    assert result.exit_code == 0
    for expected in ("(D*num_layers, N, H_out)", "(2, 3, 20)", "weight_hh_l1", "(80, 20)", "5,920"):
        assert expected in result.stdout
