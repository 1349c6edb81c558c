"""One way down: a call crosses into the engine once, and passes through few files, none of them twice."""

import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

import fastlstm
from fastlstm import GRU, LSTM, GRUCell, LSTMCell, _engine
from tests.conftest import states_of

SOURCE = Path(fastlstm.__file__).parent
T, N, I, H = 7, 3, 5, 6
LENGTHS = torch.tensor([7, 4, 2])


def padded(x: Tensor) -> Any:
    return x


def packed(x: Tensor) -> Any:
    return pack_padded_sequence(x, LENGTHS)


# Options of the layer, what x becomes, further arguments.
CALLS: dict[str, tuple[dict[str, Any], Callable[[Tensor], Any], dict[str, Any]]] = {
    "dense": ({}, padded, {}),
    "packed": ({}, packed, {}),
    "lengths": ({}, padded, {"lengths": LENGTHS}),
    "a row without a step": ({}, padded, {"lengths": torch.tensor([7, 0, 2])}),
    "reset": ({}, padded, {"reset": torch.arange(T * N).reshape(T, N) % 4 == 0}),
    "dropout": ({"num_layers": 3, "dropout": 0.5}, padded, {}),
    "dropout, lengths": ({"num_layers": 2, "dropout": 0.5}, padded, {"lengths": LENGTHS}),
    "projection": ({"proj_size": 2, "num_layers": 2, "bidirectional": True}, padded, {}),
    "bfloat16": ({"dtype": torch.bfloat16}, padded, {}),
    "batch_first": ({"batch_first": True}, padded, {}),
}


EACH = [(kind, call) for kind in (LSTM, GRU) for call in CALLS if kind is LSTM or call != "projection"]
each_call = pytest.mark.parametrize(("kind", "call"), EACH, ids=lambda p: p if isinstance(p, str) else p.__name__)


def layer_and_input(call: str, kind: Any) -> tuple[Any, Any, dict[str, Any]]:
    options, form, more = CALLS[call]
    lstm = kind(I, H, **options)
    return lstm, form(torch.randn(T, N, I, dtype=options.get("dtype"))), more


class Crossings:
    """The engine's functions, each call of which is written down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        for name in ("forward", "backward", "trace", "kept", "rows"):
            monkeypatch.setattr(_engine, name, self._counted(name, getattr(_engine, name)))

    def _counted(self, name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def crossing(*arguments: Any) -> Any:
            self.names.append(name)
            return run(*arguments)

        return crossing


@each_call
def test_a_call_with_gradients_crosses_once_each_way(call: str, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lstm, x, more = layer_and_input(call, kind)
    crossings = Crossings(monkeypatch)
    _, last = lstm(x, **more)
    assert crossings.names == ["forward"]
    sum(t.sum() for t in states_of(last)).backward()
    assert crossings.names == ["forward", "backward"]


@each_call
def test_a_call_without_crosses_once(call: str, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lstm, x, more = layer_and_input(call, kind)
    crossings = Crossings(monkeypatch)
    with torch.no_grad():
        lstm(x, **more)
        if call != "batch_first":  # the engine leaves such rows, and gets them in order
            assert crossings.names == ["forward"]


@pytest.mark.parametrize(("kind", "step"), [(LSTM, LSTMCell), (GRU, GRUCell)], ids=["LSTM", "GRU"])
def test_a_cell_and_a_trace_cross_once(kind: Any, step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cell, lstm = step(I, H), kind(I, H, 2)
    crossings = Crossings(monkeypatch)
    cell(torch.randn(N, I))[0].sum().backward()
    assert crossings.names == ["forward", "backward"]
    crossings.names.clear()
    lstm.trace(torch.randn(T, N, I)).layers[0][0][2].sum().backward()
    assert crossings.names == ["trace", "backward"]


def files_on_the_way(lstm: Any, *arguments: Any, **more: Any) -> list[str]:
    """The files of the package in which functions are called between LSTM.forward and the engine; repeats in a row once."""
    seen: list[str] = []

    def watch(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            seen.append(frame.f_code.co_filename)

    real, at_the_engine = _engine.forward, []

    def engine(*given: Any) -> Any:
        if not at_the_engine:
            at_the_engine.append(len(seen))
        done = real(*given)
        if done is None:  # not yet: the way goes on
            at_the_engine.clear()
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_engine, "forward", engine)
        sys.setprofile(watch)
        try:
            lstm(*arguments, **more)
        finally:
            sys.setprofile(None)
    ours = [
        str(Path(name).relative_to(SOURCE)) for name in seen[: at_the_engine[0]] if Path(name).is_relative_to(SOURCE)
    ]
    return [name for name, _ in groupby(ours)]


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("kind", [LSTM, GRU])
@pytest.mark.parametrize("call", ["dense", "packed", "lengths"])
def test_the_way_down_is_short_and_passes_no_file_twice(call: str, kind: Any, grad: bool) -> None:
    lstm, x, more = layer_and_input(call, kind)
    with torch.set_grad_enabled(grad):
        lstm(x, **more)  # what is only found once
        first, *files = files_on_the_way(lstm, x, **more)
    assert first == "torch/layer.py"
    assert len(files) <= 5, files
    assert len({first, *files}) == 1 + len(files), files
