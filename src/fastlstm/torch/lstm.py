"""`fastlstm.LSTM`: nn.LSTM's constructor, arguments, shapes and errors."""

from typing import TYPE_CHECKING, Any, overload

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fastlstm import cells
from fastlstm.torch.layer import Layer
from fastlstm.torch.parameters import forward_of
from fastlstm.torch.wrap import script
from fastlstm.traces import Trace

if TYPE_CHECKING:
    from fastlstm.torch.arguments import Flags, Lengths


class LSTM(Layer):
    """`torch.nn.LSTM`, on an engine of its own.

    For each layer and direction, W its w_ih, R its w_hh, b the sum of its b_ih and b_hh:

        i, f, o = sigmoid(W_i x_t + R_i h_{t-1} + b_i),  g = tanh(W_g x_t + R_g h_{t-1} + b_g)
        c_t = f * c_{t-1} + i * g,    h_t = o * tanh(c_t)    (then h_t = W_hr h_t with proj_size > 0)

    Args: those of nn.LSTM. input_size, hidden_size, num_layers; bias: without it there are no b_ih, b_hh; batch_first:
    input and output are (N, L, features); dropout: its probability between layers, in training; bidirectional;
    proj_size: 0, or how many features h is projected to; device, dtype of the parameters.
    checkpoint_every: for long sequences in little memory: of so many steps (rounded up to whole blocks of the engine, of 256
    rows or a step each) the last states are kept for backward, in place of the gates and cells of all steps, which it computes
    again, in 1.3 to 1.4 times the time. No bit of a result or gradient changes. Calls of up to so many steps, on a GPU, and
    those that are recorded (torch.compile, export, torch.func, hooks on saved tensors) keep everything. TypeError,
    ValueError: it is no whole number from 1 on.

    Shapes: L = length, N = batch, D = 2 if bidirectional else 1, H_in = input_size, H_cell = hidden_size, H_out =
    proj_size or H_cell.

    - input: (L, N, H_in); (N, L, H_in) with batch_first; (L, H_in) unbatched; a PackedSequence; or a nested tensor of
      layout torch.jagged, (N, L of each row, H_in)
    - h_0: (D*num_layers, N, H_out), c_0: (D*num_layers, N, H_cell); (D*num_layers, ...) unbatched; zeros by default
    - lengths: (N) integers from 0 to L, in a tensor of any dtype and device or a list, in any order. Row n is its first
      lengths[n] steps: what follows is never read, its output is 0, and the reverse direction starts at its own last step
    - reset: bool (L, N); (N, L) with batch_first; (L) unbatched. True at t: a new segment starts at t. The state before it
      is zeros in every layer, h_0 and c_0 too where t is 0; neither values nor gradients cross, in either direction
    - reset_to: (h, c) of (L, N, D*num_layers, H_out) and (L, N, D*num_layers, H_cell); (N, L, ...) with batch_first; (L, ...)
      unbatched. The state before each step: where reset is True the segment starts from it in place of zeros, and it has
      gradients; read nowhere else. Not of a bidirectional layer
    - mask: bool, shaped as reset. Says lengths otherwise: True for a row's own steps, then False
    - output: (L, N, D*H_out); (N, L, D*H_out) with batch_first; (L, D*H_out) unbatched; a PackedSequence or a nested
      tensor where the input is one
    - h_n, c_n: as h_0, c_0: each row's state after its own last step (its first, for the reverse direction); h_0, c_0 of
      a row without a step

    Errors are nn.LSTM's: ValueError and TypeError from the constructor; from a call ValueError (dimensions or dtype of
    the input) and RuntimeError (every other shape, dtype or device), each saying the shape it expected. lengths, reset and
    mask: TypeError (dtype), ValueError (shape, a length that is not from 0 to L, True after False). reset_to: TypeError (not a
    pair of tensors), ValueError (shape, no reset, a bidirectional layer), RuntimeError (dtype, device). Source:
    `torch.nn.LSTM`; Hochreiter and Schmidhuber 1997; Sak et al. 2014 for the projection.
    """

    _cell = cells.LSTM
    if TYPE_CHECKING:  # nn.Module says `Callable[..., Any]` of both; of `__call__ = forward` pyright would believe that

        @overload
        def __call__(
            self,
            input: Tensor,
            hx: tuple[Tensor, Tensor] | None = None,
            lengths: Lengths | None = None,
            reset: Flags | None = None,
            mask: Flags | None = None,
            *,
            reset_to: tuple[Tensor, Tensor] | None = None,
        ) -> tuple[Tensor, tuple[Tensor, Tensor]]: ...
        @overload
        def __call__(
            self, input: PackedSequence, hx: tuple[Tensor, Tensor] | None = None
        ) -> tuple[PackedSequence, tuple[Tensor, Tensor]]: ...
        def __call__(self, *arguments: Any, **named: Any) -> Any: ...

        @overload
        def forward(
            self,
            input: Tensor,
            hx: tuple[Tensor, Tensor] | None = None,
            lengths: Lengths | None = None,
            reset: Flags | None = None,
            mask: Flags | None = None,
            *,
            reset_to: tuple[Tensor, Tensor] | None = None,
        ) -> tuple[Tensor, tuple[Tensor, Tensor]]: ...
        @overload
        def forward(
            self, input: PackedSequence, hx: tuple[Tensor, Tensor] | None = None
        ) -> tuple[PackedSequence, tuple[Tensor, Tensor]]: ...
        def forward(self, *arguments: Any, **named: Any) -> Any: ...
    else:
        forward = forward_of(Layer, "LSTM")
        _in_script = (script.lstm, script.lstm_packed)
        check_forward_args, permute_hidden = nn.LSTM.check_forward_args, nn.LSTM.permute_hidden
        get_expected_cell_size = nn.LSTM.get_expected_cell_size

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        checkpoint_every: int | None = None,
    ) -> None:
        super().__init__()
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
        hx: tuple[Tensor, Tensor] | None = None,
        lengths: "Lengths | None" = None,
        reset: "Flags | None" = None,
        mask: "Flags | None" = None,
        *,
        reset_to: tuple[Tensor, Tensor] | None = None,
    ) -> Trace: ...
    @overload
    def trace(self, input: PackedSequence, hx: tuple[Tensor, Tensor] | None = None) -> Trace: ...
    def trace(
        self,
        input: Any,
        hx: Any = None,
        lengths: Any = None,
        reset: Any = None,
        mask: Any = None,
        *,
        reset_to: Any = None,
    ) -> Trace:
        """The call, with every layer's hidden states, cell states and gates at every step, all of them differentiable.

        Arguments, numbers and errors are those of `forward` (under CPU autocast: in float32). `trace.layers[layer][direction]`
        has h, c, i, f, g, o, each like output: (L, N, H_out or H_cell). RuntimeError under torch.jit.trace.
        """
        return Trace(*self._trace(input, hx, lengths, reset, mask, reset_to))
