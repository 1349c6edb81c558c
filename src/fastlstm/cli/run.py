"""`fastlstm run`: a trained layer over a NumPy file, in bounded memory. Needs no torch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import track

from fastlstm.cli.needs import needs_file
from fastlstm.cli.output import output, progress

CHUNK = 4096  # rows of a call: some megabytes of output


def run(
    file: Annotated[Path, typer.Argument(help="Weights: of fastlstm.save, or any safetensors with torch's names.")],
    input_file: Annotated[Path, typer.Argument(metavar="INPUT.npy", help="(L, N, H_in), or (L, H_in).")],
    output_file: Annotated[Path, typer.Argument(metavar="OUTPUT.npy", help="Written: the layer's output.")],
    prefix: Annotated[str, typer.Option(help="Of the layer's parameters in the file of a whole model.")] = "",
    batch_first: Annotated[bool, typer.Option("--batch-first", help="INPUT and OUTPUT are (N, L, ...).")] = False,
) -> None:
    """Run a trained layer over INPUT.npy. A long one is read and written piece by piece, but for a bidirectional layer."""
    import numpy as np

    from fastlstm.numpy import GRU, LSTM, load

    try:
        layer = load(file, prefix)
        x = np.load(input_file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise typer.BadParameter(str(error)) from None
    if not isinstance(layer, LSTM | GRU):
        raise typer.BadParameter(f"{str(file)!r} has a {type(layer).__name__}, which is one step")
    needs_file(output_file, "OUTPUT.npy")
    if output_file.exists() and output_file.samefile(input_file):
        raise typer.BadParameter("OUTPUT.npy is INPUT.npy")
    layer.batch_first = batch_first or layer.batch_first
    if not isinstance(x, np.ndarray):
        raise typer.BadParameter(f"{str(input_file)!r} holds several arrays")
    if x.ndim not in (2, 3) or x.shape[-1] != layer.sizes.I or x.dtype != layer.dtype:
        raise typer.BadParameter(
            f"{str(input_file)!r}: expected {layer.dtype} of shape (L, N, H_in) or (L, H_in), H_in = {layer.sizes.I}, "
            f"got {x.dtype} of shape {x.shape}"
        )
    shape = (*x.shape[:-1], layer.sizes.D * layer.sizes.out)
    y = np.lib.format.open_memmap(output_file, mode="w+", dtype=layer.dtype, shape=shape)
    hx: Any = None
    spans = list(spans_of(x, layer))
    for span in track(spans, description=type(layer).__name__, console=progress(), disable=len(spans) < 2):
        y[span], hx = layer(x[span], hx)
    y.flush()
    output().print(f"{output_file}: {layer.dtype} {shape}", highlight=False)


def spans_of(x: Any, layer: Any) -> Iterator[tuple[slice, ...]]:
    """Stretches of time, the last of which is of several steps: a call of one adds up in an order of its own."""
    axis = 1 if layer.batch_first and x.ndim == 3 else 0
    T = x.shape[axis]
    rows = x.shape[1 - axis] if x.ndim == 3 else 1
    steps = T if layer.sizes.D == 2 else max(2, CHUNK // max(1, rows))
    start = 0
    while start < T:
        end = T if T - start < steps + 2 else start + steps
        yield (*[slice(None)] * axis, slice(start, end))
        start = end
