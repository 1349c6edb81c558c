"""FlopCounterMode: what nn.LSTM counts on the device meta is the truth; ours counts it there and on the CPU."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.flop_counter import FlopCounterMode

from fastlstm import LSTM, LSTMCell


def count(model: nn.Module, *arguments: Any, backward: bool = True, **options: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        results = model(*arguments, **options)[0]
        if backward:
            (results if isinstance(results, Tensor) else results.data).sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("wanted", ["weights", "input too", "states too"])
@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize(
    "options",
    [{}, {"num_layers": 2, "bidirectional": True, "bias": False}, {"num_layers": 2, "proj_size": 2}],
    ids=str,
)
def test_a_layer(options: dict[str, Any], device: str, wanted: str, backward: bool) -> None:
    def tensors(on: str) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        cells = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
        x = torch.randn(5, 2, 3, device=on, requires_grad=wanted != "weights")
        shapes = (cells, 2, options.get("proj_size", 4)), (cells, 2, 4)
        h_0, c_0 = (torch.randn(shape, device=on, requires_grad=wanted == "states too") for shape in shapes)
        return x, (h_0, c_0)

    expected = count(nn.LSTM(3, 4, device="meta", **options), *tensors("meta"), backward=backward)
    assert expected > 0
    assert count(LSTM(3, 4, device=device, **options), *tensors(device), backward=backward) == expected


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_cell(device: str) -> None:
    expected = count(nn.LSTMCell(3, 4, device="meta"), torch.randn(2, 3, device="meta"))
    assert count(LSTMCell(3, 4, device=device), torch.randn(2, 3, device=device)) == expected


def test_only_rows_that_exist_count() -> None:
    lstm, x, lengths = LSTM(3, 4), torch.randn(7, 3, 3), torch.tensor([7, 4, 2])
    packed = pack_padded_sequence(x, lengths)
    expected = 2 * 13 * 16 * (3 + 4)
    assert count(lstm, packed, backward=False) == expected
    assert count(lstm, x, lengths=lengths, backward=False) == expected
    back = 2 * 16 * (13 * 3 + 13 * 4 + (13 - 3) * 4)
    assert count(lstm, packed) == count(lstm, x, lengths=lengths) == expected + back
