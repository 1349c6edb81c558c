"""Rows of weights by gate: ONNX has the gates of a cell in another order."""

import numpy as np

from fastlstm.cells import Cell
from fastlstm.onnx.model import Array


def to_onnx_order(cell: Cell, rows: Array) -> Array:
    """From the order of `Cell.gates`."""
    return _ordered(rows, cell.gates, cell.onnx_gates)


def from_onnx_order(cell: Cell, rows: Array) -> Array:
    """To the order of `Cell.gates`."""
    return _ordered(rows, cell.onnx_gates, cell.gates)


def _ordered(rows: Array, before: tuple[str, ...], after: tuple[str, ...]) -> Array:
    blocks = dict(zip(before, np.split(rows, len(before)), strict=True))
    return np.concatenate([blocks[gate] for gate in after])
