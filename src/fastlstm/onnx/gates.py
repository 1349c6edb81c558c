"""Rows of weights by gate: ONNX has the gates of a cell in another order, and calls an LSTM's g c and a GRU's n h."""

import numpy as np

from fastlstm.cells import GRU, LSTM, Cell
from fastlstm.onnx.model import Array

_ORDER = {LSTM: ("i", "o", "f", "g"), GRU: ("z", "r", "n")}


def to_onnx_order(cell: Cell, rows: Array) -> Array:
    """From the order of `Cell.gates`."""
    return _ordered(rows, cell.gates, _ORDER[cell])


def from_onnx_order(cell: Cell, rows: Array) -> Array:
    """To the order of `Cell.gates`."""
    return _ordered(rows, _ORDER[cell], cell.gates)


def _ordered(rows: Array, before: tuple[str, ...], after: tuple[str, ...]) -> Array:
    blocks = dict(zip(before, np.split(rows, len(before)), strict=True))
    return np.concatenate([blocks[gate] for gate in after])
