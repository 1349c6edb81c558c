"""What a CSV keeps is what a picture is drawn from."""

import csv
from pathlib import Path

import pytest

from fastlstm.bench.floor import Floor
from fastlstm.bench.measure import Measured
from fastlstm.bench.points import Point, Work
from fastlstm.bench.record import read_csv, write_csv, write_lines

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
    with pytest.raises(ValueError, match=r"^expected a CSV of fastlstm bench, but it has no column purpose, T, N, I"):
        read_csv(KEPT / "epyc" / "conditions.csv")
    kept = (KEPT / "epyc" / "proj.csv").read_text().splitlines()
    (tmp_path / "half.csv").write_text("\n".join(kept[:2]))
    with pytest.raises(ValueError, match=r"^expected lines of fastlstm at every point$"):
        read_csv(tmp_path / "half.csv")


def by_hand(path: Path, change) -> Path:
    """A kept file, after somebody's change to its lines."""
    lines = list(csv.DictReader((KEPT / "epyc" / "proj.csv").read_text().splitlines()))
    change(lines)
    write_lines(path, lines)
    return path


def test_a_column_too_many_is_left_alone(tmp_path):
    kept = by_hand(tmp_path / "a.csv", lambda lines: [line.update(note="mine") for line in lines])
    assert read_csv(kept)[0] == read_csv(KEPT / "epyc" / "proj.csv")[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda lines: [line.pop("threads") for line in lines],
            r"it has no column threads \(such a CSV has purpose, T, N",
        ),
        (lambda lines: [line.pop("dtype") for line in lines], r"it has no column dtype \(such a CSV has purpose, T, N"),
        (lambda lines: lines.pop(2), "expected lines of the same engines before that of fastlstm at every point"),
        (lambda lines: lines[0].update(engine="mine"), "expected lines of the same engines before that of fastlstm"),
        (lambda lines: lines[0].update(median_us="0"), "expected times above 0, got 0, "),
        (lambda lines: lines[0].update(lowest_us="nan"), "expected times above 0, got .*, nan, "),
    ],
)
def test_a_file_made_by_hand_is_told_what_is_wrong(change, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        read_csv(by_hand(tmp_path / "a.csv", change))


def test_a_line_that_ends_early_is_named(tmp_path):
    header, first, *_ = (KEPT / "epyc" / "proj.csv").read_text().splitlines()
    (tmp_path / "a.csv").write_text(f"{header}\n{first[:30]}\n")
    with pytest.raises(ValueError, match=r"^line 2 ends before .*median_us"):
        read_csv(tmp_path / "a.csv")
