"""Whatever a call returned may be changed in place before backward: the gradients are those that nn.LSTM gives where the change
is made to a copy of its results, in every way of calling and under everything that watches a call.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from conftest import assert_close, draw, twin
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import fastlstm
from fastlstm import LSTM
from tests.torch.row_by_row import RowByRowLSTM

pytestmark = [
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage"),
    pytest.mark.filterwarnings("ignore:fastlstm runs in plain tensor operations"),  # a trace under hooks
]

T, N, I, H = 6, 4, 5, 9
LENGTHS = [6, 4, 3, 1]
Results = tuple[Tensor, Tensor, Tensor]  # output (of a packed or nested call its data), h_n, c_n
Run = Callable[..., Results]


def third(t: Tensor) -> Tensor:
    return torch.arange(t.numel()).reshape(t.shape) % 3 == 0


def add(t: Tensor) -> None:
    t += torch.linspace(-1, 1, t.shape[-1], dtype=t.dtype)


def change_all(output: Tensor, h_n: Tensor, c_n: Tensor) -> None:
    output.masked_fill_(third(output), 0)
    add(output)
    output.relu_()
    h_n.mul_(2)
    c_n.zero_()


def drop(output: Tensor) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        dropout(output, 0.5, inplace=True)


CHANGES: dict[str, Callable[[Tensor, Tensor, Tensor], object]] = {
    "masked_fill_": lambda output, *_: output.masked_fill_(third(output), 0),
    "dropout": lambda output, *_: drop(output),
    "relu_": lambda output, *_: output.relu_(),
    "+=": lambda output, *_: add(output),
    "mul_": lambda output, *_: output.mul_(2),
    "data": lambda output, *_: output.data.zero_(),
    "a view": lambda output, *_: output[:, 0].zero_(),
    "h_n and c_n": lambda output, h_n, c_n: (h_n.mul_(2), c_n.zero_()),
    "all": change_all,
}
each_change = pytest.mark.parametrize("change", CHANGES)

OPTIONS: list[dict[str, Any]] = [
    {},
    {"bidirectional": True},
    {"proj_size": 3},
    {"num_layers": 2, "dropout": 0.4},
    {"num_layers": 2, "proj_size": 3, "bidirectional": True},
    {"dtype": torch.float64},
    {"dtype": torch.bfloat16, "bidirectional": True},
    {"dtype": torch.float16, "proj_size": 3},
]
each_options = pytest.mark.parametrize("options", OPTIONS, ids=str)


def dense(lstm: Any, x: Tensor, hx: Any) -> Results:
    output, (h_n, c_n) = lstm(x, hx)
    return output, h_n, c_n


def packed(lstm: Any, x: Tensor, hx: Any) -> Results:
    output, (h_n, c_n) = lstm(pack_padded_sequence(x, torch.tensor(LENGTHS)), hx)
    assert isinstance(output, PackedSequence)
    return output.data, h_n, c_n


def by_lengths(lstm: Any, x: Tensor, hx: Any) -> Results:
    output, (h_n, c_n) = lstm(x, hx, lengths=LENGTHS)
    return output, h_n, c_n


def by_reset(lstm: Any, x: Tensor, hx: Any) -> Results:
    reset = torch.zeros(T, N, dtype=torch.bool)
    reset[3, 0] = reset[2:4, 1] = reset[0, 2] = True
    output, (h_n, c_n) = lstm(x, hx, lengths=LENGTHS, reset=reset)
    return output, h_n, c_n


def nested(lstm: Any, x: Tensor, hx: Any) -> Results:
    """Its values are those of the rows, one after the other, which nn.LSTM's are put together to."""
    rows = [x[:length, n] for n, length in enumerate(LENGTHS)]
    if isinstance(lstm, nn.LSTM):
        output, (h_n, c_n) = lstm(x, hx, lengths=LENGTHS)
        return torch.cat([output[:length, n] for n, length in enumerate(LENGTHS)]), h_n, c_n
    offsets = torch.tensor([0, *LENGTHS]).cumsum(0)
    output, (h_n, c_n) = lstm(torch.nested.nested_tensor_from_jagged(torch.cat(rows), offsets), hx)
    return output.values(), h_n, c_n


def traced(lstm: Any, x: Tensor, hx: Any) -> Results:
    if isinstance(lstm, nn.LSTM):
        return dense(lstm, x, hx)
    found = lstm.trace(x, hx)
    return found.output, found.h_n, found.c_n


WAYS: dict[str, Run] = {
    "dense": dense,
    "packed": packed,
    "lengths": by_lengths,
    "reset": by_reset,
    "nested": nested,
    "trace": traced,
}
each_way = pytest.mark.parametrize("way", WAYS)


