"""`fastlstm.LSTM`: nn.LSTM's constructor, arguments, shapes and errors."""

import numbers
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from fastlstm import _engine
from fastlstm.torch import arguments, wrap
from fastlstm.torch.attributes import dropout_of, lstm_sizes, refuse_no_int
from fastlstm.torch.context import is_plain, saving_hooks, tracing_state
from fastlstm.torch.graph import function
from fastlstm.torch.graph.trace import Trace, trace
from fastlstm.torch.parameters import UNKNOWN, Recurrent
from fastlstm.torch.runners import native
from fastlstm.torch.runners.composite.lstm import Steps
from fastlstm.torch.wrap import fx, tracing
from fastlstm.weights import Sizes


class LSTM(Recurrent):
    """`torch.nn.LSTM`, on an engine of its own.

    For each layer and direction, W its w_ih, R its w_hh, b the sum of its b_ih and b_hh:

        i, f, o = sigmoid(W_i x_t + R_i h_{t-1} + b_i),  g = tanh(W_g x_t + R_g h_{t-1} + b_g)
        c_t = f * c_{t-1} + i * g,    h_t = o * tanh(c_t)    (then h_t = W_hr h_t with proj_size > 0)

    Args: those of nn.LSTM. input_size, hidden_size, num_layers; bias: without it there are no b_ih, b_hh; batch_first:
    input and output are (N, L, features); dropout: its probability between layers, in training; bidirectional;
    proj_size: 0, or how many features h is projected to; device, dtype of the parameters.

    Shapes: L = length, N = batch, D = 2 if bidirectional else 1, H_in = input_size, H_cell = hidden_size, H_out =
    proj_size or H_cell.

    - input: (L, N, H_in); (N, L, H_in) with batch_first; (L, H_in) unbatched; a PackedSequence; or a nested tensor of
      layout torch.jagged, (N, L of each row, H_in)
    - h_0: (D*num_layers, N, H_out), c_0: (D*num_layers, N, H_cell); (D*num_layers, ...) unbatched; zeros by default
    - lengths: (N) integers from 0 to L, in a tensor of any dtype and device or a list, in any order. Row n is its first
      lengths[n] steps: what follows is never read, its output is 0, and the reverse direction starts at its own last step
    - reset: bool (L, N); (N, L) with batch_first; (L) unbatched. True at t: a new segment starts at t. The state before it
      is zeros in every layer, h_0 and c_0 too where t is 0; neither values nor gradients cross, in either direction
    - mask: bool, shaped as reset. Says lengths otherwise: True for a row's own steps, then False
    - output: (L, N, D*H_out); (N, L, D*H_out) with batch_first; (L, D*H_out) unbatched; a PackedSequence or a nested
      tensor where the input is one
    - h_n, c_n: as h_0, c_0: each row's state after its own last step (its first, for the reverse direction); h_0, c_0 of
      a row without a step

    Errors are nn.LSTM's: ValueError and TypeError from the constructor; from a call ValueError (dimensions or dtype of
    the input) and RuntimeError (every other shape, dtype or device), each saying the shape it expected. lengths, reset and
    mask: TypeError (dtype), ValueError (shape, a length that is not from 0 to L, True after False). Source:
    `torch.nn.LSTM`; Hochreiter and Schmidhuber 1997; Sak et al. 2014 for the projection.
    """

    mode: str
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    batch_first: bool
    dropout: float
    bidirectional: bool
    proj_size: int

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
    ) -> None:
        super().__init__()
        self.mode = "LSTM"
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        if isinstance(dropout, bool) or not isinstance(dropout, numbers.Number) or not 0 <= dropout <= 1:
            raise ValueError(
                "dropout should be a number in range [0, 1] representing the probability of an element being zeroed"
            )
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
                f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}",
                stacklevel=2,
            )
        for name, flag in (("bias", bias), ("batch_first", batch_first)):
            if not isinstance(flag, bool):
                raise TypeError(f"{name} should be of type bool, got: {type(flag).__name__}")
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if not isinstance(size, int):
                raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
            if size <= 0:
                raise ValueError(f"{name} must be greater than zero")
        if num_layers <= 0:
            raise ValueError("num_layers must be greater than zero")
        if proj_size < 0:
            raise ValueError("proj_size should be a positive integer or zero to disable projections")
        if proj_size >= hidden_size:
            raise ValueError("proj_size has to be smaller than hidden_size")
        refuse_no_int("num_layers", num_layers)
        if proj_size:
            refuse_no_int("proj_size", proj_size, bools=False)
        self._create_parameters(device, dtype)
        self.reset_parameters()

    def _sizes_of_attributes(self) -> Sizes:
        return lstm_sizes(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({"proj_size": 0, **state})  # nn.LSTM has had it since PyTorch 1.8

    @property
    def _all_weights(self) -> list[list[str]]:
        """nn.LSTM's, by which torchrl finds the parameters."""
        arrays, names = self._known().arrays, list(self._names)
        return [names[k : k + arrays] for k in range(0, len(names), arrays)]

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """The parameters, a list for each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    def flatten_parameters(self) -> None:
        """Does nothing: the engine reads the parameters where they are."""

    def extra_repr(self) -> str:
        said = f"{self.input_size}, {self.hidden_size}"
        for name, default in (
            ("proj_size", 0),
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0),
            ("bidirectional", False),
        ):
            if getattr(self, name) != default:
                said += f", {name}={getattr(self, name)}"
        return said

    def forward(self, input: Any, hx: Any = None, lengths: Any = None, reset: Any = None, mask: Any = None) -> Any:
        """input, (h_0, c_0) -> output, (h_n, c_n); shapes and errors as the class says."""
        if mask is not None and not isinstance(input, torch.fx.Proxy):
            lengths = arguments.lengths_of_mask(mask, lengths, input, bool(self.batch_first))
        sizes, parameters, grad = self._sizes, self._parameters, torch.is_grad_enabled()
        plain = is_plain() and (not grad or saving_hooks(True) is None)
        if plain and type(input) is Tensor and not (self.training and self.dropout != 0):
            # The engine itself sees whether it can take the call as it is: that saves 8 us of checks at one step of one row.
            if not grad:
                threads = torch.get_num_threads()
                done = _engine.forward(sizes.layer, parameters, input, hx, threads, self.batch_first, lengths, reset)
                if done is not None:
                    return done
            elif not self.batch_first or lengths is not None or reset is not None:
                done = function.attempt(sizes, parameters, self._names, input, hx, self.batch_first, lengths, reset)
                if done is not None:
                    return done[0], (done[1], done[2])
        if isinstance(input, torch.fx.Proxy):
            return fx.leaf(self, input, hx=hx, lengths=lengths, reset=reset, mask=mask)
        if not plain:
            traced = tracing_state() is not None and lengths is None and reset is None
            return tracing.quietly(self._run, input, hx) if traced else self._run(input, hx, lengths, reset)
        if sizes is UNKNOWN:
            sizes = self._known()
        try:
            weights: list[Tensor] = list(map(parameters.__getitem__, self._names))  # type: ignore[arg-type]
        except KeyError:
            weights = self._weights()
        read = arguments.read(sizes, weights[0].dtype, self, True, input, hx, lengths, reset)
        dropout = 0.0 if not self.training or self.dropout == 0 else dropout_of(self)
        results = native.run_plain(sizes, *read, weights, dropout) or wrap.run(sizes, *read, weights, dropout)
        return read[0].place(results[0]), read[0].order(results[1:])

    def _run(self, input: Any, hx: Any, lengths: Any = None, reset: Any = None) -> Any:
        """A call that something watches."""
        sizes, weights = self._known(), self._weights()
        read = arguments.read(sizes, weights[0].dtype, self, False, input, hx, lengths, reset)
        results = wrap.run(sizes, *read, weights, dropout_of(self))
        return read[0].place(results[0]), read[0].order(results[1:])

    def trace(self, input: Any, hx: Any = None, lengths: Any = None, reset: Any = None, mask: Any = None) -> Trace:
        """The call, with every layer's hidden states, cell states and gates at every step, all of them differentiable.

        Arguments, numbers and errors are those of `forward` (under CPU autocast: in float32). `trace.layers[layer][direction]`
        has h, c, i, f, g, o, each like output: (L, N, H_out or H_cell). RuntimeError under torch.jit.trace.
        """
        if tracing_state() is not None:
            raise RuntimeError("torch.jit.trace records forward alone")
        if mask is not None:
            lengths = arguments.lengths_of_mask(mask, lengths, input, bool(self.batch_first))
        sizes, weights, plain = self._known(), self._weights(), is_plain()
        read = arguments.read(sizes, weights[0].dtype, self, plain, input, hx, lengths, reset)
        batch = read[0]
        results, steps = trace(sizes, *read, weights, dropout_of(self))
        placed = [Steps(*map(batch.place, arrays)) for arrays in steps]
        layers = tuple(tuple(placed[k : k + sizes.D]) for k in range(0, len(placed), sizes.D))
        own = None if lengths is None else batch.rows.lengths.reshape(-1).clone()
        h_n, c_n = batch.order(results[1:])
        return Trace(batch.place(results[0]), h_n, c_n, layers, self.batch_first, own)
