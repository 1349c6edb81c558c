"""torch.jit.script: what the modules say in TorchScript, with torch's own operators, for programs without Python.

The scripted copy shares the parameters. What is compiled belongs to the modules themselves: another module in their place, as
nn.LSTM, torch.jit.script would put in the caller's model, too. torch reads its source: no type stands at `self`.
"""

# mypy: disable-error-code="no-untyped-def"

import inspect
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

PREPARED = ("__overloads__", "_in_order", "_of_tensor", "_of_packed")
"""What `prepare` gives a layer."""


def prepare(layer: Any) -> None:
    """Tells torch.jit.script what to compile in place of a layer's `forward`, for each type of its input; a subclass' own it
    compiles itself, or says why it can't. These are attributes of the layer: of a class that has such methods torch.jit.trace
    would compile them, too.
    """
    with_forward = next(names for names in (vars(layer), *map(vars, type(layer).__mro__)) if "forward" in names)
    functions = with_forward.get("_in_script", ())
    methods = {name: MethodType(function, layer) for name, function in zip(PREPARED[2:], functions, strict=False)}
    weights = torch.jit.Attribute([], list[Tensor])  # their type: they are read of the property
    vars(layer).update(__overloads__={"forward": [*methods]} if methods else {}, _in_order=weights, **methods)


def compiled_from(scripted: Any, forward: Any) -> Any:
    """A cell's forward, of which torch.jit.script compiles this, in the globals of the former: it reads the source of what a
    function says that it wraps.
    """
    forward.__signature__, forward.__wrapped__ = inspect.signature(forward), scripted
    return forward


@torch.jit.export
def lstm(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    if input.dim() != 2 and input.dim() != 3:
        raise ValueError(f"LSTM: Expected input to be 2D or 3D, got {input.dim()}D instead")
    batched, of_batch = input.dim() == 3, 0 if self.batch_first else 1
    x = input if batched else input.unsqueeze(of_batch)
    if hx is None:
        h = x.new_zeros(self.get_expected_hidden_size(x, None))
        c = x.new_zeros(self.get_expected_cell_size(x, None))
    else:
        h, c = hx
        if not batched:
            h, c = h.unsqueeze(1), c.unsqueeze(1)
    self.check_forward_args(x, (h, c), None)
    options = (self.bias, self.num_layers, self.dropout, self.training, self.bidirectional, self.batch_first)
    output, h_n, c_n = torch.lstm(x, [h, c], self._in_order, *options)
    if batched:
        return output, (h_n, c_n)
    return output.squeeze(of_batch), (h_n.squeeze(1), c_n.squeeze(1))


@torch.jit.export
def lstm_packed(
    self, input: PackedSequence, hx: tuple[Tensor, Tensor] | None = None
) -> tuple[PackedSequence, tuple[Tensor, Tensor]]:
    x, batch_sizes, sorted_indices, unsorted_indices = input
    if hx is None:
        h = x.new_zeros(self.get_expected_hidden_size(x, batch_sizes))
        c = x.new_zeros(self.get_expected_cell_size(x, batch_sizes))
    else:
        h, c = self.permute_hidden(hx, sorted_indices)
    self.check_forward_args(x, (h, c), batch_sizes)
    options = (self.bias, self.num_layers, self.dropout, self.training, self.bidirectional)
    output, h_n, c_n = torch.lstm(x, batch_sizes, [h, c], self._in_order, *options)
    packed = PackedSequence(output, batch_sizes, sorted_indices, unsorted_indices)
    return packed, self.permute_hidden((h_n, c_n), unsorted_indices)


@torch.jit.export
def gru(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
    if input.dim() != 2 and input.dim() != 3:
        raise ValueError(f"GRU: Expected input to be 2D or 3D, got {input.dim()}D instead")
    batched, of_batch = input.dim() == 3, 0 if self.batch_first else 1
    x = input if batched else input.unsqueeze(of_batch)
    if hx is None:
        hx = x.new_zeros(self.get_expected_hidden_size(x, None))
    elif not batched:
        hx = hx.unsqueeze(1)
    self.check_forward_args(x, hx, None)
    options = (self.bias, self.num_layers, self.dropout, self.training, self.bidirectional, self.batch_first)
    output, h_n = torch.gru(x, hx, self._in_order, *options)
    return (output, h_n) if batched else (output.squeeze(of_batch), h_n.squeeze(1))


@torch.jit.export
def gru_packed(self, input: PackedSequence, hx: Tensor | None = None) -> tuple[PackedSequence, Tensor]:
    x, batch_sizes, sorted_indices, unsorted_indices = input
    zeros = x.new_zeros(self.get_expected_hidden_size(x, batch_sizes))
    h = zeros if hx is None else self.permute_hidden(hx, sorted_indices)
    self.check_forward_args(x, h, batch_sizes)
    options = (self.bias, self.num_layers, self.dropout, self.training, self.bidirectional)
    output, h_n = torch.gru(x, batch_sizes, h, self._in_order, *options)
    return PackedSequence(output, batch_sizes, sorted_indices, unsorted_indices), self.permute_hidden(
        h_n, unsorted_indices
    )


def lstm_cell(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    if input.dim() != 1 and input.dim() != 2:
        raise ValueError(f"LSTMCell: Expected input to be 1D or 2D, got {input.dim()}D instead")
    batched = input.dim() == 2
    x = input if batched else input.unsqueeze(0)
    if hx is None:
        h = x.new_zeros([x.size(0), self.hidden_size])
        c = h
    else:
        h, c = hx
        if not batched:
            h, c = h.unsqueeze(0), c.unsqueeze(0)
    h, c = torch.lstm_cell(x, [h, c], self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
    return (h, c) if batched else (h.squeeze(0), c.squeeze(0))


def gru_cell(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
    if input.dim() != 1 and input.dim() != 2:
        raise ValueError(f"GRUCell: Expected input to be 1D or 2D, got {input.dim()}D instead")
    batched = input.dim() == 2
    x = input if batched else input.unsqueeze(0)
    if hx is None:
        hx = x.new_zeros([x.size(0), self.hidden_size])
    elif not batched:
        hx = hx.unsqueeze(0)
    h = torch.gru_cell(x, hx, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
    return h if batched else h.squeeze(0)
