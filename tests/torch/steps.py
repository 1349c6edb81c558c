"""One step, an LSTM's or a GRU's: its tensors, a call with its gradients by name, and torch's own cell beside it."""

from typing import Any

import torch
from torch import Tensor, nn

from tests.conftest import Evaluation, States, like, states_of

Arguments = tuple[Tensor, Any, tuple[Tensor, ...]]  # x, hx or None, cotangents of the results


def torchs(kind: type[nn.Module]) -> Any:
    """nn.LSTMCell of LSTMCell, nn.GRUCell of GRUCell."""
    return getattr(nn, kind.__name__)


def twin(cell: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """torch's own cell with the same arguments and parameters; in `dtype` where given."""
    theirs = torchs(type(cell))(cell.input_size, cell.hidden_size, cell.bias, dtype=cell.weight_ih.dtype)
    theirs.load_state_dict(cell.state_dict())
    return theirs.to(dtype)


def named(states: States) -> Evaluation:
    """What a step returns, by name."""
    return {name: t.detach() for name, t in zip(("h_n", "c_n"), states_of(states), strict=False)}


def chosen(hx: States, rows: Any) -> Any:
    return like(hx, [t[rows] for t in states_of(hx)])


def evaluate(cell: nn.Module, x: Tensor, hx: Any, cotangents: tuple[Tensor, ...]) -> Evaluation:
    """The new states, and the gradient of every input and parameter."""
    cell.zero_grad(set_to_none=True)
    x = x.clone().requires_grad_()
    hx = None if hx is None else like(hx, [t.clone().requires_grad_() for t in states_of(hx)])
    results = cell(x, hx)
    torch.autograd.backward(states_of(results), cotangents)
    found = named(results) | {"dx": x.grad}
    if hx is not None:
        found |= {name: t.grad for name, t in zip(("dh_0", "dc_0"), states_of(hx), strict=False)}
    return found | {f"d{name}": p.grad for name, p in cell.named_parameters()}


def tensors(kind: type[nn.Module], batch: int | None, I: int, H: int, dtype: torch.dtype) -> Arguments:
    leading = () if batch is None else (batch,)
    count = 2 if "LSTM" in kind.__name__ else 1
    x, *drawn = [torch.randn(*leading, size).to(dtype) for size in (I, *[H] * (2 * count))]
    return x, tuple(drawn[:2]) if count > 1 else drawn[0], tuple(drawn[count:])


def double(value: Any) -> Any:
    return tuple(double(v) for v in value) if isinstance(value, tuple) else None if value is None else value.double()
