"""What is timed: a call with the same parameters, input and cotangent for every engine."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from fastlstm.bench.points import Point, Work

Results = dict[str, torch.Tensor]  # name -> value, to compare before anything is timed
OURS = "fastlstm"


class Contender(NamedTuple):
    """One engine at one point.

    run: the call that is timed. results: what `run` returned, by name; two contenders must agree on a name they share.
    work: what the call has to do.
    """

    run: Callable[[], Any]
    results: Callable[[Any], Results]
    work: Work


class Inputs(NamedTuple):
    """What all contenders of a point get: torch's layer (nn.LSTM, nn.GRU) with its parameters, its input x (T, N, I) or
    packed, and the cotangent of output (T, N, D * out) or of its packed data.
    """

    point: Point
    layer: nn.RNNBase
    x: torch.Tensor | PackedSequence
    cotangent: torch.Tensor


Prepare = Callable[[Inputs, bool], Contender]  # the inputs, and whether to train
Steps = Callable[[Inputs], dict[str, Contender]]  # of a stream; by how it is called, as the end of a label


def draw_inputs(point: Point) -> Inputs:
    """The same numbers at every call."""
    dtype: torch.dtype = getattr(torch, point.dtype)
    torch.manual_seed(0)
    layer = make_layer(nn, point)
    x = torch.randn(point.T, point.N, point.I, dtype=dtype)
    rows = (point.rows,) if point.packed else (point.T, point.N)
    cotangent = torch.randn(*rows, point.D * point.out, dtype=dtype)
    return Inputs(point, layer, pack_padded_sequence(x, point.lengths) if point.packed else x, cotangent)


def make_layer(home: Any, point: Point) -> Any:
    """The layer of a point from `home`, torch.nn or fastlstm."""
    options: dict[str, Any] = {"num_layers": point.layers, "bidirectional": point.D == 2}
    if point.P:  # nn.GRU takes no proj_size, not even 0
        options["proj_size"] = point.P
    return getattr(home, point.cell)(point.I, point.H, **options, dtype=getattr(torch, point.dtype))


def final_states(point: Point) -> list[str]:
    """What the last states are called: h_n and c_n, or a GRU's h_n."""
    return [f"{state}_n" for state in point.kind.states]
