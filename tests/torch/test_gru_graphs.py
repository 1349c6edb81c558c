"""A GRU in what torch makes of a model: torch.compile, export, jit, fx, ONNX, counters, DataParallel; ours, and nn.GRU under
enable().
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.flop_counter import FlopCounterMode

import fastlstm
from fastlstm import GRU, GRUCell
from fastlstm.torch.batch import Rows
from fastlstm.torch.graph import operator
from tests.conftest import assert_bits, assert_close, draw, evaluate, run_python, twin
from tests.tolerances import EXPORTED
from tests.torch.kept import counting, on_engine

OPTIONS: list[dict[str, Any]] = [
    {"bias": False},
    {"num_layers": 2, "bidirectional": True, "batch_first": True, "dropout": 0.5},
]
each_options = pytest.mark.parametrize("options", OPTIONS, ids=str)
uses_jit = pytest.mark.filterwarnings("ignore:`torch.jit", "ignore::torch.jit.TracerWarning")
quiet = pytest.mark.filterwarnings("ignore")  # the exporters' own


@pytest.fixture(autouse=True)
def off_afterwards() -> Iterator[None]:
    yield
    fastlstm.disable()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    return counting(monkeypatch)


class Model(nn.Module):
    """Layer and cell with something on either side, as they are met in the wild."""

    def __init__(self, home: Any = fastlstm, **options: Any) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 5)
        self.gru = home.GRU(5, 4, **{"num_layers": 2, **options})
        self.cell = home.GRUCell(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        output, h_n = self.gru(self.encoder(x).tanh())
        return self.head(output) + self.cell(output[-1], h_n[0]).mean()


X = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(0))
OTHERS = torch.randn(9, 3, 3, generator=torch.Generator().manual_seed(1))


def pair(**options: Any) -> tuple[Model, Model]:
    """The model with ours in it, and the same one with torch's."""
    ours, theirs = Model(**options), Model(nn, **options)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor | None]:
    model.zero_grad(set_to_none=True)
    y = model(x)
    y.pow(2).sum().backward()
    names = {name: name.replace("module.", "").replace("_orig_mod.", "") for name, _ in model.named_parameters()}
    return {"output": y.detach()} | {f"d{names[name]}": p.grad for name, p in model.named_parameters()}


# The operator


@pytest.mark.parametrize("save", [True, False])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"num_layers": 2, "bidirectional": True}], ids=str)
def test_the_operators_keep_torchs_rules(options, save):
    """Schema, fake kernel, autograd registration and tracing with symbolic shapes, as torch itself checks them."""
    gru = GRU(3, 4, **options, dtype=torch.float64)
    call, sizes = draw(gru, 4, 2), gru._sizes
    weights = [p.detach().requires_grad_(save) for p in gru.parameters()]
    masks = [torch.ones(4, 2, sizes.D * sizes.out, dtype=torch.float64)] * (sizes.layers - 1)
    per_row = operator.saved_reals(*sizes.numbers, dtype="float64") if save else 0
    forward = operator.OPERATORS["GRU"][0]
    for x, dropped, rows in (
        (call.x, masks, Rows()),
        (call.x.reshape(-1, 3)[:7], [], Rows(batch_sizes=torch.tensor([2, 2, 2, 1]))),
        (call.x, [], Rows(lengths=torch.tensor([4, 4]))),
    ):
        arguments = (x.clone().requires_grad_(save), call.hx, weights, dropped, *rows, sizes.numbers, per_row)
        torch.library.opcheck(forward, arguments)


# torch.compile and torch.export


@quiet
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_torch_compile_makes_one_graph_with_the_same_gradients(backend, compiler):
    ours, theirs = pair()
    compiled = torch.compile(ours, backend=backend, fullgraph=True)
    assert_close(gradients(compiled, X), gradients(theirs, X))
    with torch.no_grad():
        torch.testing.assert_close(compiled(OTHERS), theirs(OTHERS))


@quiet
@pytest.mark.parametrize("more", [{}, {"lengths": [3, 6, 0, 1]}, {"mask": [3, 6, 2, 1]}, {"reset": 2}], ids=str)
def test_a_compiled_layer_has_the_same_bits(more, compiler):
    gru = GRU(3, 4, 2, bidirectional=True)
    call = draw(gru, 6, 4)
    if "lengths" in more:
        more = {"lengths": torch.tensor(more["lengths"])}
    elif "mask" in more:
        more = {"mask": torch.arange(6)[:, None] < torch.tensor(more["mask"])}
    elif "reset" in more:
        more = {"reset": torch.arange(24).reshape(6, 4) % 5 == more["reset"]}
    expected = evaluate(gru, call, **more)
    gru.compile(fullgraph=True, backend="aot_eager")
    assert_bits(evaluate(gru, call, **more), expected)


@quiet
def test_torch_export_keeps_the_numbers_with_sizes_left_open():
    ours, theirs = pair()
    sizes = ({0: torch.export.Dim("T"), 1: torch.export.Dim("N")},)
    program = torch.export.export(ours.eval(), (X,), dynamic_shapes=sizes)
    assert "fastlstm.gru" in str(program.graph)
    for x in (X, OTHERS):
        torch.testing.assert_close(program.module()(x), theirs(x))
    lowered = program.run_decompositions({**torch.export.default_decompositions()})
    torch.testing.assert_close(lowered.module()(OTHERS), theirs(OTHERS))


