"""`fastlstm.LSTM`: nn.LSTM's constructor, arguments, shapes and errors."""

import numbers
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fastlstm import _engine
from fastlstm.torch import route
from fastlstm.torch.attributes import dropout_of, lstm_sizes, refuse_no_int
from fastlstm.torch.base import Recurrent
from fastlstm.torch.call import Call, Ragged, checked, jagged, segmented
from fastlstm.torch.errors import check_batch_sizes, check_dtype, check_states, expected_states, refuse_features
from fastlstm.torch.functional import lstm, plain
from fastlstm.torch.memory import refuse_freed
from fastlstm.torch.segments import lengths_of, lengths_of_mask
from fastlstm.torch.trace import Steps, Trace, trace
from fastlstm.weights import Sizes, named_shapes

State = tuple[Tensor, Tensor]


class _Given(NamedTuple):
    """A call that was checked. place: from rows of steps to what the caller is given; unsorted: the caller's order of rows
    in h_n and c_n, where it is another.
    """

    call: Call
    x: Tensor
    h_0: Tensor | None
    c_0: Tensor | None
    weights: list[Tensor]  # looked up once: a parametrization computes them, and may change with each look
    place: Callable[[Tensor], Any]
    unsorted: Tensor | None = None

    def order(self, h_n: Tensor, c_n: Tensor) -> State:
        if self.unsorted is None:
            return h_n, c_n
        return h_n.index_select(1, self.unsorted), c_n.index_select(1, self.unsorted)


def _states(hx: Sequence[Tensor]) -> State:
    """h_0, c_0. IndexError: there are not two, as where only h_0 is given."""
    try:
        return hx[0], hx[1]
    except IndexError:
        raise IndexError(f"expected hx to be a tuple (h_0, c_0), got {type(hx).__name__} of length {len(hx)}") from None


def _as_it_is(t: Tensor) -> Tensor:
    return t


