"""What torch records of its own operators, as text: run as a script, with what is said to `enable()` before, it prints a table.

python recordings.py never | off | block | on
"""

import json
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.rnn import PackedSequence


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(PackedSequence(x, torch.tensor([3, 2, 1])))[0].data


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x)[0]


MODELS = {"dense": (Dense, (2, 2, 3)), "packed": (Packed, (6, 3)), "cell": (Cell, (2, 3))}


def numbers(values: Any) -> Any:
    """Shapes and numbers to a few digits: on the engine they are others in the last."""
    if isinstance(values, Tensor):
        size = list(values.shape)
        if values.device.type == "meta" or isinstance(values, torch._subclasses.FakeTensor):
            return [str(type(values)), size]
        return [size, *(round(v, 3) + 0.0 for v in values.detach().flatten().tolist())]
    return [numbers(v) for v in values]


def graph(recorded: Any) -> str:
    return re.sub(r"0x[0-9a-f]+", "", str(recorded.graph))


def functional(model: nn.Module) -> Callable[[Tensor, dict[str, Tensor]], Any]:
    return lambda x, weights: torch.func.functional_call(model, weights, (x,))


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in model.named_parameters()}


def kept(program: ExportedProgram) -> str:
    """Lowered, with the operator kept whole."""
    table = torch.export.default_decompositions()
    for op in (torch.ops.aten.lstm.input, torch.ops.aten.lstm.data, torch.ops.aten.lstm_cell.default):
        table.pop(op, None)
    return graph(program.run_decompositions(table))


def own_decomposition(program: ExportedProgram) -> str:
    """Lowered, with another decomposition in the place of torch's."""

    def zeros(x: Tensor, hx: list[Tensor], *rest: Any) -> Any:
        return x.new_zeros(2, 2, 4), torch.zeros_like(hx[0]), torch.zeros_like(hx[1])

    table = torch.export.default_decompositions()
    table[torch.ops.aten.lstm.input] = zeros
    return graph(program.run_decompositions(table))


def onnx(model: nn.Module, x: Tensor, **options: Any) -> list[str]:
    program = torch.onnx.export(model, (x,), dynamo=True, verbose=False, **options)
    assert program is not None
    return [node.op_type for node in program.model.graph]


def onnx_of_a_trace(model: nn.Module, x: Tensor) -> list[str]:
    import io

    import onnx as onnx_package

    file = io.BytesIO()
    torch.onnx.export(model, (x,), file, dynamo=False)
    return [node.op_type for node in onnx_package.load_from_string(file.getvalue()).graph.node]


def compiled(model: nn.Module, x: Tensor) -> Any:
    torch._dynamo.reset()
    return numbers(torch.compile(model, backend="aot_eager")(x))


def aot_graphs(model: nn.Module, x: Tensor) -> list[str]:
    from torch._functorch.aot_autograd import aot_function

    seen: list[str] = []

    def keep(module: Any, _: Any) -> Any:
        seen.append(graph(module))
        return module

    aot_function(functional(model), fw_compiler=keep, bw_compiler=keep)(
        x.clone().requires_grad_(), weights_of(model)
    ).sum().backward()
    return seen


def operators_seen(model: nn.Module, x: Tensor) -> list[str]:
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with Watch():
        model(x)
    return seen


def faked(model: nn.Module, x: Tensor) -> Any:
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        return numbers(model(mode.from_tensor(x)))


def jvp(model: nn.Module, x: Tensor) -> Any:
    return numbers(torch.func.jvp(lambda t: functional(model)(t, weights_of(model)), (x,), (x,)))


def traced(model: nn.Module, x: Tensor) -> list[str]:
    """Operators alone: names of values are those of variables around them, and parameters stand in the order of addresses."""
    return [node.kind() for node in torch.jit.trace(model, (x,)).inlined_graph.nodes()]


def scripted(model: nn.Module, x: Tensor) -> Any:
    if isinstance(model, Packed):
        return None
    return numbers(torch.jit.script(model)(x))


def in_python(model: nn.Module, x: Tensor) -> Any:
    """Resolved in Python, on tensors with numbers."""
    from torch._dispatch.python import enable_python_dispatcher

    with enable_python_dispatcher():
        return [numbers(model(x)), operators_seen(model, x)]


def in_inference_mode(operation: Callable[[nn.Module, Tensor], Any]) -> Callable[[nn.Module, Tensor], Any]:
    def run(model: nn.Module, x: Tensor) -> Any:
        with torch.inference_mode():
            return operation(model, x.clone())

    return run


def recording(mode: str, **options: Any) -> Callable[[nn.Module, Tensor], Any]:
    def run(model: nn.Module, x: Tensor) -> Any:
        recorded = make_fx(functional(model), tracing_mode=mode, **options)(x, weights_of(model))
        return graph(recorded)

    return run