def build(options: dict[str, Any]) -> LSTM:
    return LSTM(I, H, **options)


def reference(lstm: LSTM, way: str) -> nn.LSTM:
    """nn.LSTM in float64 with the parameters of `lstm`, one row after the other where it has no such call."""
    if way in ("dense", "packed", "trace"):
        return twin(lstm, torch.float64)
    layer = RowByRowLSTM(
        I, H, lstm.num_layers, bidirectional=lstm.bidirectional, proj_size=lstm.proj_size, dtype=torch.float64
    )
    layer.load_state_dict(lstm.state_dict())
    return layer


class Training:
    """The leaves of a call, and the gradients of them and of a layer's parameters."""

    def __init__(self, lstm: nn.Module, dtype: torch.dtype, of: LSTM) -> None:
        call = draw(of, T, N)
        assert isinstance(call.x, Tensor)
        assert call.hx is not None
        self.lstm, self.dtype = lstm, dtype
        self.x, self.h_0, self.c_0 = (t.to(dtype).requires_grad_() for t in (call.x, *call.hx))

    def loss(self, results: Results) -> Tensor:
        """Linear, so that only the LSTM and the change keep anything."""
        weights = [torch.linspace(-1, 1, t.numel()).reshape(t.shape).bfloat16().to(t.dtype) for t in results]
        return sum((t * w).sum() for t, w in zip(results, weights, strict=True))  # type: ignore[return-value]

    def gradients(self) -> dict[str, Tensor | None]:
        leaves = {"dx": self.x.grad, "dh_0": self.h_0.grad, "dc_0": self.c_0.grad}
        return leaves | {f"d{name}": p.grad for name, p in self.lstm.named_parameters()}


def run(way: str, training: Training, change: str, copy: bool) -> Results:
    torch.manual_seed(3)  # of the dropout between layers
    results = WAYS[way](training.lstm, training.x, (training.h_0, training.c_0))
    if copy:
        results = tuple(t.clone() for t in results)  # type: ignore[assignment]
    CHANGES[change](*results)
    return results


def expected(lstm: LSTM, way: str, change: str) -> dict[str, Tensor | None]:
    training = Training(reference(lstm, way), torch.float64, lstm)
    training.loss(run(way, training, change, True)).backward()
    return training.gradients()


def compare(found: Training, lstm: LSTM, way: str, change: str, times: int = 1) -> None:
    dtype = lstm.weight_ih_l0.dtype
    wanted = {k: None if t is None else t * times for k, t in expected(lstm, way, change).items()}
    assert_close(found.gradients(), wanted, dtype, hint=(way, change))


@each_change
@each_way
@each_options
def test_results_changed_in_place(options: dict[str, Any], way: str, change: str) -> None:
    lstm = build(options)
    if options.get("dropout") and way not in ("dense", "packed", "trace"):
        lstm.dropout = 0.0  # the reference has none
    training = Training(lstm, lstm.weight_ih_l0.dtype, lstm)
    training.loss(run(way, training, change, False)).backward()
    compare(training, lstm, way, change)


@contextmanager
def hooks(pack: Callable[[Tensor], Any] = lambda t: t, unpack: Callable[[Any], Tensor] = lambda t: t) -> Iterator[None]:
    with saved_tensors_hooks(pack, unpack):
        yield


WATCHED: dict[str, Callable[[], Any]] = {
    "hooks": hooks,
    "copying hooks": lambda: hooks(torch.clone),
    "save_on_cpu": save_on_cpu,
}
UNDER = {
    "nothing": nullcontext,
    **WATCHED,
}


@each_change
@each_way
@pytest.mark.parametrize("under", WATCHED)
@pytest.mark.parametrize("options", [OPTIONS[1], OPTIONS[4]], ids=str)
def test_under_hooks_on_what_is_saved(options: dict[str, Any], under: str, way: str, change: str) -> None:
    """Of identity, torch checks no versions."""
    lstm = build(options)
    training = Training(lstm, torch.float32, lstm)
    with WATCHED[under]():
        results = run(way, training, change, False)
    training.loss(results).backward()
    compare(training, lstm, way, change)


@each_change
@pytest.mark.parametrize("way", ["dense", "packed"])
@pytest.mark.parametrize("under", ["nothing", "hooks"])
@pytest.mark.parametrize("how", ["enabled", "convert"])
@pytest.mark.parametrize("options", [*OPTIONS[:4], *OPTIONS[5:7]], ids=str)
def test_nn_lstm_on_the_engine(options: dict[str, Any], how: str, under: str, way: str, change: str) -> None:
    lstm = build(options)
    model = nn.Sequential(twin(lstm))
    if how == "convert":
        fastlstm.convert(model)
    training = Training(model[0], lstm.weight_ih_l0.dtype, lstm)
    with fastlstm.enabled() if how == "enabled" else nullcontext(), UNDER[under]():
        results = run(way, training, change, False)
    training.loss(results).backward()
    compare(training, lstm, way, change)


