"""What a call should give where nn.LSTM has no such call: lengths, resets, nested tensors, traces."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from tests.fuzz.case import Case
from tests.torch.row_by_row import READINGS


class Unfit(Exception):
    """The arguments that nn.LSTM has not got are wrong: an error is expected, of a type that the layer documents."""


class TraceWrong(Exception):
    """The steps of a trace don't belong to its results."""


def by_reference(case: Case, layer: Any, x: Any, hx: Any = None, lengths: Any = None, reset: Any = None) -> Any:
    """The result, or the error, of a call with lengths or reset, or of one on a nested tensor."""
    if case.form == "nested":
        return _nested(layer, x, hx)
    time = 1 if layer.batch_first and x.dim() == 3 else 0
    no_steps = lengths is not None and x.shape[time] == 0
    # What nn.LSTM has against the rest of the call.
    layer(x.new_zeros((*x.shape[:time], 1, *x.shape[time + 1 :])) if no_steps else x, hx)
    if case.unfit:
        raise Unfit
    if case.N == 0:
        return _empty(layer, x, hx, no_steps)
    layer.__class__ = READINGS[case.layer]  # the parameters stay, for their gradients
    return layer(x, hx, None if lengths is None else torch.as_tensor(lengths).tolist(), reset)


def _empty(layer: Any, x: Tensor, hx: Any, no_steps: bool) -> Any:
    if not no_steps:
        return layer(x, hx)
    D, out, H = _sizes(layer)
    cells = D * layer.num_layers
    states = hx or (x.new_zeros((cells, 0, out)), x.new_zeros((cells, 0, H)))
    return x.new_zeros((*x.shape[:2], D * out)), tuple(states)


def _sizes(layer: Any) -> tuple[int, int, int]:
    """Directions, features of h and of c: the layer's own, which hidden_size=True makes others than the case's."""
    H = int(layer.hidden_size)
    return 2 if layer.bidirectional else 1, layer.proj_size or H, H


def _nested(layer: Any, x: Any, hx: Any) -> Any:
    if x.dim() != 3:
        raise Unfit
    values, offsets = x.values(), x.offsets().tolist()
    N = len(offsets) - 1
    padded = values.new_zeros((1, N, values.shape[-1]))
    layer(padded.transpose(0, 1) if layer.batch_first else padded, hx)
    D, out, H = _sizes(layer)
    cells, width = D * layer.num_layers, D * out
    if hx is None:
        hx = values.new_zeros(cells, N, out), values.new_zeros(cells, N, H)
    outputs, lasts = [values.new_zeros(0, width)], []
    for n in range(N):
        row, state = values[offsets[n] : offsets[n + 1]], (hx[0][:, n], hx[1][:, n])
        output, last = layer(row, state) if len(row) else (row.new_zeros(0, width), state)
        outputs.append(output)
        lasts.append(last)
    outputs.append(values.new_zeros(len(values) - offsets[-1], width))  # values that no row has
    h_n, c_n = (torch.stack([last[k] for last in lasts], 1) if N else hx[k] for k in (0, 1))
    return torch.nested.nested_tensor_from_jagged(torch.cat(outputs), x.offsets()), (h_n, c_n)


def finish(case: Case, variables: dict[str, Any], theirs: bool) -> None:
    """A trace becomes output, (h_n, c_n), after its steps were held against its results."""
    if not case.trace or case.way == "enable":
        return
    if theirs:
        _ = variables["layer"].batch_first  # which a trace repeats
        return
    made = variables["result"]
    variables["result"] = (made.output, (made.h_n, made.c_n))
    output = _data(made.output)
    if output.device.type != "cpu":
        return
    hidden = torch.cat([_data(steps.h) for steps in made.layers[-1]], -1)
    if not torch.equal(hidden.detach().nan_to_num(), output.detach().nan_to_num()):
        raise TraceWrong("the last layer's h is not output")
    for steps in (steps for layer in made.layers for steps in layer):
        h, c, i, f, g, o = (_data(t).detach() for t in steps)
        if not case.P:
            off = (h - o * c.tanh()).abs().nan_to_num()
            if off.numel() and float(off.max()) > {torch.bfloat16: 2**-6, torch.float16: 2**-9}.get(h.dtype, 1e-5):
                raise TraceWrong(f"h is not o * tanh(c), by {float(off.max())}")
        if not (i.shape == f.shape == g.shape == o.shape == c.shape):
            raise TraceWrong("gates of several shapes")


def _data(t: Any) -> Tensor:
    if isinstance(t, PackedSequence):
        return t.data
    return t.values() if t.is_nested else t
