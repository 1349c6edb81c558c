"""`fastlstm check`: this machine's engine against `nn.LSTM` or `nn.GRU`, over random configurations.

The yardstick is torch's layer in float64 with the same parameters, inputs and dropout masks. A float32 value may be 2e-6
away from it (absolute), a gradient 1e-5 (norm of the difference over the norm); float64 may be 1e-12 away in both. How
far torch's layer itself is away in the same dtype stands beside it.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.progress import track
from rich.table import Table

from fastlstm.cli.cell import CELL, cell_named
from fastlstm.cli.needs import needs
from fastlstm.cli.output import output, progress, show

if TYPE_CHECKING:
    import torch
    from torch import nn

VALUES = ("output", "h_n", "c_n")
GRADIENTS = ("input", "h_0", "c_0", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
RESULTS = (*VALUES, *(f"{name}.grad" for name in GRADIENTS))  # in the order of the table
TOLERANCE = {  # dtype -> (absolute on values, relative on gradients)
    "float32": (2e-6, 1e-5),
    "float64": (1e-12, 1e-12),
}
# A gradient of one or two elements may cancel to almost nothing (nn.LSTM's own relative error was 7e-6 once in 6,000).
# With cotangents of order 1 an element of order 0.1 is usual, so a norm below this much an element counts as this much.
SMALLEST_ELEMENT = 0.05


class Configuration(NamedTuple):
    """One call: the layer's arguments, the sizes of the input, and how it is given."""

    arguments: dict[str, Any]
    T: int
    N: int
    lengths: list[int] | None
    hx: bool
    dtype: str
    seed: int
    cell: str

    def __str__(self) -> str:
        options = [f"{name}={value}" for name, value in self.arguments.items() if value]
        packed = ["packed"] if self.lengths else []
        return " ".join([*options, f"T={self.T}", f"N={self.N}", *packed, *(["hx"] if self.hx else []), self.dtype])


class Worst(NamedTuple):
    """The largest error seen under one name, where, and how far nn.LSTM itself was in its own worst case."""

    error: float
    where: str
    nn_error: float


def configurations(count: int, seed: int, cell: str = "LSTM") -> Iterator[Configuration]:
    """`count` random calls, the same for the same seed; sizes are odd, even and around the widths of vectors."""
    pick = random.Random(seed)
    for k in range(count):
        H = pick.choice([1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 97])
        T, N = pick.choice([1, 2, 3, 5, 8, 17, 40]), pick.choice([1, 2, 3, 4, 5, 6, 7, 13])
        layers = pick.choice([1, 1, 2, 3])
        arguments = {
            "input_size": pick.choice([1, 2, 3, 7, 8, 9, 16, 27, 33, 64]),
            "hidden_size": H,
            "num_layers": layers,
            "bias": pick.random() < 0.8,
            "batch_first": pick.random() < 0.5,
            "dropout": pick.choice([0.0, 0.3]) if layers > 1 else 0.0,
            "bidirectional": pick.random() < 0.4,
            "proj_size": pick.randint(1, H - 1) if H > 1 and pick.random() < 0.3 else 0,
        }
        if cell != "LSTM":
            del arguments["proj_size"]
        lengths = [pick.randint(1, T) for _ in range(N)] if pick.random() < 0.3 else None
        yield Configuration(
            arguments, T, N, lengths, pick.random() < 0.5, "float64" if k % 4 == 3 else "float32", k, cell
        )


def measure(configuration: Configuration) -> dict[str, tuple[float, float]]:
    """The error of every value and gradient, by name: (fastlstm's, torch's own) against torch's layer in float64.

    Parameters of all layers and directions are gathered under one name ("weight_ih").
    """
    import torch
    from torch import nn

    import fastlstm

    theirs_kind, ours_kind = getattr(nn, configuration.cell), getattr(fastlstm, configuration.cell)
    torch.manual_seed(configuration.seed)
    truth = theirs_kind(**configuration.arguments, dtype=torch.float64)
    dtype: torch.dtype = getattr(torch, configuration.dtype)
    truth.load_state_dict({name: p.to(dtype).double() for name, p in truth.state_dict().items()})
    results = []
    for kind, kind_dtype in ((theirs_kind, torch.float64), (ours_kind, dtype), (theirs_kind, dtype)):
        module = kind(**configuration.arguments, dtype=kind_dtype)
        module.load_state_dict(truth.state_dict())
        with nn_lstm_alone() if kind is theirs_kind else nullcontext():
            results.append(_run(module, configuration, dtype))
    expected, ours, theirs = results
    return {name: (error_of(name, ours[name], e), error_of(name, theirs[name], e)) for name, e in expected.items()}


@contextmanager
def nn_lstm_alone() -> Iterator[None]:
    """One thread, 20 times as fast at these sizes on a busy machine, and no warning that a projection is slow."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN")
            yield
    finally:
        torch.set_num_threads(threads)


def error_of(name: str, actual: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Absolute for a value, relative (norms) for a gradient; not a number is infinitely wrong.

    A gradient that is exactly zero (of w_hh after one step from zeros, say) must come out exactly zero.
    """
    import torch

    e = torch.cat([tensor.flatten() for tensor in expected])
    difference = torch.cat([tensor.double().flatten() for tensor in actual]) - e
    if name in VALUES:
        error = float(difference.abs().max())
    elif not e.any():
        error = math.inf if difference.any() else 0.0
    else:
        error = float(difference.norm() / max(e.norm(), SMALLEST_ELEMENT * e.numel() ** 0.5))
    return math.inf if math.isnan(error) else error


