"""`fastlstm.GRU` and `fastlstm.GRUCell`: the constructors, arguments, shapes and errors of nn.GRU and nn.GRUCell."""

from typing import TYPE_CHECKING, Any, overload

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fastlstm import cells
from fastlstm.torch.attributes import NO_PROJECTION
from fastlstm.torch.cell import StepModule
from fastlstm.torch.layer import Layer
from fastlstm.torch.parameters import forward_of
from fastlstm.torch.wrap import script
from fastlstm.traces import GRUTrace

if TYPE_CHECKING:
    from fastlstm.torch.arguments import Flags, Lengths


def _by_position(proj_size: int = 0, device: Any = None, dtype: Any = None) -> tuple[int, Any, Any]:
    """What nn.GRU takes after bidirectional: it hands its arguments on to nn.RNNBase, whatever the signature it shows says."""
    return proj_size, device, dtype


class GRU(Layer):
    """`torch.nn.GRU`, on the engine of `fastlstm.LSTM`.

    For each layer and direction, W its w_ih, R its w_hh:

        r = sigmoid(W_r x_t + b_ir + R_r h_{t-1} + b_hr),  z = sigmoid(W_z x_t + b_iz + R_z h_{t-1} + b_hz)
        n = tanh(W_n x_t + b_in + r * (R_n h_{t-1} + b_hn)),  h_t = (1 - z) * n + z * h_{t-1}

    Args: those of nn.GRU. input_size, hidden_size, num_layers; bias: without it there are no b_ih, b_hh; batch_first:
    input and output are (N, L, features); dropout: its probability between layers, in training; bidirectional; device,
    dtype of the parameters, by position after a proj_size of 0, as nn.GRU takes them. ValueError: any other proj_size.
    checkpoint_every: as that of `fastlstm.LSTM`.

    Shapes: L = length, N = batch, D = 2 if bidirectional else 1, H_in = input_size, H_out = hidden_size.

    - input: (L, N, H_in); (N, L, H_in) with batch_first; (L, H_in) unbatched; a PackedSequence; or a nested tensor of
      layout torch.jagged, (N, L of each row, H_in)
    - hx: h_0 (D*num_layers, N, H_out), (D*num_layers, H_out) unbatched; zeros by default
    - lengths, reset, mask: as those of `fastlstm.LSTM`; reset_to: h (L, N, D*num_layers, H_out), as there
    - output: (L, N, D*H_out); (N, L, D*H_out) with batch_first; (L, D*H_out) unbatched; a PackedSequence or a nested
      tensor where the input is one
    - h_n: as h_0: each row's state after its own last step (its first, for the reverse direction); h_0 of a row without
      a step

    Errors are nn.GRU's, as `fastlstm.LSTM` says; AttributeError where hx is no tensor. Source: `torch.nn.GRU`; Cho et al.
    2014.
    """

    _cell = cells.GRU
    if TYPE_CHECKING:  # nn.Module says `Callable[..., Any]` of both; of `__call__ = forward` pyright would believe that

        @overload
        def __call__(
            self,
            input: Tensor,
            hx: Tensor | None = None,
            lengths: Lengths | None = None,
            reset: Flags | None = None,
            mask: Flags | None = None,
            *,
            reset_to: Tensor | None = None,
        ) -> tuple[Tensor, Tensor]: ...
        @overload
        def __call__(self, input: PackedSequence, hx: Tensor | None = None) -> tuple[PackedSequence, Tensor]: ...
        def __call__(self, *arguments: Any, **named: Any) -> Any: ...

        @overload
        def forward(
            self,
            input: Tensor,
            hx: Tensor | None = None,
            lengths: Lengths | None = None,
            reset: Flags | None = None,
            mask: Flags | None = None,
            *,
            reset_to: Tensor | None = None,
        ) -> tuple[Tensor, Tensor]: ...
        @overload
        def forward(self, input: PackedSequence, hx: Tensor | None = None) -> tuple[PackedSequence, Tensor]: ...
        def forward(self, *arguments: Any, **named: Any) -> Any: ...
    else:
        forward = forward_of(Layer, "GRU")
        _in_script = (script.gru, script.gru_packed)
        check_forward_args, permute_hidden = nn.GRU.check_forward_args, nn.GRU.permute_hidden

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *more: Any,
        device: Any = None,
        dtype: Any = None,
        checkpoint_every: int | None = None,
        **other: Any,
    ) -> None:
        super().__init__()
        if "proj_size" in other:
            raise ValueError(NO_PROJECTION)
        if other:
            raise TypeError(f"GRU got an unexpected keyword argument {next(iter(other))!r}")
        given = {name: value for name, value in (("device", device), ("dtype", dtype)) if value is not None}
        proj_size, device, dtype = _by_position(*more, **given)
        self._construct(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
            checkpoint_every,
        )

    @overload
    def trace(
        self,
        input: Tensor,
        hx: Tensor | None = None,
        lengths: "Lengths | None" = None,
        reset: "Flags | None" = None,
        mask: "Flags | None" = None,
        *,
        reset_to: Tensor | None = None,
    ) -> GRUTrace: ...
    @overload
    def trace(self, input: PackedSequence, hx: Tensor | None = None) -> GRUTrace: ...
    def trace(
        self,
        input: Any,
        hx: Any = None,
        lengths: Any = None,
        reset: Any = None,
        mask: Any = None,
        *,
        reset_to: Any = None,
    ) -> GRUTrace:
        """The call, with every layer's hidden states and gates at every step, all of them differentiable.

        Arguments, numbers and errors are those of `forward` (under CPU autocast: in float32). `trace.layers[layer][direction]`
        has h, r, z, n, each like output: (L, N, H_out). RuntimeError under torch.jit.trace.
        """
        return GRUTrace(*self._trace(input, hx, lengths, reset, mask, reset_to))


class GRUCell(StepModule):
    """`torch.nn.GRUCell`, on the engine of `fastlstm.LSTM`: one step.

    Args: those of nn.GRUCell. input_size, hidden_size; bias: without it bias_ih and bias_hh are None; device, dtype of
    the parameters.

    Shapes: N = batch, H_in = input_size, H_out = hidden_size.

    - input: (N, H_in) or (H_in)
    - hx: h, (N, H_out) or (H_out); zeros by default
    - returns h of the same shape

    Errors are nn.GRUCell's: ValueError for a wrong number of dimensions, RuntimeError for any other shape, dtype or
    device, each saying the shape it expected. Source: `torch.nn.GRUCell`.
    """

    _cell = cells.GRU
    if TYPE_CHECKING:  # nn.Module says `Callable[..., Any]` of both; of `__call__ = forward` pyright would believe that

        def __call__(self, input: Tensor, hx: Tensor | None = None) -> Tensor: ...

        def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor: ...
    else:
        forward = script.compiled_from(script.gru_cell, forward_of(StepModule, "GRUCell"))