@quiet
def test_importing_the_package_is_enough_to_load(tmp_path):
    modules = {"layer": (GRU(3, 4, 2), torch.randn(5, 2, 3)), "cell": (GRUCell(3, 4), torch.randn(2, 3))}
    for name, (module, x) in modules.items():
        torch.export.save(torch.export.export(module.eval(), (x,)), tmp_path / f"{name}.pt2")
        torch.jit.save(torch.jit.trace(module, (x,)), tmp_path / f"{name}.trace")
        torch.save((x, module(x)[0].detach()), tmp_path / f"{name}.call")
    run_python(
        "import fastlstm, torch\n"
        "for name in ('layer', 'cell'):\n"
        f"    at = {str(tmp_path)!r} + '/' + name\n"
        "    x, output = torch.load(at + '.call')\n"
        "    assert torch.equal(torch.jit.load(at + '.trace')(x)[0], output)\n"
        "    assert torch.equal(torch.export.load(at + '.pt2').module()(x)[0], output)\n"
    )


# torch.jit and torch.fx


@uses_jit
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "batch_first": True}, {"dropout": 0.5}], ids=str)
def test_a_trace_answers_like_the_layer_and_trains(options, tmp_path):
    """For other values, batch sizes and lengths too; it survives a file, and reads its parameters anew."""
    gru = GRU(3, 4, 2, **options).eval()
    trace = torch.jit.trace(gru, (X,))
    torch.jit.save(trace, str(tmp_path / "trace.pt"))
    for module in (trace, torch.jit.load(str(tmp_path / "trace.pt"))):
        for x in (X, OTHERS):
            torch.testing.assert_close(module(x), gru(x))
    call = draw(gru, 6, 4)
    traced = torch.jit.trace(gru, (call.x, call.hx))
    assert_close(evaluate(traced, call), evaluate(twin(gru), call))
    with torch.no_grad():
        gru.weight_hh_l0.mul_(2)
    assert_close(evaluate(traced, call), evaluate(twin(gru), call))


@uses_jit
def test_a_trace_of_a_packed_batch_and_of_a_cell():
    class Packing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = GRU(3, 4)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            output, h_n = self.gru(pack_padded_sequence(x, lengths, enforce_sorted=False))
            return output.data.sum() + h_n.sum(0)

    model, lengths = Packing(), torch.tensor([3, 6, 1, 2])
    trace = torch.jit.trace(model, (X, lengths))
    other = torch.tensor([6, 1, 5])
    torch.testing.assert_close(trace(X, lengths), model(X, lengths))
    torch.testing.assert_close(trace(X[:, :3], other), model(X[:, :3], other))
    cell, h = GRUCell(3, 4), torch.randn(4, 4)
    traced = torch.jit.trace(cell, (X[0], h))
    torch.testing.assert_close(traced(X[1, :2], h[:2]), cell(X[1, :2], h[:2]))


@uses_jit
def test_a_trace_made_under_enable_has_torchs_operator_alone():
    gru = GRU(3, 4).eval()
    with fastlstm.enabled():
        theirs = torch.jit.trace(gru, (X,))
    ours = torch.jit.trace(gru, (X,))
    assert "aten::gru" in str(theirs.inlined_graph)
    assert "= fastlstm::" not in str(theirs.inlined_graph)
    assert "= fastlstm::" in str(ours.inlined_graph)
    torch.testing.assert_close(theirs(X), gru(X))


def test_torch_fx_keeps_it_whole():
    class Ragged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.cell = GRU(3, 4), GRUCell(4, 4)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            output, h = self.gru(x, lengths=lengths)
            return output[0] + self.cell(output[-1], h[0])

    model, lengths = Ragged(), torch.tensor([6, 3, 0, 1])
    traced = torch.fx.symbolic_trace(model)
    assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["gru", "cell"]
    assert torch.equal(traced(X, lengths), model(X, lengths))


# ONNX


@quiet
@each_options
def test_the_default_onnx_exporter_gives_a_node_a_layer(options, tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = GRU(3, 4, **options).eval()
    time, batch = ("N", "L") if model.batch_first else ("L", "N")
    sizes = {"input": {0: time, 1: batch}, "hx": {1: "N"}}
    call = draw(model, 5, 2)
    program = torch.onnx.export(model, (call.x, call.hx), dynamo=True, verbose=False, dynamic_shapes=sizes)
    assert program is not None
    assert [node.op_type for node in program.model.graph].count("GRU") == model.num_layers
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    other = draw(model, 9, 6)
    names = [put.name for put in session.get_inputs()]
    found = session.run(None, {name: t.numpy() for name, t in zip(names, (other.x, other.hx), strict=True)})
    torch.testing.assert_close([torch.from_numpy(t) for t in found], list(model(other.x, other.hx)), **EXPORTED)


@quiet
def test_openvino_converts_it():
    openvino = pytest.importorskip("openvino")
    model = GRU(3, 4, 2, bidirectional=True).eval()
    call = draw(model, 5, 2)
    converted = openvino.convert_model(model, example_input=(call.x, call.hx))
    compiled = openvino.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled([call.x.numpy(), call.hx.numpy()]).values()
    torch.testing.assert_close([torch.from_numpy(t) for t in found], list(model(call.x, call.hx)), **EXPORTED)


# Counters, and copies of a model in several places


def count(model: nn.Module, *arguments: Any, **more: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        results = model(*arguments, **more)
        results = results if isinstance(results, Tensor) else results[0]
        (results if isinstance(results, Tensor) else results.data).sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "bias": False}], ids=str)
