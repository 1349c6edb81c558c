"""What a CSV keeps is what a picture is drawn from."""

from pathlib import Path

import pytest

from fastlstm.bench.floor import Floor
from fastlstm.bench.measure import Measured
from fastlstm.bench.points import Point, Work
from fastlstm.bench.record import read_csv, write_csv

KEPT = Path(__file__).parent.parent.parent / "benchmarks"
HOW = {"grid": "ragged", "mode": "infer", "processor": "a", "isa": "avx2", "threads": "2"}


def test_what_is_written_is_read(tmp_path):
    points = [Point("a, b", 3, 2, 4, 5, packed=True, cell="GRU"), Point("c", 1, 1, 3, 2, layers=2, D=2, P=1)]
    seconds = {"nn.GRU": [0.5, 0.25, 1.0], "fastlstm": [0.125, 0.25, 0.5], "fastlstm dense": [1.0, 2.0, 3.0]}
    rows = [Measured(point, 1, seconds, dict.fromkeys(seconds, Work(1, 1))) for point in points]
    write_csv(tmp_path / "a.csv", rows, Floor(1e9, 1e9), HOW)
    found, how = read_csv(tmp_path / "a.csv")
    assert [row.point for row in found] == points
    assert HOW.items() <= how.items()
    for row, expected in zip(found, rows, strict=True):
        assert row.peers == expected.peers
        assert list(row.seconds) == list(seconds)
        assert row.ratio("nn.GRU") == expected.ratio("nn.GRU")
        assert row.ratio_bounds("nn.GRU") == expected.ratio_bounds("nn.GRU")


@pytest.mark.parametrize(
    "name", ["epyc/inference", "epyc/gru", "epyc/models", "epyc/ragged", "xeon/proj", "xeon/stream"]
)
def test_those_that_are_kept_can_be_read(name):
    rows, how = read_csv(KEPT / f"{name}.csv")
    assert how["threads"] == ("1" if name.endswith("stream") else "2")
    assert {row.point.cell for row in rows} == {"GRU" if name.endswith("gru") else "LSTM"}
    assert all(row.ratio(peer) > 0 for row in rows for peer in row.peers)


def test_another_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^expected a CSV of fastlstm bench, but it has no column D, H, I, N, P"):
        read_csv(KEPT / "epyc" / "conditions.csv")
    kept = (KEPT / "epyc" / "proj.csv").read_text().splitlines()
    (tmp_path / "half.csv").write_text("\n".join(kept[:2]))
    with pytest.raises(ValueError, match=r"^expected lines of fastlstm at every point$"):
        read_csv(tmp_path / "half.csv")
