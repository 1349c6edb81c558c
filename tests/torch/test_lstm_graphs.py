"""A layer in a graph that torch makes of a model: torch.jit.trace, torch.compile, torch.export, torch.fx."""

from pathlib import Path

import pytest
import torch
from around import X, build, gradients, pair
from conftest import assert_close
from torch import Tensor, nn

from fastlstm import LSTM, LSTMCell

traced = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore::FutureWarning"
)


@traced
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "proj_size": 3, "batch_first": True}], ids=str)
def test_jit_trace_of_a_model_that_holds_it(options, tmp_path: Path):
    """The trace answers like the model, for other values, batch sizes and lengths too, and survives a file."""
    if "proj_size" in options:
        ours: nn.Module = build(**options)
        x, others = torch.randn(4, 6, 5, dtype=torch.float64), torch.randn(3, 9, 5, dtype=torch.float64)
    else:
        ours, _ = pair(**options)
        x, others = X, torch.randn(9, 3, 3, dtype=torch.float64)
    trace = torch.jit.trace(ours.eval(), (x,))
    torch.jit.save(trace, str(tmp_path / "trace.pt"))
    for module in (trace, torch.jit.load(str(tmp_path / "trace.pt"))):
        for given in (x, others):
            torch.testing.assert_close(module(given), ours(given))


@traced
def test_a_trace_trains_and_reads_its_parameters_anew():
    ours, theirs = pair()
    trace = torch.jit.trace(ours, (X,))
    assert_close(gradients(trace, X), gradients(theirs, X))
    with torch.no_grad():
        ours.lstm.weight_hh_l0.mul_(2)
        theirs.lstm.weight_hh_l0.mul_(2)
    assert_close(gradients(trace, X), gradients(theirs, X))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_torch_compile_makes_one_graph_with_the_same_gradients(backend):
    ours, theirs = pair()
    compiled = torch.compile(ours, backend=backend, fullgraph=True)
    try:
        found = {name.replace("_orig_mod.", ""): value for name, value in gradients(compiled, X).items()}
        assert_close(found, gradients(theirs, X))
        with torch.no_grad():
            torch.testing.assert_close(compiled(X), theirs(X))
    finally:
        torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torch_export_keeps_the_numbers():
    ours, theirs = pair()
    open_sizes = {0: torch.export.Dim("T"), 1: torch.export.Dim("N")}
    program = torch.export.export(ours.eval(), (X,), dynamic_shapes=(open_sizes,))
    others = torch.randn(9, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(program.module()(others), theirs(others))


@pytest.mark.parametrize("grad", [True, False])
def test_torch_fx_keeps_it_whole(grad):
    """As it keeps torch.nn's modules: no look inside, a node that calls it."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.cell = LSTM(3, 4), LSTMCell(4, 4)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            output, (h, c) = self.lstm(x, lengths=lengths)
            return output[0] + self.cell(output[-1], (h[0], c[0]))[0]

    model, x, lengths = Model(), torch.randn(5, 2, 3), torch.tensor([5, 3])
    with torch.set_grad_enabled(grad):
        traced = torch.fx.symbolic_trace(model)
        assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["lstm", "cell"]
        assert torch.equal(traced(x, lengths), model(x, lengths))
        again = torch.fx.symbolic_trace(traced)
        assert torch.equal(again(x, lengths), model(x, lengths))
