"""The route to torch's own kernel without a GPU: forced on CPU tensors, or with a double in the kernel's place."""

from typing import Any

import pytest
from torch import Tensor

from fastlstm.torch import runners
from fastlstm.torch.graph import function
from fastlstm.torch.runners import native, torch_kernel


def force_torchs_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call takes the route of a CUDA call; torch's CPU kernel stands in for cuDNN's."""
    monkeypatch.setattr("fastlstm.torch.layer._engine.forward", lambda *_: None)
    monkeypatch.setattr(function, "attempt", lambda *_: None)
    monkeypatch.setattr("fastlstm.torch.layer.Layer._attempt", lambda *_: None)
    monkeypatch.setattr(native, "wants_graph", lambda *_: None)
    monkeypatch.setattr(runners, "choose", lambda *_: (torch_kernel, ""))


class Kernel:
    """In place of `context.torch_layer`: results without numbers, of the shapes and on the device that the kernel's have.

    It refuses what cuDNN refuses: tensors of several devices, states that do not lie in order, batch_sizes that no host can read.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __call__(self, name: str, x: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        self.calls.append((name, (x, *arguments)))
        rest = list(arguments)
        batch_sizes = rest.pop(0) if not name.endswith("_cell") and isinstance(rest[1], Tensor | tuple) else None
        hx, weights = rest[0], rest[1:] if name.endswith("_cell") else rest[1]
        states = (hx,) if isinstance(hx, Tensor) else hx
        assert {t.device for t in (*states, *weights)} == {x.device}
        assert all(t.is_contiguous() for t in (*states, *weights))
        if name.endswith("_cell"):
            return tuple(t.new_empty(t.shape) for t in states)
        if batch_sizes is not None:
            assert batch_sizes.device.type == "cpu"
        output = x.new_empty(*x.shape[:-1], states[0].shape[2] * (2 if rest[6] else 1))
        return output, *(t.new_empty(t.shape) for t in states)