def lowered_table(model: nn.Module, x: Tensor) -> Any:
    op = {Dense: torch.ops.aten.lstm.input, Packed: torch.ops.aten.lstm.data, Cell: torch.ops.aten.lstm_cell.default}
    mine = op[type(model)]
    tables = torch._decomp.global_decomposition_table["post_autograd"], torch._decomp.core_aten_decompositions()
    return [
        mine._can_decompose(),
        [mine in table for table in tables],
        sorted(str(key) for key in mine.py_kernels if key != torch._C.DispatchKey.BackendSelect),
        [
            torch._C._dispatch_has_kernel_for_dispatch_key(mine.name(), key)
            for key in ("CPU", "CompositeImplicitAutograd")
        ],
    ]


symbolic = recording("symbolic")
OPERATIONS: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "call": lambda model, x: numbers(model(x)),
    "call in inference mode": in_inference_mode(lambda model, x: numbers(model(x))),
    "gradients": lambda model, x: numbers(torch.autograd.grad(model(x).sum(), list(model.parameters()))),
    "export": lambda model, x: graph(export(model, (x,))),
    "export, sizes left open": lambda model, x: graph(
        export(model, (x,), dynamic_shapes=({x.dim() - 2: Dim("N", min=2)},))
    ),
    "export, lowered": lambda model, x: graph(export(model, (x,)).run_decompositions()),
    "export, lowered by an empty table": lambda model, x: graph(export(model, (x,)).run_decompositions({})),
    "export, lowered with the operator kept": lambda model, x: kept(export(model, (x,))),
    "export, lowered by another": lambda model, x: own_decomposition(export(model, (x,))),
    "export, lowered and run": lambda model, x: numbers(export(model, (x,)).run_decompositions().module()(x)),
    "onnx": onnx,
    "onnx of a trace": onnx_of_a_trace,
    "make_fx": recording("real"),
    "make_fx, fake": recording("fake"),
    "make_fx, symbolic": symbolic,
    "make_fx before dispatch": recording("real", pre_dispatch=True),
    "make_fx, symbolic, before dispatch": recording("symbolic", pre_dispatch=True),
    "make_fx with torch's table": recording(
        "fake", decomposition_table=torch._decomp.global_decomposition_table["post_autograd"]
    ),
    "make_fx in inference mode": in_inference_mode(recording("real")),
    "make_fx, symbolic, in inference mode": in_inference_mode(symbolic),
    "compile": compiled,
    "compile in inference mode": in_inference_mode(compiled),
    "aot": aot_graphs,
    "functionalize": lambda model, x: numbers(torch.func.functionalize(functional(model))(x, weights_of(model))),
    "make_fx of functionalize": lambda model, x: graph(
        make_fx(torch.func.functionalize(functional(model)))(x, weights_of(model))
    ),
    "fake": faked,
    "fake in inference mode": in_inference_mode(faked),
    "meta": lambda model, x: numbers(model.to("meta")(x.to("meta"))),
    "a mode": operators_seen,
    "a mode in inference mode": in_inference_mode(operators_seen),
    "python dispatch": in_python,
    "python dispatch in inference mode": in_inference_mode(in_python),
    "trace": traced,
    "script": scripted,
    "fx": lambda model, x: graph(torch.fx.symbolic_trace(model)),
    "grad": lambda model, x: numbers(torch.func.grad(lambda t: functional(model)(t, weights_of(model)).sum())(x)),
    "vmap": lambda model, x: numbers(
        torch.func.vmap(lambda t: functional(model)(t, weights_of(model)))(torch.stack([x, x]))
    ),
    "jvp": jvp,
    "autocast": lambda model, x: autocast(model, x),
    "tables": lowered_table,
}


def autocast(model: nn.Module, x: Tensor) -> Any:
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found = model(x)
    return [str(found.dtype), list(found.shape)]


def rows(said: str) -> dict[str, Any]:
    if said != "never":
        import fastlstm

        if said == "block":
            with fastlstm.enabled():
                pass
        else:
            fastlstm.enable()
        if said == "off":
            fastlstm.disable()
    found: dict[str, Any] = {}
    for name, (kind, shape) in MODELS.items():
        for operation, run in OPERATIONS.items():
            if name == "packed" and operation.startswith(("export", "onnx")):
                continue  # torch can't: sizes of data
            torch.manual_seed(0)
            model, x = kind().eval(), torch.randn(shape)
            try:
                found[f"{name}: {operation}"] = run(model, x)
            except Exception as error:
                found[f"{name}: {operation}"] = type(error).__name__
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch._logging.set_logs(all=50)
    print(json.dumps(rows(sys.argv[1])))
