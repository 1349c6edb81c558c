"""What a call should give where nn.LSTM has no such call: lengths, resets, nested tensors, traces."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from tests.conftest import like, states_of
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
    states = _zeros(layer, x, 0) if hx is None else hx
    return x.new_zeros((*x.shape[:2], _width(layer))), like(states, states_of(states))


def _zeros(layer: Any, x: Tensor, N: int) -> Any:
    """The states, of the layer's own sizes, which hidden_size=True makes others than the case's."""
    H, chains = int(layer.hidden_size), layer.num_layers * (2 if layer.bidirectional else 1)
    h_0 = x.new_zeros(chains, N, layer.proj_size or H)
    return (h_0, x.new_zeros(chains, N, H)) if isinstance(layer, nn.LSTM) else h_0


def _width(layer: Any) -> int:
    return (layer.proj_size or int(layer.hidden_size)) * (2 if layer.bidirectional else 1)


def _nested(layer: Any, x: Any, hx: Any) -> Any:
    if x.dim() != 3:
        raise Unfit
    values, offsets = x.values(), x.offsets().tolist()
    N = len(offsets) - 1
    padded = values.new_zeros((1, N, values.shape[-1]))
    layer(padded.transpose(0, 1) if layer.batch_first else padded, hx)
    width = _width(layer)
    if hx is None:
        hx = _zeros(layer, values, N)
    outputs, lasts = [values.new_zeros(0, width)], []
    for n in range(N):
        row, state = values[offsets[n] : offsets[n + 1]], like(hx, [t[:, n] for t in states_of(hx)])
        output, last = layer(row, state) if len(row) else (row.new_zeros(0, width), state)
        outputs.append(output)
        lasts.append(states_of(last))
    outputs.append(values.new_zeros(len(values) - offsets[-1], width))  # values that no row has
    last = [torch.stack([states[k] for states in lasts], 1) if N else t for k, t in enumerate(states_of(hx))]
    return torch.nested.nested_tensor_from_jagged(torch.cat(outputs), x.offsets()), like(hx, last)


def finish(case: Case, variables: dict[str, Any], theirs: bool) -> None:
    """A trace becomes what forward returns, after its steps were held against its results."""
    if not case.trace or case.way == "enable":
        return
    if theirs:
        _ = variables["layer"].batch_first  # which a trace repeats
        return
    made = variables["result"]
    variables["result"] = (made.output, made.h_n if case.is_gru else (made.h_n, made.c_n))
    output = _data(made.output)
    if output.device.type != "cpu":
        return
    hidden = torch.cat([_data(steps.h) for steps in made.layers[-1]], -1)
    if not torch.equal(hidden.detach().nan_to_num(), output.detach().nan_to_num()):
        raise TraceWrong("the last layer's h is not output")
    for layer in made.layers:
        for direction, steps in enumerate(layer):
            _hold_to_equations(case, [_data(t).detach() for t in steps], bool(made.batch_first), bool(direction))


def _hold_to_equations(case: Case, steps: list[Tensor], batch_first: bool, reverse: bool) -> None:
    """h and the gates of one layer and direction."""
    h, *others = steps
    if len({t.shape for t in others}) > 1:
        raise TraceWrong("gates of several shapes")
    if case.is_gru:
        if h.is_complex() or case.form != "dense":
            return
        if any((t.nan_to_num().abs() > 1).any() for t in others):
            raise TraceWrong("gates above 1")
        h, _r, z, n = (t.movedim(1, 0) if batch_first and t.dim() == 3 else t for t in steps)
        h, z, n = (t.flip(0) if reverse else t for t in (h, z, n))
        h, expected, words = h[1:], (1 - z[1:]) * n[1:] + z[1:] * h[:-1], "(1 - z) * n + z * h_before"
    elif not case.P:
        c, _i, _f, _g, o = others
        expected, words = o * c.tanh(), "o * tanh(c)"
    else:
        return
    off = ((h - expected).abs() / h.abs().clamp(min=1)).nan_to_num()
    if off.numel() and float(off.max()) > {torch.bfloat16: 2**-6, torch.float16: 2**-9}.get(h.dtype, 1e-5):
        raise TraceWrong(f"h is not {words}, by {float(off.max())}")


def _data(t: Any) -> Tensor:
    if isinstance(t, PackedSequence):
        return t.data
    return t.values() if t.is_nested else t