def test_flops_are_those_that_nn_gru_has_on_the_device_meta(options, device):
    x = torch.randn(5, 2, 3)
    expected = count(nn.GRU(3, 4, device="meta", **options), x.to("meta"))
    assert count(GRU(3, 4, device=device, **options), x.to(device)) == expected
    expected = count(nn.GRUCell(3, 4, device="meta"), x[0].to("meta"))
    assert count(GRUCell(3, 4, device=device), x[0].to(device)) == expected


def test_only_rows_that_exist_count():
    gru, x, lengths = GRU(3, 4), torch.randn(7, 3, 3), torch.tensor([7, 4, 2])
    expected = 2 * 12 * (13 * (3 + 4) + 13 * 3 + 13 * 4 + (13 - 3) * 4)
    assert count(gru, pack_padded_sequence(x, lengths)) == count(gru, x, lengths=lengths) == expected


def test_replicate_of_data_parallel(monkeypatch: pytest.MonkeyPatch):
    """torch's own replicate, its broadcast replaced by copies: replicas hold plain tensors in place of parameters."""

    def copies(tensors: list[Tensor], devices: list[int], detach: bool = False) -> list[list[Tensor]]:
        return [[t.clone() for t in tensors] for _ in devices]

    replicate_module = importlib.import_module("torch.nn.parallel.replicate")
    monkeypatch.setattr(replicate_module, "_broadcast_coalesced_reshape", copies)
    ours, theirs = pair()
    halves = X.split(2, dim=1)
    replicas = replicate_module.replicate(ours, [0, 1])
    assert not list(replicas[0].gru.parameters())
    found = []
    for modules, model in ((replicas, ours), ((theirs, theirs), theirs)):
        y = torch.cat([module(half) for module, half in zip(modules, halves, strict=True)], dim=1)
        y.pow(2).sum().backward()
        found.append({"output": y.detach()} | {f"d{name}": p.grad for name, p in model.named_parameters()})
    assert_close(*found)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_distributed_data_parallel_trains(tmp_path: Path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        ours, theirs = pair()
        wrapped = nn.parallel.DistributedDataParallel(ours)
        steppers = [torch.optim.SGD(model.parameters(), lr=0.01) for model in (wrapped, theirs)]
        for _ in range(3):
            assert_close(gradients(wrapped, X), gradients(theirs, X))
            for stepper in steppers:
                stepper.step()
    finally:
        torch.distributed.destroy_process_group()


# nn.GRU under enable()


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(3, 4, 2, batch_first=True), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0])


@uses_jit
@pytest.mark.parametrize("traced_while_on", [False, True])
@pytest.mark.parametrize("how", ["script", "trace"])
def test_torchscript(how, traced_while_on, runs):
    model, x = Holder(), torch.randn(2, 5, 3)
    expected = model(x)
    gradients = torch.autograd.grad(expected.sum(), list(model.parameters()))
    if traced_while_on:
        fastlstm.enable()
    scripted = torch.jit.script(model) if how == "script" else torch.jit.trace(model, (x,))
    assert "aten::gru" in str(scripted.inlined_graph)
    fastlstm.enable()
    for _ in range(3):  # the interpreter specialises in its first runs
        runs.clear()
        found = scripted(x)
        assert len(runs) == 1
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found.sum(), list(scripted.parameters())), gradients)
    fastlstm.disable()
    assert on_engine(runs, lambda: torch.equal(scripted(x), expected)) == 0


@pytest.mark.filterwarnings(
    "ignore:The tensor attributes self._flat_weights",
    "ignore:`isinstance.treespec, LeafSpec",
    "ignore:_check_is_size will be removed:FutureWarning",  # torch 2.15, of its own loop
)
@pytest.mark.parametrize("on", [True, False])
def test_what_exports_a_model_decomposes_it_as_before(on):
    """Sizes left open: torch's decomposition in Python takes them, the one in C++ doesn't."""
    fastlstm.enable()
    if not on:
        fastlstm.disable()
    model, x = nn.GRU(3, 4), torch.randn(5, 2, 3)
    exported = torch.export.export(model, (x,), dynamic_shapes=({1: torch.export.Dim("N")},))
    assert "aten.gru.input" in str(exported.graph)
    decomposed = exported.run_decompositions()
    assert "aten.gru" not in str(decomposed.graph)
    for N in (2, 3):
        x = torch.randn(5, N, 3)
        torch.testing.assert_close(decomposed.module()(x), model(x))
