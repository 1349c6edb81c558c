"""A layer in graphs that torch makes of models: compiled, exported, traced."""

import io
import operator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from conftest import run_python
from equations import Equations
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastlstm
from operations import Kind, build, draw, near, operation, output_of, weights_of

OPEN = ({0: Dim("L", min=2), 1: Dim("N", min=2)},)
X, OTHER = draw(5, 2, 3), draw(7, 4, 3)  # what is recorded, and what runs


class Output(nn.Module):
    """output alone: some exporters take no nested results."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


def output(kind: Kind) -> Output:
    model = Output(build(kind)).eval()
    for p in model.parameters():
        p.requires_grad_(False)
    return model


def expected(model: Output, x: Tensor) -> Tensor:
    return Equations(model.layer)(x)[0]


def exported(model: Output, left_open: bool) -> ExportedProgram:
    return export(model, (X,), dynamic_shapes=OPEN if left_open else None)


# torch.compile


def compiled(model: nn.Module, **options: Any) -> Any:
    torch.compiler.reset()
    return torch.compile(model, **{"backend": "aot_eager", **options})


@operation("`torch.compile`, training")
def _(kind: Kind) -> None:
    layer = build(kind)
    run, plain = compiled(layer), Equations(layer)
    for x in (X, OTHER):
        found = torch.autograd.grad(run(x)[0].sin().sum(), list(layer.parameters()))
        near(found, torch.autograd.grad(plain(x)[0].sin().sum(), list(plain.parameters())))


@operation("`torch.compile(fullgraph=True)`, training", torchs="RNN, GRU, or LSTM")
def _(kind: Kind) -> None:
    layer = build(kind)
    run, plain = compiled(layer, fullgraph=True), Equations(layer)
    for x in (X, OTHER):
        found = torch.autograd.grad(run(x)[0].sin().sum(), list(layer.parameters()))
        near(found, torch.autograd.grad(plain(x)[0].sin().sum(), list(plain.parameters())))


@operation("`torch.compile` of a call in `torch.func.grad`")
def _(kind: Kind) -> None:
    model = output(kind)
    run = compiled(torch.func.grad(lambda x: model(x).sin().sum()))
    near(run(X), torch.func.grad(lambda x: expected(model, x).sin().sum())(X))


# torch.export


@operation("`torch.export`")
def _(kind: Kind) -> None:
    model = output(kind)
    near(exported(model, False).module()(X), expected(model, X))


@operation("`torch.export`, L and N left open", torchs="Constraints violated")
def _(kind: Kind) -> None:
    model = output(kind)
    near(exported(model, True).module()(OTHER), expected(model, OTHER))


@operation("`torch.export(strict=True)`, L and N left open", torchs="Constraints violated")
def _(kind: Kind) -> None:
    model = output(kind)
    near(export(model, (X,), dynamic_shapes=OPEN, strict=True).module()(OTHER), expected(model, OTHER))


@operation("`run_decompositions()`, `run_decompositions({})`")
def _(kind: Kind) -> None:
    model = output(kind)
    for table in ([], [{}]):
        near(exported(model, False).run_decompositions(*table).module()(X), expected(model, X))


@operation("`run_decompositions()`, `run_decompositions({})`, L and N left open", torchs="Constraints violated")
def _(kind: Kind) -> None:
    model = output(kind)
    for table in ([], [{}]):
        near(exported(model, True).run_decompositions(*table).module()(OTHER), expected(model, OTHER))


@operation("`torch.export.save`, loaded in another process")
def _(kind: Kind) -> None:
    model = output(kind)
    with TemporaryDirectory() as folder:
        torch.export.save(exported(model, False), Path(folder) / "program.pt2")
        torch.save((X, expected(model, X)), Path(folder) / "call.pt")
        run_python(
            "import fastlstm, torch\n"
            f"x, expected = torch.load({folder!r} + '/call.pt')\n"
            f"found = torch.export.load({folder!r} + '/program.pt2').module()(x)\n"
            "torch.testing.assert_close(found, expected)\n"
        )


@operation("`run_decompositions` to torch's core operators alone, ours among what is replaced")
def _(kind: Kind) -> None:
    model, table = output(kind), torch.export.default_decompositions()
    if kind is fastlstm.LSTM:
        table.update(torch._decomp.get_decompositions([torch.ops.fastlstm.lstm.default]))
    program = exported(model, False).run_decompositions(table)
    called = {node.target for node in program.graph.nodes if node.op == "call_function"} - {operator.getitem}
    assert all(torch.Tag.core in target.tags for target in called)
    near(program.module()(X), expected(model, X))


@operation("`torch.export` of a model that packs", torchs=r"zeros\(\)", ours="integers of shape")
def _(kind: Kind) -> None:
    class Packs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = build(kind)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            packed = self.layer(pack_padded_sequence(x, lengths, enforce_sorted=False))[0]
            return pad_packed_sequence(packed)[0]

    model, given = Packs().eval(), (X, torch.tensor([3, 5]))
    near(export(model, given).module()(*given), model(*given))


@operation("AOTInductor (`aoti_compile_and_package`), L and N left open", torchs="Constraints violated")
def _(kind: Kind) -> None:
    model = output(kind)
    with TemporaryDirectory() as folder, torch.no_grad():
        path = torch._inductor.aoti_compile_and_package(exported(model, True), package_path=f"{folder}/model.pt2")
        near(torch._inductor.aoti_load_package(path)(OTHER), expected(model, OTHER))


# Others


@operation("`torch.jit.trace`, other L and N")
def _(kind: Kind) -> None:
    model, file = output(kind), io.BytesIO()
    torch.jit.save(torch.jit.trace(model, (X,)), file)
    file.seek(0)
    near(torch.jit.load(file)(OTHER), expected(model, OTHER))


@operation("`torch.jit.freeze`, `optimize_for_inference` of a trace")
def _(kind: Kind) -> None:
    model = output(kind)
    trace = torch.jit.trace(model, (X,))
    near(torch.jit.freeze(trace)(OTHER), expected(model, OTHER))
    near(torch.jit.optimize_for_inference(trace)(OTHER), expected(model, OTHER))


@operation("`torch.jit.script`")
def _(kind: Kind) -> None:
    model = output(kind)
    near(torch.jit.script(model)(OTHER), expected(model, OTHER))
    assert type(model.layer) is kind


@operation("`torch.fx.symbolic_trace`")
def _(kind: Kind) -> None:
    model = output(kind)
    traced = torch.fx.symbolic_trace(model)
    assert [node.op for node in traced.graph.nodes] == ["placeholder", "call_module", "call_function", "output"]
    near(traced(OTHER), expected(model, OTHER))


def recorded(kind: Kind, mode: str, x: Tensor) -> None:
    layer = build(kind)
    weights = weights_of(layer)
    near(make_fx(output_of(layer), tracing_mode=mode)(weights, X)(weights, x), Equations(layer)(x)[0])


@operation("`make_fx`, real and fake")
def _(kind: Kind) -> None:
    recorded(kind, "real", X)
    recorded(kind, "fake", X)


@operation("`make_fx`, symbolic: other L and N")
def _(kind: Kind) -> None:
    recorded(kind, "symbolic", OTHER)


@operation("`torch.func.functionalize`")
def _(kind: Kind) -> None:
    model = output(kind)
    near(torch.func.functionalize(model)(X), expected(model, X))


@operation("`torch.onnx.export`")
def _(kind: Kind) -> None:
    model, file = output(kind), io.BytesIO()
    program = torch.onnx.export(model, (X,), dynamo=True, verbose=False)
    assert program is not None
    program.save(file)
    near(by_onnx_runtime(file, X), expected(model, X))


@operation("`torch.onnx.export`, L and N left open", torchs="Failed to export")
def _(kind: Kind) -> None:
    model = output(kind)
    sizes = ({0: Dim.DYNAMIC, 1: Dim.DYNAMIC},)
    program = torch.onnx.export(model, (X,), dynamo=True, verbose=False, dynamic_shapes=sizes)
    assert program is not None
    file = io.BytesIO()
    program.save(file)
    near(by_onnx_runtime(file, OTHER), expected(model, OTHER))


@operation("`torch.onnx.export(dynamo=False)`, other L and N")
def _(kind: Kind) -> None:
    model, file = output(kind), io.BytesIO()
    axes = {"x": {0: "L", 1: "N"}}
    torch.onnx.export(model, (X,), file, dynamo=False, input_names=["x"], dynamic_axes=axes)
    near(by_onnx_runtime(file, OTHER), expected(model, OTHER))


def by_onnx_runtime(file: io.BytesIO, x: Tensor) -> Tensor:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(file.getvalue())
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


@operation("`FakeTensorMode`")
def _(kind: Kind) -> None:
    with torch._subclasses.FakeTensorMode():
        layer = build(kind)
        assert layer(torch.empty(5, 2, 3))[0].shape == (5, 2, 4)


@operation("`FlopCounterMode`", torchs="counts nothing")
def _(kind: Kind) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        build(kind)(X)
    assert counter.get_total_flops() == 2 * 10 * 4 * 4 * (3 + 4 + 4 + 4), "it counts nothing"


@operation("`TorchDispatchMode`: sees the call, and its numbers stay")
def _(kind: Kind) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    layer = build(kind)
    with Watch():
        found = layer(X)[0]
    assert seen
    near(found, Equations(layer)(X)[0])


@operation("`TorchFunctionMode`: sees the call, and its numbers stay")
def _(kind: Kind) -> None:
    from torch.overrides import TorchFunctionMode

    seen = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(getattr(func, "__name__", ""))
            return func(*args, **(kwargs or {}))

    layer = build(kind)
    with Watch():
        found = layer(X)[0]
    near(found, Equations(layer)(X)[0])
    assert any("lstm" in name for name in seen)


@operation("`nn.Module.compile`")
def _(kind: Kind) -> None:
    layer = build(kind)
    torch.compiler.reset()
    layer.compile(backend="aot_eager")
    near(layer(X)[0], Equations(layer)(X)[0])
