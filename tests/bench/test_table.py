"""Each number of a benchmark stands in its own place, on the screen and in the file."""

import csv

from fastlstm.bench.contender import OURS
from fastlstm.bench.floor import Floor
from fastlstm.bench.grids import Extra
from fastlstm.bench.measure import Measured
from fastlstm.bench.points import Point, Work
from fastlstm.bench.record import write_csv
from fastlstm.bench.table import summary, table

TINY = Point("tiny", 3, 2, 4, 5)
SECONDS = {"nn.LSTM": [6e-6, 8e-6, 12e-6], OURS: [5e-6, 4e-6, 3e-6]}
ROW = Measured(TINY, 7, SECONDS, dict.fromkeys(SECONDS, Work(16_000, 1)))
MACHINE = Floor(flops=8e9, bandwidth=5e9)  # 2 us for ROW
EXTRA = Extra("calls", lambda row: row.calls)


def test_the_table():
    names, *columns = ([column.header, *column.cells] for column in table([ROW], MACHINE, (EXTRA,)).columns)
    assert names == ["T, N, I, H", "tiny", "3, 2, 4, 5", ""]
    assert columns == [
        ["engine", "nn.LSTM", OURS, "floor"],
        ["µs", "8", "4", "2.0"],
        ["GFLOP/s", "2.0", "4.0", ""],
        ["of floor", "25%", "50%", ""],
        ["/ ours", "2.00", "", ""],
        ["from-to", "1.20-4.00", "", ""],
        ["calls", "", "7.00", ""],
    ]


def test_a_gru_is_said():
    gru = ROW._replace(point=TINY._replace(D=2, cell="GRU"))
    names, *_ = (list(column.cells) for column in table([gru], MACHINE, ()).columns)
    assert names == ["tiny", "3, 2, 4, 5", "2 directions, GRU"]
    assert summary([gru], ())[0].endswith(f"at {gru.point}")


def test_the_summary():
    slower = ROW._replace(point=TINY._replace(T=9), seconds={"nn.LSTM": [2e-6], OURS: [4e-6]})
    assert summary([ROW, slower], ()) == [
        f"nn.LSTM / fastlstm: geometric mean 1.00 over 2 points, lowest 0.50 at {slower.point}, highest 2.00 at {TINY}"
    ]


def test_the_file(tmp_path):
    write_csv(tmp_path / "a.csv", [ROW], MACHINE, {"mode": "infer"})
    lines = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [line["engine"] for line in lines] == ["nn.LSTM", OURS]
    assert [lines[0][name] for name in ("median_us", "lowest_us", "highest_us")] == ["8.0", "6.0", "12.0"]
    assert [lines[1][name] for name in ("bursts", "calls_a_burst", "GFLOP/s", "floor_us")] == ["3", "7", "4.00", "2.00"]
    assert [lines[0][name] for name in ("peak_GFLOP/s", "copy_GB/s", "mode")] == ["8.0", "5.0", "infer"]