def part(lstm: nn.Module, way: str, change: str | None) -> Callable[[Tensor, Tensor, Tensor], Results]:
    """A part of a model: the call, and the change where it is in there, too."""

    def run(x: Tensor, h_0: Tensor, c_0: Tensor) -> Results:
        results = WAYS[way](lstm, x, (h_0, c_0))
        if change is not None:
            CHANGES[change](*results)
        return results

    return run


CHECKPOINTED = [
    *(
        (reentrant, True, way)
        for reentrant in (True, False)
        for way in ("dense", "packed", "lengths", "reset", "trace")
    ),
    *((False, False, way) for way in ("dense", "packed", "lengths", "reset", "trace")),
    *((True, False, way) for way in ("dense", "packed", "trace")),  # which torch allows where the result is no view
]


@each_change
@pytest.mark.parametrize(("reentrant", "inside", "way"), CHECKPOINTED)
def test_in_a_checkpoint(reentrant: bool, inside: bool, way: str, change: str) -> None:
    lstm = build({"bidirectional": True})
    training = Training(lstm, torch.float32, lstm)

    results = checkpoint(
        part(lstm, way, change if inside else None), training.x, training.h_0, training.c_0, use_reentrant=reentrant
    )
    if not inside:
        CHANGES[change](*results)
    training.loss(results).backward()
    compare(training, lstm, way, change)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # after a graph break
@pytest.mark.parametrize("change", ["relu_", "data", "a view", "all"])
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("way", ["dense", "packed", "reset"])
def test_compiled(compiler: None, way: str, backend: str, inside: bool, change: str) -> None:
    lstm = build({"num_layers": 2})
    training = Training(lstm, torch.float32, lstm)

    results = torch.compile(part(lstm, way, change if inside else None), backend=backend)(
        training.x, training.h_0, training.c_0
    )
    if not inside:
        CHANGES[change](*results)
    training.loss(results).backward()
    compare(training, lstm, way, change)


@pytest.mark.parametrize(
    "way", [way for way in WAYS if way != "nested"]
)  # its values() can't be changed without a gradient
@pytest.mark.parametrize("under", UNDER)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"proj_size": 3}], ids=str)
def test_changed_after_the_loss_and_between_two_backwards(options: dict[str, Any], under: str, way: str) -> None:
    lstm = build(options)
    training = Training(lstm, torch.float32, lstm)
    change = "h_n and c_n"
    with UNDER[under]():
        results = run(way, training, change, False)
    loss = training.loss(results)
    with torch.no_grad():
        results[0].mul_(3)
    loss.backward(retain_graph=True)
    results[0].data.fill_(torch.nan)
    loss.backward()
    compare(training, lstm, way, change, times=2)


@each_change
def test_one_layer_on_anothers_changed_output(change: str) -> None:
    first, second = build({}), LSTM(H, H, bidirectional=True)
    found = []
    for layers in ((first, second), (twin(first, torch.float64), twin(second, torch.float64))):
        theirs = layers[0] is not first
        training = Training(nn.ModuleList(layers), torch.float64 if theirs else torch.float32, first)
        for layer in layers:
            layer.zero_grad()
        x, hx = training.x, (training.h_0, training.c_0)
        for layer in layers:
            results = dense(layer, x, hx)
            results = tuple(t.clone() for t in results) if theirs else results
            CHANGES[change](*results)
            x, hx = results[0], None
        training.loss(results).backward()
        found.append(training.gradients())
    assert_close(*found, torch.float32, hint=change)


@each_change
def test_gradients_of_gradients(change: str) -> None:
    lstm = build({"dtype": torch.float64})
    found = []
    for copy, layer in ((False, lstm), (True, twin(lstm))):
        training = Training(layer, torch.float64, lstm)
        results = run("dense", training, change, copy)
        (dx,) = torch.autograd.grad(training.loss(results), training.x, create_graph=True)
        dx.pow(2).sum().backward()
        found.append(training.gradients())
    assert_close(*found, hint=change)


@pytest.mark.parametrize("options", OPTIONS[:5], ids=str)
def test_the_output_need_not_outlive_forward(options: dict[str, Any]) -> None:
    """Nor is it kept: what backward reads is the engine's, or went in."""
    lstm = build(options)
    training = Training(lstm, torch.float32, lstm)
    output, _ = lstm(training.x, (training.h_0, training.c_0))
    kept = {t.data_ptr() for t in output.grad_fn.saved_tensors if t is not None}
    assert training.x.data_ptr() in kept
    assert output.data_ptr() not in kept