def _run(module: nn.Module, configuration: Configuration, dtype: torch.dtype) -> dict[str, list[torch.Tensor]]:
    """Forward and backward with random inputs and cotangents, drawn in float64 and rounded to `dtype`."""
    import torch
    from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

    arguments, T, N = configuration.arguments, configuration.T, configuration.N
    H_cell = arguments["hidden_size"]
    H_out, D = arguments.get("proj_size") or H_cell, 2 if arguments["bidirectional"] else 1
    states = D * arguments["num_layers"]
    draw = torch.Generator().manual_seed(configuration.seed)
    own = next(module.parameters()).dtype

    def random_tensor(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype).to(own)

    leaves = {"input": random_tensor(*((N, T) if arguments["batch_first"] else (T, N)), arguments["input_size"])}
    if configuration.hx:
        leaves["h_0"] = random_tensor(states, N, H_out)
        if configuration.cell == "LSTM":
            leaves["c_0"] = random_tensor(states, N, H_cell)
    for leaf in leaves.values():
        leaf.requires_grad_()
    x: torch.Tensor | PackedSequence = leaves["input"]
    if configuration.lengths:
        x = pack_padded_sequence(
            leaves["input"],
            torch.tensor(configuration.lengths),
            batch_first=arguments["batch_first"],
            enforce_sorted=False,
        )
    torch.manual_seed(configuration.seed)  # dropout draws the same masks in every dtype
    hx = None
    if configuration.hx:
        hx = (leaves["h_0"], leaves["c_0"]) if "c_0" in leaves else leaves["h_0"]
    output, last = module(x, hx)
    values = [
        output.data if isinstance(output, PackedSequence) else output,
        *(last if isinstance(last, tuple) else [last]),
    ]
    torch.autograd.backward(values, [random_tensor(*value.shape) for value in values])

    results = {name: [value.detach()] for name, value in zip(VALUES, values, strict=False)}
    results |= {f"{name}.grad": [_gradient(name, leaf)] for name, leaf in leaves.items()}
    for name, parameter in module.named_parameters():
        results.setdefault(f"{name.split('_l')[0]}.grad", []).append(_gradient(name, parameter))
    return results


def _gradient(name: str, leaf: torch.Tensor) -> torch.Tensor:
    if leaf.grad is None:
        raise RuntimeError(f"{name} got no gradient")
    return leaf.grad


def engine_in_use() -> str:
    """What computes fastlstm's side: the engine that a CPU tensor goes to, and its instruction set."""
    import torch

    import fastlstm
    from fastlstm import _engine

    return f"{fastlstm.engine(fastlstm.LSTM(1, 1), torch.zeros(1, 1, 1)).name} engine ({_engine.isa()})"


def tolerance(name: str, dtype: str) -> float:
    """How far the named result may be from nn.LSTM in float64."""
    values, gradients = TOLERANCE[dtype]
    return values if name in VALUES else gradients


def check(
    count: Annotated[int, typer.Option(min=1, max=10**9, help="How many random configurations.")] = 300,
    seed: Annotated[int, typer.Option(help="Which ones.")] = 0,
    cell: Annotated[str, CELL] = "lstm",
) -> None:
    """Compare this machine's engine with nn.LSTM, or nn.GRU. Exit with status 1 if any result is over its tolerance."""
    needs("torch")
    kind = cell_named(cell).name
    worst: dict[tuple[str, str], Worst] = {}
    console = output()
    console.print(f"{count} configurations, {engine_in_use()}, against nn.{kind} in float64", highlight=False)
    drawn = configurations(count, seed, kind)
    for configuration in track(drawn, f"Comparing with nn.{kind}", total=count, console=progress()):
        for name, (error, nn_error) in measure(configuration).items():
            key = (configuration.dtype, name)
            before = worst.get(key, Worst(-1.0, "", -1.0))
            first = (error, str(configuration)) if error > before.error else (before.error, before.where)
            worst[key] = Worst(*first, max(nn_error, before.nn_error))
    over = {key: entry for key, entry in worst.items() if entry.error > tolerance(key[1], key[0])}

    table = Table("dtype", "result", "worst error", "tolerance", f"nn.{kind}'s own", "")
    for (dtype, name), entry in sorted(worst.items(), key=lambda item: (item[0][0], RESULTS.index(item[0][1]))):
        verdict = "[red]OVER[/red]" if (dtype, name) in over else "ok"
        limit = f"{tolerance(name, dtype):.0e}"
        own = "-" if dtype == "float64" else f"{entry.nn_error:.1e}"  # there it is compared with itself
        table.add_row(dtype, name, f"{entry.error:.1e}", limit, own, verdict)
    console.print("values: largest absolute error; gradients: norm of the error over the norm", highlight=False)
    show(console, table)
    for (dtype, name), entry in over.items():
        console.print(f"[red]over[/red]: {dtype} {name}: {entry.error:.1e} at {entry.where}", highlight=False)
    raise typer.Exit(1 if over else 0)
