"""What exports and converts a model with the layer in it: torch.onnx, AOTInductor, OpenVINO; and loading it elsewhere."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import run_python, states_of
from torch import Tensor, nn
from torch.export import Dim

import fastlstm
from fastlstm import GRU, LSTM, GRUCell, LSTMCell
from fastlstm.torch.batch import Rows
from fastlstm.torch.graph import lowering
from fastlstm.weights import Sizes
from tests.tolerances import EXPORTED, TOLERANCE

OPTIONS = [
    {},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"num_layers": 2, "dropout": 0.5, "bias": False},
]
quiet = pytest.mark.filterwarnings("ignore")  # the exporters' own


class States(nn.Module):
    """From given states, in the order of the caller's batch."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.lstm = LSTM(3, 4, **options)

    def forward(self, x: Tensor, h_0: Tensor, c_0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output, (h_n, c_n) = self.lstm(x, (h_0, c_0))
        return output, h_n, c_n


def arguments(model: States, T: int, N: int) -> tuple[Tensor, Tensor, Tensor]:
    lstm = model.lstm
    lead = (N, T) if lstm.batch_first else (T, N)
    return torch.randn(*lead, 3), *torch.randn(2, lstm._sizes.chains, N, 4)


def run_onnx(program: Any, inputs: tuple[Tensor, ...], path: Path) -> list[Tensor]:
    onnxruntime = pytest.importorskip("onnxruntime")
    program.save(path)
    session = onnxruntime.InferenceSession(str(path))
    names = [put.name for put in session.get_inputs()]
    return [torch.from_numpy(t) for t in session.run(None, dict(zip(names, (t.numpy() for t in inputs), strict=True)))]


@quiet
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_default_onnx_exporter_gives_a_node_a_layer(options: dict[str, Any], tmp_path: Path) -> None:
    model = States(**options).eval()
    time, batch = ("N", "L") if model.lstm.batch_first else ("L", "N")
    sizes = {"x": {0: time, 1: batch}, "h_0": {1: "N"}, "c_0": {1: "N"}}
    program = torch.onnx.export(model, arguments(model, 5, 2), dynamo=True, verbose=False, dynamic_shapes=sizes)
    assert program is not None
    assert [node.op_type for node in program.model.graph].count("LSTM") == model.lstm.num_layers
    inputs = arguments(model, 9, 6)
    found = run_onnx(program, inputs, tmp_path / "model.onnx")
    torch.testing.assert_close(found, list(model(*inputs)), **EXPORTED)


@quiet
def test_what_the_default_onnx_exporter_writes_comes_back_whole(tmp_path: Path) -> None:
    theirs = nn.LSTM(3, 4, 2, bidirectional=True).eval()
    torch.onnx.export(theirs, (torch.randn(5, 2, 3),), tmp_path / "model.onnx", dynamo=True, verbose=False)
    back = fastlstm.from_onnx(tmp_path / "model.onnx").state_dict()
    assert list(back) == list(theirs.state_dict())
    assert all(torch.equal(back[name], weight) for name, weight in theirs.state_dict().items())


@quiet
@pytest.mark.parametrize("modules", [(LSTM, LSTMCell), (GRU, GRUCell)], ids=["LSTM", "GRU"])
@pytest.mark.parametrize("kind", ["cell", "unbatched", "zeros"])
def test_the_default_onnx_exporter_in_other_calls(kind: str, modules: tuple[Any, Any], tmp_path: Path) -> None:
    model = modules[kind == "cell"](3, 4).eval()
    x = {"cell": torch.randn(2, 3), "unbatched": torch.randn(5, 3), "zeros": torch.randn(5, 2, 3)}[kind]
    sizes = {"dynamic_shapes": ({0: Dim.DYNAMIC},)} if kind == "cell" else {}
    program = torch.onnx.export(model, (x,), dynamo=True, verbose=False, **sizes)
    if kind == "cell":
        x = torch.randn(7, 3)
    found, expected = run_onnx(program, (x,), tmp_path / "model.onnx"), model(x)
    torch.testing.assert_close(found[0], expected if torch.is_tensor(expected) else expected[0], **EXPORTED)


class WithRows(nn.Module):
    """A layer whose lengths, or resets, or both, are inputs of the model."""

    def __init__(self, layer: Any, names: tuple[str, ...]) -> None:
        super().__init__()
        self.layer, self.names = layer, names

    def forward(self, x: Tensor, *rows: Tensor) -> Any:
        return self.layer(x, **dict(zip(self.names, rows, strict=True)))

    def arguments(self, L: int, N: int) -> tuple[Tensor, ...]:
        lead = (N, L) if self.layer.batch_first else (L, N)
        rows = {"lengths": torch.randint(0, L + 1, (N,)), "reset": torch.rand(lead) < 0.3}
        return torch.randn(*lead, 3), *(rows[name] for name in self.names)


BOTH_WAYS = {"num_layers": 2, "bidirectional": True, "batch_first": True}


@quiet
@pytest.mark.parametrize(
    ("module", "options", "names", "node"),
    [
        (LSTM, BOTH_WAYS, ("lengths",), "LSTM"),
        (GRU, {"bias": False}, ("lengths",), "GRU"),
        (LSTM, {"bidirectional": True, "batch_first": True}, ("lengths", "reset"), "Scan"),
        (GRU, {}, ("reset",), "Scan"),
        (LSTM, {"proj_size": 2, "bias": False, "bidirectional": True}, ("lengths",), "Scan"),
        (LSTM, {"proj_size": 2, "num_layers": 2}, (), "Scan"),
    ],
)
def test_the_default_onnx_exporter_of_ragged_batches_and_projections(
    module: Any, options: dict[str, Any], names: tuple[str, ...], node: str, tmp_path: Path
) -> None:
    layer = module(3, 4, **options)
    model = WithRows(layer, names).eval()
    open_sizes = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    of_rows = tuple({0: Dim.DYNAMIC} if name == "lengths" else open_sizes for name in names)
    sizes = (open_sizes, of_rows) if names else (open_sizes,)
    program = torch.onnx.export(model, model.arguments(5, 4), dynamo=True, verbose=False, dynamic_shapes=sizes)
    assert program is not None
    chains = layer._sizes.chains if node == "Scan" else layer.num_layers
    assert [part.op_type for part in program.model.graph].count(node) == chains
    for L, N in ((9, 6), (3, 2)):
        inputs = model.arguments(L, N)
        output, last = model(*inputs)
        found = run_onnx(program, inputs, tmp_path / "model.onnx")
        torch.testing.assert_close(found, [output, *states_of(last)], **EXPORTED)
    if node != "Scan":
        back = fastlstm.from_onnx(tmp_path / "model.onnx").state_dict()
        assert all(torch.equal(back[name], weight) for name, weight in layer.state_dict().items())


def lowered(sizes: Sizes, masks: list[Tensor], rows: Rows) -> Any:
    """As an exporter has a recorded call rewritten."""
    packed = rows.batch_sizes is not None or rows.offsets is not None
    states = [torch.randn(sizes.chains, 2, features) for features in sizes.of_states]
    weights = [torch.randn(shape) for shape in sizes.shapes]
    x = torch.randn(8, 3) if packed else torch.randn(5, 2, 3)
    return lowering._lower(sizes.cell, x, *states, weights, masks, *rows, sizes.numbers, 0)


MASKS = [torch.ones(5, 2, 4)]
REFUSED = {
    "packed": (
        Sizes(3, 4),
        [],
        Rows(batch_sizes=torch.tensor([2, 2, 2, 1, 1])),
        "give the layer the padded one, and lengths",
    ),
    "nested": (Sizes(3, 4), [], Rows(offsets=torch.tensor([0, 3, 8])), "a nested tensor can't be lowered"),
    "dropout and lengths": (Sizes(3, 4, layers=2), MASKS, Rows(lengths=torch.tensor([5, 3])), r"model\.eval\(\)"),
    "dropout and a projection": (Sizes(3, 4, 2, layers=2), [torch.ones(5, 2, 2)], Rows(), r"model\.eval\(\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_default_onnx_exporter_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    *call, words = REFUSED[name]
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    monkeypatch.setattr(lowering, "_asks_for_shapes", lambda: False)
    with pytest.raises(NotImplementedError, match=words):
        lowered(*call)


def test_lengths_in_onnx_before_torch_has_its_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    monkeypatch.setattr(lowering, "_asks_for_shapes", lambda: False)
    monkeypatch.delattr(torch.onnx, "ops")
    with pytest.raises(NotImplementedError, match=r"since PyTorch 2\.8"):
        lowered(Sizes(3, 4), [], Rows(lengths=torch.tensor([5, 3])))


def test_lengths_outside_of_onnx_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowering, "_asks_for_shapes", lambda: False)
    with pytest.raises(NotImplementedError, match=r"torch\.onnx\.export takes lengths and reset"):
        lowered(Sizes(3, 4), [], Rows(lengths=torch.tensor([5, 3])))


@pytest.mark.slow
@quiet
def test_an_inductor_package_in_bfloat16(tmp_path: Path) -> None:
    lstm, x = LSTM(3, 4, 2, dtype=torch.bfloat16).eval(), torch.randn(5, 2, 3, dtype=torch.bfloat16)
    with torch.no_grad():
        sizes = ({0: Dim("L", min=2), 1: Dim("N", min=2)},)
        program = torch.export.export(lstm, (x,), dynamic_shapes=sizes)
        path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "lstm.pt2"))
    x = torch.randn(7, 4, 3, dtype=torch.bfloat16)
    output = torch._inductor.aoti_load_package(path)(x)[0]
    torch.testing.assert_close(output, lstm(x)[0], rtol=0, atol=TOLERANCE[torch.bfloat16, "value"])


