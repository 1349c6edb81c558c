"""What `trace` returns, a pair of tuples a cell: the results of a call, and what every layer computed at every step.

Arrays are of the caller's kind. Shapes: L = length, N = batch, H_out = proj_size or hidden_size, H_cell = hidden_size; those of
`output` in its layout, but for the features. Where the call's input is packed or nested, so are they; 0 past the end of a row.
"""

from typing import Any, NamedTuple


class Steps(NamedTuple):
    """An LSTM's, one layer in one direction at every step.

    h: (L, N, H_out), hidden states, before dropout; c: (L, N, H_cell), cell states; i, f, g, o: (L, N, H_cell), the gates
    after their activations.
    """

    h: Any
    c: Any
    i: Any
    f: Any
    g: Any
    o: Any


class GRUSteps(NamedTuple):
    """A GRU's, one layer in one direction at every step, all (L, N, H_out).

    h: hidden states, before dropout; r, z, n: the gates after their activations.
    """

    h: Any
    r: Any
    z: Any
    n: Any


class Trace(NamedTuple):
    """What `LSTM.trace` returns: the results of the call, and `layers[layer][direction]`.

    batch_first: then output and all steps are (N, L, features). lengths: (N) of int64, those the call was given, or None.
    """

    output: Any
    h_n: Any
    c_n: Any
    layers: tuple[tuple[Steps, ...], ...]
    batch_first: bool
    lengths: Any


class GRUTrace(NamedTuple):
    """What `GRU.trace` returns, as `Trace`."""

    output: Any
    h_n: Any
    layers: tuple[tuple[GRUSteps, ...], ...]
    batch_first: bool
    lengths: Any


STEPS: dict[str, type[Any]] = {"LSTM": Steps, "GRU": GRUSteps}
TRACES: dict[str, type[Any]] = {"LSTM": Trace, "GRU": GRUTrace}
