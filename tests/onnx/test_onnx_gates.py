"""The gates' order, by hand: what else uses it compares with engines that have the same order."""

import numpy as np

from fastlstm.cells import GRU, LSTM
from fastlstm.onnx.gates import from_onnx_order, to_onnx_order


def test_the_gates_are_put_in_the_order_of_onnx() -> None:
    assert to_onnx_order(LSTM, np.array([1, 2, 3, 4])).tolist() == [1, 4, 2, 3]  # i, f, g, o to i, o, f, c
    assert to_onnx_order(GRU, np.array([1, 2, 3])).tolist() == [2, 1, 3]  # r, z, n to z, r, h


def test_and_back() -> None:
    for cell in (LSTM, GRU):
        rows = np.arange(12.0).reshape(12, 1)
        assert np.array_equal(from_onnx_order(cell, to_onnx_order(cell, rows)), rows)