@pytest.mark.slow
@quiet
@pytest.mark.parametrize("lengths", [None, [5, 3]])
def test_inductor_compiles_it_where_it_asserts_more(lengths: list[int] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "1")
    lstm, x = LSTM(3, 4), torch.randn(5, 2, 3)
    options = {} if lengths is None else {"lengths": torch.tensor(lengths)}
    with torch._inductor.utils.fresh_cache():
        assert torch.equal(torch.compile(lstm, fullgraph=True)(x, **options)[0], lstm(x, **options)[0])


@quiet
@pytest.mark.parametrize("strict", [False, True])
def test_a_program_made_without_gradients_has_none_and_says_so(strict: bool) -> None:
    lstm, x = LSTM(3, 4), torch.randn(5, 2, 3)
    with torch.no_grad():
        program = torch.export.export(lstm, (x,), strict=strict).module()
    output = program(x)[0]
    torch.testing.assert_close(output, lstm(x)[0])
    with pytest.raises(RuntimeError, match="recorded"):
        output.sum().backward()


@quiet
@pytest.mark.parametrize("first", ["fastlstm, torch", "torch, fastlstm"])
def test_importing_the_package_is_enough_to_load(first: str, tmp_path: Path) -> None:
    lstm, x = LSTM(3, 4).eval(), torch.randn(5, 2, 3)
    torch.export.save(torch.export.export(lstm, (x,)), tmp_path / "program.pt2")
    torch.jit.save(torch.jit.trace(lstm, (x,)), tmp_path / "trace.pt")
    torch.save((x, lstm(x)[0].detach()), tmp_path / "call.pt")
    run_python(
        f"import {first}\n"
        f"at = {str(tmp_path)!r}\n"
        "x, output = torch.load(at + '/call.pt')\n"
        "assert torch.equal(torch.jit.load(at + '/trace.pt')(x)[0], output)\n"
        "assert torch.equal(torch.export.load(at + '/program.pt2').module()(x)[0], output)\n"
    )


@quiet
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}], ids=str)
def test_openvino_converts_it(options: dict[str, Any]) -> None:
    openvino = pytest.importorskip("openvino")
    model = States(**options).eval()
    converted = openvino.convert_model(model, example_input=arguments(model, 5, 2))
    compiled = openvino.compile_model(
        converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )  # else bfloat16 where there is AMX
    inputs = arguments(model, 9, 6)
    found = list(compiled([t.numpy() for t in inputs]).values())
    torch.testing.assert_close([torch.from_numpy(t) for t in found], list(model(*inputs)), **EXPORTED)


def test_a_trace_made_under_enable_has_torchs_operator_alone() -> None:
    lstm, x = LSTM(3, 4).eval(), torch.randn(5, 2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fastlstm.enabled():
            theirs = torch.jit.trace(lstm, (x,))
        ours = torch.jit.trace(lstm, (x,))
    assert "aten::lstm" in str(theirs.inlined_graph)
    assert "= fastlstm::layer" not in str(theirs.inlined_graph)
    assert "= fastlstm::layer" in str(ours.inlined_graph)
    torch.testing.assert_close(theirs(x), lstm(x))
    with fastlstm.enabled():
        assert torch.equal(theirs(x)[0], lstm(x)[0])
