"""What `fastlstm.LSTM` and `fastlstm.GRU` share: torch's constructor and its errors, the call, the trace."""

import numbers
import warnings
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fastlstm import _engine, streams
from fastlstm.cells import Cell
from fastlstm.torch import arguments, wrap
from fastlstm.torch.attributes import CheckpointEvery, checkpoint_every_of, dropout_of, layer_sizes, refuse_no_int
from fastlstm.torch.batch import last_of, lengths_of_caller
from fastlstm.torch.context import (
    is_dynamo_compiling,
    is_exporting,
    is_plain,
    is_profiled,
    is_unseen,
    saving_hooks,
    tracing_state,
)
from fastlstm.torch.dtypes import NAMES, REAL
from fastlstm.torch.graph import function
from fastlstm.torch.graph.compiled import attempt
from fastlstm.torch.graph.trace import trace
from fastlstm.torch.memory import as_read
from fastlstm.torch.parameters import UNKNOWN, Recurrent
from fastlstm.torch.runners import mapped, native
from fastlstm.torch.stream import Stream
from fastlstm.torch.wrap import fx, script, tracing
from fastlstm.weights import Sizes


class Layer(Recurrent):
    """A recurrent layer of torch's. What a cell's is, its own class says."""

    _cell: ClassVar[Cell]

    mode: str
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    batch_first: bool
    dropout: float
    bidirectional: bool
    proj_size: int
    checkpoint_every: int | None = CheckpointEvery()  # type: ignore[assignment]  # read where it isn't set

    def _construct(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        device: Any,
        dtype: Any,
        checkpoint_every: int | None,
    ) -> None:
        self.mode = self._cell.name
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
                stacklevel=3,
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
        if checkpoint_every is not None:  # else it is the class's: the attributes are those of torch's layer
            refuse_no_int("checkpoint_every", checkpoint_every, bools=False)
            self.checkpoint_every = checkpoint_every
        self._create_parameters(device, dtype)
        self.flatten_parameters()
        self.reset_parameters()

    @classmethod
    def _sizes_of_attributes(cls, module: Any) -> Sizes:
        return layer_sizes(module, cls._cell)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({"proj_size": 0, **state})  # torch has had it since PyTorch 1.8

    @property
    def _all_weights(self) -> list[list[str]]:
        """torch's, by which torchrl finds the parameters."""
        arrays, names = self._known().arrays, list(self._names)
        return [names[k : k + arrays] for k in range(0, len(names), arrays)]

    @property
    def _flat_weights(self) -> list[Tensor]:
        """What nn.LSTM computes with, to be read: a weight is set by its name."""
        return [weight for chain in self.all_weights for weight in chain]

    _in_order = _flat_weights  # as TorchScript knows them (`wrap/script.py`), which compiles all properties but these
    __jit_unused_properties__ = ("_all_weights", "_flat_weights", "_in_order", "all_weights")

    # torch's own, which read attributes that both have
    check_input = nn.RNNBase.check_input
    check_hidden_size = nn.RNNBase.check_hidden_size
    get_expected_hidden_size = nn.RNNBase.get_expected_hidden_size

    def __prepare_scriptable__(self) -> nn.Module:
        """torch.jit.script asks this for what it should compile, and puts that in the caller's model, too."""
        if any(self._parameters.get(name) is None for name in self._names):
            raise RuntimeError(
                "torch.jit.script would keep the weights as they are now, which are computed of others (weight_norm, prune, or "
                "another of their kind): remove that first"
            )
        script.prepare(self)
        return self

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """The parameters, a list for each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    def flatten_parameters(self) -> None:
        """On CUDA, all parameters come to lie in one piece of memory, from where cuDNN reads them; elsewhere nothing is done."""
        weights = [w for name in self._names if (w := self._parameters.get(name)) is not None and w.is_cuda]
        if weights and len(weights) == len(self._names) and not torch.compiler.is_compiling():
            # Else they are copied there, with a warning, at every call. As nn.LSTM's, which keeps a list of them.
            read = SimpleNamespace(**{**vars(self), "_flat_weights": weights, "_flat_weights_names": weights})
            nn.RNNBase.flatten_parameters(read)  # type: ignore[arg-type]

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.flatten_parameters()
        return self

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
        every = checkpoint_every_of(self)
        return said if every is None else f"{said}, checkpoint_every={every}"

    def forward(
        self,
        input: Any,
        hx: Any = None,
        lengths: Any = None,
        reset: Any = None,
        mask: Any = None,
        *,
        reset_to: Any = None,
    ) -> Any:
        """input, hx -> output, and the last states in hx's form; shapes and errors as the class says."""
        if mask is not None and not isinstance(input, torch.fx.Proxy):
            lengths = tracing.quietly(arguments.lengths_of_mask, mask, lengths, input, bool(self.batch_first))
        sizes, parameters, grad = self._sizes, self._parameters, torch.is_grad_enabled()
        compiled = is_dynamo_compiling()
        plain = not compiled and is_unseen() and (not grad or saving_hooks(True) is None)
        if plain and type(input) is Tensor and reset_to is None and not (self.training and self.dropout != 0):
            # The engine itself sees whether it can take the call as it is: that saves 8 us of checks at one step of one row. In
            # a profile it has a name where it runs (`runners/native.py`), and that once.
            if not grad and not is_profiled():
                threads = torch.get_num_threads()
                done = _engine.forward(sizes.layer, parameters, input, hx, threads, self.batch_first, lengths, reset)
                if done is not None:
                    return done
            elif grad and (not self.batch_first or lengths is not None or reset is not None):
                done = function.attempt(sizes, parameters, self._names, input, hx, self.batch_first, lengths, reset)
                if done is not None:
                    return done[0], last_of(done[1:])
        if not plain and lengths is None and reset is None and reset_to is None:
            done = self._attempt(input, hx, compiled, grad)
            if done is not None:
                return done
        if isinstance(input, torch.fx.Proxy):
            return fx.leaf(self, input, hx=hx, lengths=lengths, reset=reset, mask=mask, reset_to=reset_to)
        if not plain:
            return tracing.quietly(self._run, input, hx, lengths, reset, reset_to)
        if sizes is UNKNOWN:
            sizes = self._known()
        try:
            weights: list[Tensor] = list(map(parameters.__getitem__, self._names))  # type: ignore[arg-type]
        except KeyError:
            weights = self._weights()
        read = arguments.read(sizes, weights[0].dtype, self, True, input, hx, lengths, reset, reset_to)
        dropout = None if not self.training else 0.0 if self.dropout == 0 else dropout_of(self)
        results = native.run_plain(sizes, *read, weights, dropout) or wrap.run(sizes, *read, weights, dropout)
        return read[0].place(results[0]), last_of(read[0].order(results[1:]))

    def _attempt(self, input: Any, hx: Any, compiled: bool, grad: bool) -> Any:
        """A call that something watches, if it is one of those that have a shorter way."""
        if compiled:  # an exported program may meet gradients that nobody asked for when it was made
            return None if is_exporting() else attempt(self, input, hx, grad)
        if hx is not None or grad or (self.training and self.dropout != 0):
            return None
        return mapped.attempt(self._sizes, self._parameters, input, self.batch_first)

    def _run(self, input: Any, hx: Any, lengths: Any = None, reset: Any = None, reset_to: Any = None) -> Any:
        """A call that something watches."""
        sizes, weights = self._known(), self._weights()
        read = arguments.read(sizes, weights[0].dtype, self, False, input, hx, lengths, reset, reset_to)
        results = wrap.run(sizes, *read, weights, dropout_of(self))
        return read[0].place(results[0]), last_of(read[0].order(results[1:]))

    def stream(self, batch: int = 1) -> Stream:
        """The layer frame by frame, `stream.step(frame)`, for rollouts and live inference: without gradients, with the weights
        that it has now. On the CPU, in float32 or float64.

        batch: how many sequences run side by side. ValueError: below 1, or the layer is bidirectional. TypeError: its weights
        are of another device or dtype.
        """
        sizes, weights = self._known(), self._weights()
        streams.check(sizes, batch)
        dtype = getattr(weights[0], "dtype", None)
        if any(not isinstance(w, Tensor) or not w.is_cpu or w.dtype is not dtype or dtype not in REAL for w in weights):
            raise TypeError("stream: expected parameters on the CPU, all float32 or all float64")
        packed = _engine.PackedWeights(sizes.layer, [as_read(w.detach()) for w in weights], NAMES[weights[0].dtype])
        return Stream(packed, sizes, dtype, batch)

    def _trace(self, input: Any, hx: Any, lengths: Any, reset: Any, mask: Any, reset_to: Any) -> tuple[Any, ...]:
        """output, the last states, the steps of each layer and direction, batch_first, lengths, as a `Trace` has them."""
        if tracing_state() is not None:
            raise RuntimeError("torch.jit.trace records forward alone")
        if mask is not None:
            lengths = arguments.lengths_of_mask(mask, lengths, input, bool(self.batch_first))
        sizes, weights, plain = self._known(), self._weights(), is_plain()
        read = arguments.read(sizes, weights[0].dtype, self, plain, input, hx, lengths, reset, reset_to)
        batch = read[0]
        results, steps = trace(sizes, *read, weights, dropout_of(self))
        placed = [type(arrays)(*map(batch.place, arrays)) for arrays in steps]
        layers = tuple(tuple(placed[k : k + sizes.D]) for k in range(0, len(placed), sizes.D))
        own = None if lengths is None else lengths_of_caller(batch).reshape(-1).clone()
        return batch.place(results[0]), *batch.order(results[1:]), layers, self.batch_first, own
