"""What records, compiles or quantizes a module that kept its type: it makes of it what it makes of an nn.LSTM."""

import pytest
import torch
from torch import nn

from tests.torch.kept import Model, counting, kept, on_engine

uses_jit = pytest.mark.filterwarnings("ignore:`torch.jit", "ignore::torch.jit.TracerWarning")


@pytest.fixture
def runs(monkeypatch):
    return counting(monkeypatch)


@uses_jit
def test_torchscript_has_torchs_own(runs):
    model, x = Model(), torch.randn(2, 5, 3)
    before, expected = torch.jit.script(model), model(x)
    assert torch.jit.script(kept(nn.LSTM(3, 4)))  # alone
    kept(model)
    scripted, traced = torch.jit.script(model), torch.jit.trace(model, (x,))
    assert scripted.code == before.code
    assert scripted.lstm.forward__0.code == before.lstm.forward__0.code
    assert "aten::lstm" in str(traced.inlined_graph)
    assert "fastlstm::" not in str(traced.inlined_graph)
    for compiled in (scripted, traced):
        assert on_engine(runs, lambda run=compiled: torch.testing.assert_close(run(x), expected)) == 0
    assert on_engine(runs, lambda: model(x)) == 2


@pytest.mark.filterwarnings("ignore:The tensor attributes self", "ignore:`isinstance.treespec, LeafSpec")
@pytest.mark.parametrize("marked", [False, True])
def test_what_records_a_model_sees_torchs_own(marked, runs):
    model, x = Model(), torch.randn(2, 5, 3)
    expected = model(x)
    kept(model if marked else Model())
    for strict in (False, True):
        exported = torch.export.export(model, (x,), strict=strict)
        assert "aten.lstm.input" in str(exported.graph)
        assert "fastlstm" not in str(exported.graph)
        torch.testing.assert_close(exported.module()(x), expected)
    with torch._dynamo.config.patch(allow_rnn=True):
        torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(x), expected)
    assert not runs
    graph = torch.fx.symbolic_trace(model)
    assert [node.target for node in graph.graph.nodes if node.op == "call_module"] == ["lstm", "cell"]
    assert on_engine(runs, lambda: torch.testing.assert_close(graph(x), expected)) == 2 * marked


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch 2.15 looks at it where a graph goes on
@pytest.mark.parametrize("grad", [True, False])
def test_torch_compile_as_it_is_by_default(grad, runs):
    """It breaks the graph at an nn.LSTM, whose call is ours."""
    lstm, x = nn.LSTM(3, 4), torch.randn(5, 2, 3)
    expected = lstm(x)[0].detach()
    compiled = torch.compile(lambda x: kept_lstm(x + 0)[0].tanh(), backend="aot_eager")
    kept_lstm = kept(lstm)
    with torch.set_grad_enabled(grad):
        compiled(x)
        assert on_engine(runs, lambda: torch.testing.assert_close(compiled(x).detach(), expected.tanh())) == 1


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_quantize_dynamic():
    model, x = Model().eval(), torch.randn(2, 5, 3)
    expected = torch.ao.quantization.quantize_dynamic(model)(x)
    quantized = torch.ao.quantization.quantize_dynamic(kept(model))
    assert type(quantized.lstm) is torch.ao.nn.quantized.dynamic.LSTM
    assert type(quantized.cell) is torch.ao.nn.quantized.dynamic.LSTMCell
    assert torch.equal(quantized(x), expected)
