"""Modules that kept their type, and how often the engine ran."""

import pytest
from torch import Tensor, nn

import fastlstm
from tests.doubles import CountingEngine


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry for every time the engine runs from now on."""
    counted: list[int] = []
    for module in ("graph.function", "adopt.enabling", "adopt.keeping"):
        monkeypatch.setattr(f"fastlstm.torch.{module}._engine", CountingEngine(counted))
    return counted


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, 2, batch_first=True)
        self.cell = nn.LSTMCell(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.lstm(x)
        h, _ = self.cell(output[:, 0])
        return output.sum() + h.sum()


def kept(module: nn.Module) -> nn.Module:
    assert fastlstm.convert(module, keep_type=True).changed
    return module


def on_engine(runs: list[int], call) -> int:
    runs.clear()
    call()
    return len(runs)
