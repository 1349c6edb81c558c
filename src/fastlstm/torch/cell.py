"""What LSTMCell and GRUCell share: torch's constructor, the call and its errors; and `fastlstm.LSTMCell`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from fastlstm import _engine, cells, errors
from fastlstm.cells import Cell
from fastlstm.torch import wrap
from fastlstm.torch.attributes import refuse_no_int, step_sizes
from fastlstm.torch.batch import Dense, Results, last_of
from fastlstm.torch.context import is_profiled, is_unseen, saving_hooks, tracing_state
from fastlstm.torch.graph import function
from fastlstm.torch.parameters import Recurrent, forward_of
from fastlstm.torch.runners import native
from fastlstm.torch.wrap import fx, script, tracing
from fastlstm.weights import Sizes

# What torch 2.15 says of a state with another number of dimensions than the input; before, it complained of their sizes.
_NAMES_DIMENSIONS = TorchVersion(torch.__version__) >= "2.15"


class StepModule(Recurrent):
    """One step of a cell, as torch's modules whose names end in Cell. What a cell's is, its own class says."""

    _cell: ClassVar[Cell]

    input_size: int
    hidden_size: int
    bias: bool

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        refuse_no_int("input_size", input_size)
        refuse_no_int("hidden_size", hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        self._create_parameters(device, dtype)
        if not bias:
            self.register_parameter("bias_ih", None)
            self.register_parameter("bias_hh", None)
        self.reset_parameters()

    @classmethod
    def _sizes_of_attributes(cls, module: Any) -> Sizes:
        return step_sizes(module, cls._cell)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias is True else f", bias={self.bias}")

    def forward(self, input: Any, hx: Any = None) -> Any:
        """input, hx -> the new state, or states, in hx's form; shapes and errors as the class says."""
        sizes, parameters, grad = self._sizes, self._parameters, torch.is_grad_enabled()
        plain = is_unseen() and (not grad or saving_hooks(True) is None)
        attempted = plain and type(input) is Tensor  # the engine would take NumPy's arrays
        if attempted and not grad and not is_profiled():
            done = _engine.forward(sizes.layer, parameters, input, hx, torch.get_num_threads())
            if done is not None:
                return done[1]
        elif attempted and grad:
            done = function.attempt(sizes, parameters, self._names, input, hx)
            if done is not None:
                return last_of(done[1:])
        if isinstance(input, torch.fx.Proxy):
            return fx.leaf(self, input, hx=hx)
        if tracing_state() is not None:
            return tracing.quietly(self._step, input, hx, False)
        return self._step(input, hx, plain)

    def _step(self, input: Tensor, hx: Any, plain: bool) -> Any:
        sizes, dims, shape = self._known(), input.dim(), input.shape
        if dims not in (1, 2):
            errors.refuse_step_rank(sizes, dims)
        states = sizes.zeros if hx is None else self._checked_states(hx)
        if shape[-1] != sizes.I:
            errors.refuse_step_features(sizes, shape)
        for k, t in enumerate(states):
            if t is not None:
                self._check_state(k, t, shape[:-1])
        call = (sizes, Dense(1, shape[0] if dims == 2 else 1, tuple(shape[:-1])), input, states, self._weights(), 0.0)
        return last_of(((native.run_plain(*call) if plain else None) or wrap.run(*call))[1:])

    def _checked_states(self, hx: Any) -> Results:
        """As torch's, in its words: of the right number of dimensions."""
        if len(self._cell.states) == 1:
            self._check_dimensions("hidden", hx)
            return (hx,)
        for k, t in enumerate(hx):
            self._check_dimensions(f"hx[{k}]", t)
        if not isinstance(hx, (tuple, list)):
            raise TypeError(f"lstm_cell(): argument 'hx' must be tuple of Tensors, not {type(hx).__name__}")
        if len(hx) != 2:
            raise RuntimeError(f"lstm_cell expects two hidden states, (h, c), got {len(hx)}")
        return hx[0], hx[1]

    def _check_dimensions(self, name: str, t: Tensor) -> None:
        if t.dim() not in (1, 2):
            raise ValueError(
                f"{self._cell.name}Cell: Expected {name} to be 1D or 2D, got {t.dim()}D instead"
                f": expected (N, H_cell), or (H_cell) unbatched, H_cell = {self.hidden_size}"
            )

    def _check_state(self, k: int, t: Tensor, state: Sequence[int]) -> None:
        H = self._sizes.H
        if t.shape == (*state, H):
            return
        expected = f": expected {'hc'[k]} of shape ({'N, ' * len(state)}H_cell) = {(*state, H)}"
        batched = t.dim() if state else t.dim() + 1  # dimensions, once torch has added that of the batch
        if batched != 2 and (_NAMES_DIMENSIONS or (not state and t.shape[0] == H)):
            raise RuntimeError(f"Expected 2D hidden{k} (batch x hidden_size), but got {batched}D tensor{expected}")
        if state and (t.dim() == 1 or t.shape[0] != state[0]):
            raise RuntimeError(f"Input batch size {state[0]} doesn't match hidden{k} batch size {t.shape[0]}{expected}")
        got = t.shape[1] if state else t.shape[0]
        raise RuntimeError(f"hidden{k} has inconsistent hidden_size: got {got}, expected {H}{expected}")


class LSTMCell(StepModule):
    """`torch.nn.LSTMCell`, on the engine of `fastlstm.LSTM`: one step.

    Args: those of nn.LSTMCell. input_size, hidden_size; bias: without it bias_ih and bias_hh are None; device, dtype of
    the parameters.

    Shapes: N = batch, H_in = input_size, H_cell = hidden_size.

    - input: (N, H_in) or (H_in)
    - hx: (h, c), both (N, H_cell) or (H_cell); zeros by default
    - returns (h, c) of the same shapes

    Errors are nn.LSTMCell's: ValueError for a wrong number of dimensions, RuntimeError for any other shape, dtype or
    device, each saying the shape it expected. Source: `torch.nn.LSTMCell`.
    """

    _cell = cells.LSTM
    if TYPE_CHECKING:  # nn.Module says `Callable[..., Any]` of both

        def __call__(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]: ...

        def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]: ...
    else:
        forward = script.compiled_from(script.lstm_cell, forward_of(StepModule, "LSTMCell"))