def _swapped(t: Tensor) -> Tensor:
    return t.transpose(0, 1)


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

    def _named_shapes(self) -> tuple[Sizes, dict[str, tuple[int, ...]]]:
        sizes = lstm_sizes(self)
        return sizes, named_shapes(sizes)

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
            lengths = lengths_of_mask(mask, lengths, input, bool(self.batch_first))
        if plain() and not (torch.is_grad_enabled() or (self.training and self.dropout != 0)):
            sizes, names, own, threads = self._sizes.numbers, self._names, self._parameters, torch.get_num_threads()
            made = _engine.infer(sizes, names, own, input, hx, self.batch_first, threads, lengths, reset)
            if made is not None:
                return made
        if isinstance(input, torch.fx.Proxy):
            return self._leaf(input, hx=hx, lengths=lengths, reset=reset, mask=mask)
        if lengths is None and reset is None and route.tracing_state() is not None:
            return self._traced(self._run, input, hx)
        return self._run(input, hx, lengths, reset)

    def _run(self, input: Any, hx: Any, lengths: Any = None, reset: Any = None) -> Any:
        given = self._given(input, hx, lengths, reset)
        output, h_n, c_n = lstm(given.call, given.x, given.h_0, given.c_0, given.weights, dropout_of(self))
        return given.place(output), given.order(h_n, c_n)

    def trace(self, input: Any, hx: Any = None, lengths: Any = None, reset: Any = None, mask: Any = None) -> Trace:
        """The call, with every layer's hidden states, cell states and gates at every step, all of them differentiable.

        Arguments, numbers and errors are those of `forward` (under CPU autocast: in float32). `trace.layers[layer][direction]`
        has h, c, i, f, g, o, each like output: (L, N, H_out or H_cell). RuntimeError under torch.jit.trace.
        """
        if route.tracing_state() is not None:
            raise RuntimeError("torch.jit.trace records forward alone")
        if mask is not None:
            lengths = lengths_of_mask(mask, lengths, input, bool(self.batch_first))
        given = self._given(input, hx, lengths, reset, recordable=False)
        output, h_n, c_n, steps = trace(given.call, given.x, given.h_0, given.c_0, given.weights, dropout_of(self))
        D, place = self._sizes.D, given.place
        placed = [Steps(*map(place, arrays)) for arrays in steps]
        layers = tuple(tuple(placed[k : k + D]) for k in range(0, len(placed), D))
        own = None
        if lengths is not None:
            batched = input.dim() == 3
            own = lengths_of(lengths, h_n.shape[1] if batched else 1, batched).clone()
        return Trace(place(output), *given.order(h_n, c_n), layers, self.batch_first, own)

    def _given(self, input: Any, hx: Any, lengths: Any, reset: Any, recordable: bool = True) -> _Given:
        """recordable: torch.compile may leave the segments to an op of ours, which is not one of `trace`."""
        self._known()
        if lengths is not None or reset is not None:
            if not isinstance(input, Tensor) or input.is_nested:
                kind = "nested tensor" if isinstance(input, Tensor) else type(input).__name__
                raise TypeError(f"lengths and reset are for a padded tensor, got a {kind}")
            if route.tracing_state() is not None:
                raise RuntimeError(
                    "torch.jit.trace would keep the lengths and resets it saw: trace a call without them"
                )
        if isinstance(input, PackedSequence):
            return self._packed(input, hx)
        # Whatever runs another engine gathers the rows by tensor operations.
        recorded = (
            recordable and torch.compiler.is_compiling() and route.choose(input.device, input.dtype).name == "native"
        )
        if getattr(input, "is_nested", False):
            return self._nested(input, hx, recorded)
        return self._dense(input, hx, lengths, reset, recorded)

    def _dense(self, input: Tensor, hx: Sequence[Tensor] | None, lengths: Any, reset: Any, recorded: bool) -> _Given:
        sizes, weights = self._sizes, self._weights()
        dims = input.dim()
        if dims == 3:
            x = input.transpose(0, 1) if self.batch_first else input
            T, N, features = x.shape
            state: tuple[int, ...] = (sizes.cells, N)
        elif dims == 2:
            x, N = input, 1
            T, features = x.shape
            state = (sizes.cells,)
        else:
            letters = "(N, L, H_in)" if self.batch_first else "(L, N, H_in)"
            raise ValueError(
                f"LSTM: Expected input to be 2D or 3D, got {dims}D instead"
                f": expected {letters}, or (L, H_in) unbatched, H_in = {self.input_size}"
            )
        h_0 = c_0 = None
        if hx is not None:
            h_0, c_0 = _states(hx)
            if h_0.dim() != dims or c_0.dim() != dims:
                raise RuntimeError(
                    f"For {'batched' if dims == 3 else 'unbatched'} {dims}-D input, hx and cx should also be {dims}-D "
                    f"but got ({h_0.dim()}-D, {c_0.dim()}-D) tensors{expected_states(sizes, state)}"
                )
        if x.dtype is not weights[0].dtype:
            check_dtype(x.dtype, weights[0].dtype)
        if features != sizes.I:
            refuse_features(sizes, input.shape, bool(self.batch_first))
        if hx is not None and h_0 is not None and c_0 is not None:
            check_states(sizes, h_0, c_0, hx, state, N)
        if T == 0 and lengths is None:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        call = Call(sizes, T, N, state)
        swapped = bool(self.batch_first) and dims == 3
        if lengths is not None or reset is not None:
            packed: Call | None
            if recorded:
                packed = call._replace(ragged=Ragged(*checked(call, lengths, reset, swapped), None, swapped))
            else:
                packed = segmented(call, lengths, reset, batch_first=swapped, dropout=dropout_of(self))
            if packed is not None:
                lead = input.shape[:-1]
                rows = input.reshape(T * N, sizes.I)
                return _Given(packed, rows, h_0, c_0, weights, lambda t: t.reshape(*lead, t.shape[-1]))
        return _Given(call, x, h_0, c_0, weights, _swapped if swapped else _as_it_is)

    def _nested(self, input: Tensor, hx: Sequence[Tensor] | None, recorded: bool) -> _Given:
        sizes, weights = self._sizes, self._weights()
        letters = f"(N, L of each row, H_in), H_in = {sizes.I}"
        if input.layout is not torch.jagged or input.dim() != 3 or input._ragged_idx != 1:  # type: ignore[attr-defined]
            raise ValueError(f"LSTM: expected a nested tensor of layout torch.jagged and shape {letters}")
        if input.dtype is not weights[0].dtype:
            check_dtype(input.dtype, weights[0].dtype)
        values, offsets, lengths = input.values(), input.offsets(), input.lengths()  # type: ignore[attr-defined]
        if values.shape[-1] != sizes.I:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {sizes.I}, got {values.shape[-1]}"
                f": expected a nested tensor of shape {letters}"
            )
        N = offsets.shape[0] - 1
        state = (sizes.cells, N)
        h_0 = c_0 = None
        if hx is not None:
            h_0, c_0 = _states(hx)
            check_states(sizes, h_0, c_0, hx, state, N)
        call = Call(sizes, 1, N, state)
        if recorded:
            call = call._replace(ragged=Ragged(lengths, None, offsets, False))
        else:
            call = jagged(call, offsets, lengths, values.shape[0])
        return _Given(
            call, values, h_0, c_0, weights, lambda t: torch.nested.nested_tensor_from_jagged(t, offsets, lengths)
        )

    def _packed(self, input: PackedSequence, hx: Sequence[Tensor] | None) -> _Given:
        x, batch_sizes, sorted_indices, unsorted_indices = input
        sizes, weights = self._sizes, self._weights()
        if not isinstance(x, Tensor):
            raise TypeError(f"data of a PackedSequence: expected a tensor, got {type(x).__name__}")
        if x.dtype is not weights[0].dtype:
            check_dtype(x.dtype, weights[0].dtype)
        if x.dim() != 2:
            raise RuntimeError(f"input must have 2 dimensions, got {x.dim()}")
        if x.shape[1] != sizes.I:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {sizes.I}, got {x.shape[1]}"
                f": expected packed data of shape (sum of lengths, H_in) = {(x.shape[0], sizes.I)}"
            )
        N = check_batch_sizes(batch_sizes, x.shape[0])
        state = (sizes.cells, N)
        h_0 = c_0 = None
        if hx is not None:
            h_0, c_0 = _states(hx)
            if h_0.dim() != 3 or c_0.dim() != 3:
                raise RuntimeError(
                    f"For packed input, hx and cx should be 3-D but got ({h_0.dim()}-D, {c_0.dim()}-D) tensors"
                    f"{expected_states(sizes, state)}"
                )
            check_states(sizes, h_0, c_0, hx, state, N)
            if sorted_indices is not None:
                if plain():  # no wrapper, whose memory is another's
                    refuse_freed(h_0)
                    refuse_freed(c_0)
                h_0, c_0 = h_0.index_select(1, sorted_indices), c_0.index_select(1, sorted_indices)
                check_states(sizes, h_0, c_0, hx, state, N)  # the indices may be fewer than the rows
        call = Call(sizes, len(batch_sizes), N, state, batch_sizes)
        return _Given(
            call,
            x,
            h_0,
            c_0,
            weights,
            lambda t: PackedSequence(t, batch_sizes, sorted_indices, unsorted_indices),
            unsorted_indices,
        )
