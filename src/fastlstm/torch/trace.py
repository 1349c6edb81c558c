"""Looking inside a call: every layer's hidden states, cells and gates at every step, differentiable like its results."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastlstm import _engine
from fastlstm.torch import autograd, composite, route
from fastlstm.torch.call import Call, full, masks_of
from fastlstm.torch.functional import check, direct, like_the_caller, saving_hooks
from fastlstm.torch.memory import in_order
from fastlstm.weights import Sizes


class Steps(NamedTuple):
    """One layer in one direction at every step. The shapes are those of `output`, but for the features.

    h: (L, N, H_out), hidden states, before dropout; c: (L, N, H_cell), cell states; i, f, g, o: (L, N, H_cell), the gates
    after their activations. Where the call's input is packed or nested, so are they; 0 past the end of a row.
    """

    h: Any
    c: Any
    i: Any
    f: Any
    g: Any
    o: Any


class Trace(NamedTuple):
    """What `fastlstm.LSTM.trace` returns: the results of the call, and `layers[layer][direction]`.

    batch_first: then output and all steps are (N, L, features). lengths: (N) of int64, those the call was given, or None.
    """

    output: Any
    h_n: Tensor
    c_n: Tensor
    layers: tuple[tuple[Steps, ...], ...]
    batch_first: bool
    lengths: Tensor | None


def trace(
    call: Call, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: list[Tensor], dropout: float
) -> tuple[Tensor, Tensor, Tensor, list[Steps]]:
    """What `functional.lstm` returns, and the steps of each layer and direction, in the shape of output.

    The arguments are those of `functional.lstm`. Raises RuntimeError as it does.
    """
    x, weights = x.resolve_neg(), [w.resolve_neg() for w in weights]
    h_0, c_0 = (None if t is None else t.resolve_neg() for t in (h_0, c_0))
    grad = direct(call.sizes, x, h_0, c_0, weights)
    masks = masks_of(call, x, dropout) if dropout > 0 else []
    if grad is None or (grad and saving_hooks(True) is not None):
        check(call, x, h_0, c_0, weights, torch.is_autocast_enabled("cpu"))
        route.fall_back("a trace outside plain CPU tensors needs plain tensor operations")
        output, h_n, c_n, *rest = _composite(call, x, h_0, c_0, weights, masks)
    else:
        x = in_order(x)
        h_0, c_0 = (None if t is None else in_order(t) for t in (h_0, c_0))
        weights = [in_order(w) for w in weights]
        run: Any = _Traced.apply if grad else _Traced.run
        output, h_n, c_n, *rest = run(call, len(masks), x, h_0, c_0, *masks, *weights)
    if call.segments is not None:
        h_n, c_n = call.segments.or_initial(h_0, h_n), call.segments.or_initial(c_0, c_n)
    return output, h_n, c_n, _steps(call.sizes, output, rest)


def _steps(sizes: Sizes, output: Tensor, rest: Sequence[Tensor]) -> list[Steps]:
    """rest: five arrays a layer and direction, then the outputs of the layers but the last."""
    outputs = [*rest[5 * sizes.cells :], output]
    hidden = outputs if sizes.D == 1 else [half for both in outputs for half in both.chunk(2, -1)]
    return [Steps(h, *rest[5 * k : 5 * k + 5]) for k, h in enumerate(hidden)]


def _composite(
    call: Call, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: list[Tensor], masks: list[Tensor]
) -> list[Tensor]:
    given = x
    if call.segments is not None:
        x, h_0, c_0, batch_sizes = call.segments.pack(x, h_0, c_0)
        call = call._replace(batch_sizes=batch_sizes)
    dtype = x.dtype
    wide = torch.float32 if dtype in route.HALF else dtype  # 16 bits are rounded once, as by the engine
    tensors, weights, masks = ([t.to(wide) for t in given] for given in (full(call, x, h_0, c_0), weights, masks))
    results = [t.to(dtype) for t in _flat(call.sizes, *tensors, weights, masks, call.batch_sizes)]
    if call.segments is not None:
        return list(call.segments.unpack(*results))
    output, h_n, c_n, *rest = results
    output, h_n, c_n = like_the_caller(call, given, (output, h_n, c_n))
    return [output, h_n, c_n, *(t.reshape(*given.shape[:-1], t.shape[-1]) for t in rest)]


def _flat(sizes: Sizes, *arguments: Any) -> list[Tensor]:
    """The results of `composite.traced`, in the order of the engine's."""
    results, steps = composite.traced(sizes, *arguments)
    hidden = [torch.cat([s.h for s in steps[k : k + sizes.D]], -1) for k in range(0, sizes.cells - sizes.D, sizes.D)]
    return [*results, *(array for s in steps for array in s[1:]), *hidden]


class _Traced(torch.autograd.Function):
    """`autograd.Lstm`, whose saved numbers are read out, and which takes gradients of them."""

    @staticmethod
    def run(call: Call, masks: int, x: Tensor, *tensors: Any) -> tuple[Tensor, ...]:
        """Without gradients."""
        problem = autograd.problem_of(call, x)
        return _Traced._made(call, problem, _engine.Workspace(problem.saved_bytes), masks, x, tensors)

    @staticmethod
    def _made(
        call: Call,
        problem: _engine.Problem,
        workspace: _engine.Workspace,
        masks: int,
        x: Tensor,
        tensors: Sequence[Any],
    ) -> tuple[Tensor, ...]:
        sizes, (h_0, c_0, *rest) = call.sizes, tensors
        made = autograd.forward(call, problem, x, h_0, c_0, rest[masks:], rest[:masks], workspace.address)
        written = call.segments is None or call.segments.fills
        first = (x.new_empty if written else x.new_zeros)((*x.shape[:-1], sizes.H))
        new = torch.empty_like if written else torch.zeros_like
        steps = [first, *(new(first) for _ in range(5 * sizes.cells - 1))]
        hidden = [new(made[0]) for _ in range(sizes.layers - 1)]
        at_steps, at_hidden = [t.data_ptr() for t in steps], [t.data_ptr() for t in hidden]
        _engine.trace(problem, workspace.address, at_steps, at_hidden, torch.get_num_threads())
        return (*made, *steps, *hidden)

    @staticmethod
    def forward(ctx: Any, call: Call, masks: int, x: Tensor, *tensors: Any) -> Any:
        problem = autograd.problem_of(call, x)
        workspace = _engine.Workspace(problem.saved_bytes)
        made = _Traced._made(call, problem, workspace, masks, x, tensors)
        autograd.keep(ctx, call, masks, problem, workspace, x, tensors)
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return autograd.turn_back(ctx, gradients, _flat)
