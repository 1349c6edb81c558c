"""`fastlstm info`: what is installed, and what a call on this machine runs on; with --plan, how the engine would do one."""

import os
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from fastlstm import _engine
from fastlstm.cli.cell import NAMES, cell_named
from fastlstm.cli.output import output, show
from fastlstm.cli.shapes import MOST, MOST_LAYERS
from fastlstm.torch_versions import refuse_older

DTYPES = ("float32", "float64", "bfloat16", "float16")
# The words of a plan, of native/src/plan/words.cpp, that say nothing to who hasn't read the engine.
WORDS = {
    "threads": "how many take part, of those allowed; us: microseconds that one thread would take for the call, by estimate",
    "products": "the instructions that multiply the matrices",
    "blocks": "stretches of the sequence; what one of them needs stays in the caches",
    "rows": "sequences of the batch; those of a block: sequences times steps",
    "hidden units": "a thread has some of the H features of the hidden state, for every sequence",
    "barrier": "a point where the threads wait for each other",
    "the input's products": "the part of the gates that x makes; ahead: for a whole block, before its first step",
    "panel": "the part of a matrix that is multiplied at once",
    "packed": "copied into the order in which they are read",
    "past the caches": "straight to memory, as nobody reads them soon",
    "matrix tiles": "the processor's own units for matrices (AMX)",
    "sums of": "the gradients of the weights are added up for each half alone, then once together",
    "computed again": "forward doesn't keep it: that would take more memory",
}


def size(name: str, help: str, most: int = MOST, least: int = 1) -> Any:  # typer's own type
    """An option that is a size of the call whose plan is asked for, under the engine's letter."""
    return typer.Option(f"--{name}", min=least, max=most, help=f"With --plan: {help}")


def info(
    plan: Annotated[bool, typer.Option("--plan", help="Show how the engine does a call of these sizes.")] = False,
    T: Annotated[int, size("T", "steps of a sequence.")] = 100,
    N: Annotated[int, size("N", "sequences in the batch.")] = 1,
    I: Annotated[int, size("I", "features of a step.")] = 128,
    H: Annotated[int, size("H", "hidden units.")] = 128,
    P: Annotated[int, size("P", "projected hidden state; 0 for none.", least=0)] = 0,
    layers: Annotated[int, size("layers", "layers stacked on each other.", MOST_LAYERS)] = 1,
    bidirectional: Annotated[bool, typer.Option("--bidirectional", help="With --plan: read both ways.")] = False,
    cell: Annotated[str, typer.Option(help=f"With --plan: {' or '.join(NAMES)}.")] = "lstm",
    dtype: Annotated[str, typer.Option(help=f"With --plan: {', '.join(DTYPES)}.")] = "float32",
    train: Annotated[bool, typer.Option("--train", help="With --plan: forward for backward, and backward.")] = False,
    threads: Annotated[int, size("threads", "threads at most.", 1024)] = os.cpu_count() or 1,
) -> None:
    """Show versions, instruction sets, threads and engine. The engine is the one that a CPU tensor goes to."""
    if not plan:
        show_table({**native(), **torch_face()})
        return
    if dtype not in DTYPES:
        raise typer.BadParameter(f"expected one of {', '.join(DTYPES)}, got {dtype}", param_hint="--dtype")
    kind = cell_named(cell)
    try:
        layer = _engine.Layer(I, H, P, layers, 2 if bidirectional else 1, cell=kind.name)
        decisions = layer.decisions(T, N, dtype, train, threads)
    except (ValueError, RuntimeError) as error:
        raise typer.BadParameter(str(error)) from error
    table = {"instruction set": _engine.isa(), **dict(decisions)}
    show_table(table)
    output().print()
    said = " ".join([*table, *table.values()])
    show_table({word: meaning for word, meaning in WORDS.items() if word in said})


def show_table(rows: dict[str, str]) -> None:
    """Names, and what is to be said of them."""
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(name, Text(value))  # a Text: in plain strings rich reads "[torch]" as markup
    show(output(), table)


def native() -> dict[str, str]:
    """What the native engine says of itself and of this processor."""
    from fastlstm import __version__

    forced = os.environ.get("FASTLSTM_ISA")
    return {
        "fastlstm": __version__,
        "instruction sets": ", ".join(_engine.isas()),
        "in use": _engine.isa() + (f" (FASTLSTM_ISA={forced})" if forced else ""),
    }


def torch_face() -> dict[str, str]:
    """What the layer runs on inside torch, or what to install where there is no torch."""
    if find_spec("torch") is None:
        return {"torch": 'not installed; for the layer: pip install ".[torch]" in the folder of fastlstm'}
    import torch

    try:
        refuse_older()
    except ImportError as error:
        return {"torch": str(error)}
    import fastlstm
    from fastlstm.torch import HAS_EXCHANGE_TABLE
    from fastlstm.torch.threads import share_torch_threads

    pool = "torch's own OpenMP threads" if share_torch_threads() else "a pool of the engine's own"
    lstm = fastlstm.LSTM(1, 1)
    with torch.inference_mode():
        engine = fastlstm.engine(lstm, torch.zeros(1, 1, 1))
    slower = (
        ""
        if HAS_EXCHANGE_TABLE
        else " (it has no DLPack exchange table: a call takes longer, the results are the same)"
    )
    return {
        "torch": torch.__version__ + slower,
        "threads": f"{torch.get_num_threads()} (torch.get_num_threads()), {pool}",
        "a CPU tensor goes to": str(engine),
    }
