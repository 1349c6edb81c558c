"""A model whose layers are called with lengths and resets, too, exported, packaged and traced with L and N left open: it has the
eager model's bits at other sizes, in a process that knows it from the file alone.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import run_python
from torch import Tensor, nn
from torch.export import Dim

from fastlstm import GRU, LSTM, GRUCell, LSTMCell

quiet = pytest.mark.filterwarnings("ignore")  # the exporters' own


class Model(nn.Module):
    """Calls of every kind, each reading what the one before gave."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = LSTM(3, 4, 2, bidirectional=True)
        self.ragged = GRU(8, 4, batch_first=True)
        self.both = LSTM(4, 5, proj_size=4)
        self.cells = nn.ModuleList([LSTMCell(4, 4), GRUCell(4, 4)])

    def forward(self, x: Tensor, lengths: Tensor, reset: Tensor) -> tuple[Tensor, ...]:
        y, _ = self.dense(x)
        y, h = self.ragged(y.transpose(0, 1), lengths=lengths)
        c = torch.cat([h, h[..., :1]], -1)
        y, _ = self.both(y.transpose(0, 1), (h.tanh(), c), reset=reset)
        output, (h_n, c_n) = self.both(y, lengths=lengths, reset=reset)
        h, c = self.cells[0](output[0], (h_n[0], c_n[0, :, 1:]))
        return output, h_n, c_n, self.cells[1](h, c)


def arguments(L: int, N: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(L, N, 3), torch.randint(0, L + 1, (N,)), torch.rand(L, N) < 0.3


@pytest.fixture
def model() -> Model:
    return Model().eval().requires_grad_(False)


def program(model: Model) -> Any:
    L, N = Dim("L", min=2), Dim("N", min=2)
    return torch.export.export(model, arguments(5, 3), dynamic_shapes=({0: L, 1: N}, {0: N}, {0: L, 1: N}))


def run_elsewhere(model: Model, folder: Path, *loads: str) -> None:
    """loads: expressions of `at`, the folder, whose values take the model's arguments."""
    calls = [(given, model(*given)) for given in (arguments(9, 2), arguments(4, 6))]
    torch.save(calls, folder / "calls.pt")
    run_python(
        "import fastlstm, torch\n"
        f"at = {str(folder)!r}\n"
        f"for load in [{', '.join(f'lambda: {load}' for load in loads)}]:\n"
        "    run = load()\n"
        "    for given, expected in torch.load(at + '/calls.pt'):\n"
        "        for found, value in zip(run(*given), expected, strict=True):\n"
        "            assert torch.equal(found, value), (found - value).abs().max()\n"
    )


@quiet
def test_exported_programs_and_a_trace(model: Model, tmp_path: Path) -> None:
    whole = program(model)
    decomposed = {"whole": whole, "by_no_table": whole.run_decompositions({}), "to_core": whole.run_decompositions()}
    for name, exported in decomposed.items():
        called = [str(node.target) for node in exported.graph.nodes if "fastlstm" in str(node.target)]
        assert called == [f"fastlstm.{cell}.default" for cell in ("lstm", "gru", "lstm", "lstm", "lstm", "gru")]
        torch.export.save(exported, tmp_path / f"{name}.pt2")
    torch.jit.save(torch.jit.trace(model, arguments(5, 3)), tmp_path / "trace.pt")
    programs = [f"torch.export.load(at + '/{name}.pt2').module()" for name in decomposed]
    run_elsewhere(model, tmp_path, *programs, "torch.jit.load(at + '/trace.pt')")


@pytest.mark.slow
@quiet
def test_an_inductor_package(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "1")  # where Inductor asserts more
    torch._inductor.aoti_compile_and_package(program(model), package_path=str(tmp_path / "model.pt2"))
    run_elsewhere(model, tmp_path, "torch._inductor.aoti_load_package(at + '/model.pt2')")
