"""The op of lengths, resets and nested tensors where something records it: torch's own checks, compile, export."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from fastlstm import LSTM
from fastlstm.torch.graph import operator
from fastlstm.torch.runners.fallback import FallbackWarning

T, N, I, H = 7, 3, 4, 8

falls_back = pytest.mark.filterwarnings(f"ignore::{FallbackWarning.__module__}.{FallbackWarning.__name__}")
prototype = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")

CONFIGURATIONS = [
    {},
    {"num_layers": 2, "bidirectional": True, "proj_size": 3, "batch_first": True},
    {"num_layers": 2, "bias": False},
]


def double(**options: Any) -> LSTM:
    return LSTM(I, H, dtype=torch.float64, **options)


@pytest.mark.parametrize("save", [True, False])
@pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)
def test_the_operators_keep_torchs_rules(options: dict[str, Any], save: bool) -> None:
    lstm = double(**options)
    sizes = lstm._sizes
    weights = [p.detach().requires_grad_(save) for p in lstm.parameters()]
    turned = options.get("batch_first", False)
    rows = (N, T) if turned else (T, N)
    x = torch.randn(*rows, I, dtype=torch.float64, requires_grad=save)
    h_0 = torch.randn(sizes.chains, N, sizes.out, dtype=torch.float64, requires_grad=save)
    c_0 = torch.randn(sizes.chains, N, H, dtype=torch.float64, requires_grad=save)
    masks = [torch.ones(T, N, sizes.D * sizes.out, dtype=torch.float64)] * (sizes.layers - 1)
    per_row = operator.saved_reals(*sizes.numbers, dtype="float64") if save else 0
    reset = torch.rand(rows) < 0.3  # without lengths: what no step is saved for would be compared, too
    arguments = (x, h_0, c_0, weights, masks, turned, None, reset, None, None, sizes.numbers, per_row)
    torch.library.opcheck(operator.lstm, arguments)


def evaluate(lstm: LSTM, run: Any, x: Tensor, hx: tuple[Tensor, Tensor] | None, **ragged: Any) -> dict[str, Tensor]:
    """Results of a call and the gradients of a function of all of them, by name."""
    x = x.clone().requires_grad_()
    state = None if hx is None else (hx[0].clone().requires_grad_(), hx[1].clone().requires_grad_())
    lstm.zero_grad()
    output, (h_n, c_n) = run(x, state, **ragged)
    (output.sin().sum() + h_n.cos().sum() + c_n.square().sum()).backward()
    values = {"output": output, "h_n": h_n, "c_n": c_n, "x.grad": x.grad}
    if state is not None:
        values |= {"h_0.grad": state[0].grad, "c_0.grad": state[1].grad}
    return values | {f"{name}.grad": p.grad for name, p in lstm.named_parameters()}


RAGGED = {
    "list": {"lengths": [7, 2, 5]},
    "a row of none": {"lengths": torch.tensor([7, 0, 3], dtype=torch.uint8)},
    "no step at all": {"lengths": torch.tensor([0, 0, 0])},
    "a rectangle": {"lengths": torch.tensor([7, 7, 7])},
    "reset": {"reset": torch.arange(T * N).reshape(T, N) % 5 == 0},
    "both": {"lengths": torch.tensor([1, 7, 4]), "reset": torch.arange(T * N).reshape(T, N) % 4 == 0},
}


@pytest.mark.parametrize("ragged", RAGGED.values(), ids=RAGGED)
@pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)
def test_a_compiled_call_is_one_graph_with_the_eager_calls_numbers(
    compiler: None, options: dict[str, Any], ragged: dict[str, Any]
) -> None:
    lstm = double(**options)
    sizes = lstm._sizes
    x = torch.randn(T, N, I, dtype=torch.float64)
    if lstm.batch_first:
        x = x.transpose(0, 1).contiguous()
        ragged = {name: value.t() if name == "reset" else value for name, value in ragged.items()}
    hx = torch.randn(sizes.chains, N, sizes.out).double(), torch.randn(sizes.chains, N, H).double()
    compiled = torch.compile(lstm, fullgraph=True, backend="aot_eager")
    actual, expected = (evaluate(lstm, run, x, hx, **ragged) for run in (compiled, lstm))
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, msg=lambda said, name=name: f"{name}: {said}")


def test_a_compiled_call_without_a_batch(compiler: None) -> None:
    lstm = double(bidirectional=True)
    compiled = torch.compile(lstm, fullgraph=True, backend="aot_eager")
    x = torch.randn(T, I, dtype=torch.float64)
    for ragged in ({"lengths": 4}, {"reset": torch.arange(T) == 3}):
        actual, expected = evaluate(lstm, compiled, x, None, **ragged), evaluate(lstm, lstm, x, None, **ragged)
        for name, value in expected.items():
            torch.testing.assert_close(actual[name], value, msg=lambda said, name=name: f"{name}: {said}")


@prototype
@pytest.mark.filterwarnings("ignore:_get_data_attr")
def test_a_compiled_call_of_a_nested_tensor(compiler: None) -> None:
    lstm = double(num_layers=2)
    compiled = torch.compile(lstm, fullgraph=True, backend="aot_eager")
    rows = [torch.randn(n, I, dtype=torch.float64) for n in (3, 5, 1)]
    nested = torch.nested.nested_tensor(rows, layout=torch.jagged)
    output, (h_n, c_n) = compiled(nested)
    for k, row in enumerate(rows):
        alone, (h, c) = lstm(row)
        torch.testing.assert_close(output.unbind()[k], alone)
        torch.testing.assert_close(h_n[:, k], h)
        torch.testing.assert_close(c_n[:, k], c)


def test_dropout_drops_what_it_drops_in_an_eager_call(compiler: None) -> None:
    lstm = double(num_layers=3, dropout=0.5)
    compiled = torch.compile(lstm, fullgraph=True, backend="aot_eager")
    x, lengths = torch.randn(T, N, I, dtype=torch.float64), torch.tensor([2, 7, 4])
    results = []
    for run in (lstm, compiled):
        torch.manual_seed(3)
        results.append(run(x, lengths=lengths)[0])
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits(compiler: None, dtype: torch.dtype) -> None:
    lstm = LSTM(I, H, dtype=dtype)
    compiled = torch.compile(lstm, fullgraph=True, backend="aot_eager")
    x = torch.randn(T, N, I).to(dtype)
    torch.testing.assert_close(compiled(x, lengths=[1, 7, 4])[0], lstm(x, lengths=[1, 7, 4])[0])


def test_an_exported_call_takes_other_sizes_and_lengths() -> None:
    lstm = double(num_layers=2)
    steps, rows = torch.export.Dim("T"), torch.export.Dim("N")
    x = torch.randn(T, N, I, dtype=torch.float64)
    shapes = {"input": {0: steps, 1: rows}, "hx": None, "lengths": {0: rows}}
    exported = torch.export.export(lstm, (x, None, torch.tensor([7, 0, 3])), dynamic_shapes=shapes).module()
    x, lengths = torch.randn(9, 2, I, dtype=torch.float64), torch.tensor([3, 9])
    torch.testing.assert_close(exported(x, None, lengths), lstm(x, None, lengths))
    with pytest.raises(ValueError, match="lengths: expected numbers from 0 to L = 9, got 10"):
        exported(x, None, lengths + 1)


def test_what_a_graph_is_given_is_checked() -> None:
    lstm = double()
    x, state = torch.randn(T, N, I, dtype=torch.float64), torch.zeros(1, N, H, dtype=torch.float64)
    weights, numbers = [p.detach() for p in lstm.parameters()], lstm._sizes.numbers

    def run(x: Tensor, lengths: Any = None, reset: Any = None, offsets: Any = None) -> None:
        operator.lstm(x, state, state, weights, [], False, lengths, reset, None, offsets, numbers, 0)

    lengths = torch.tensor([7, 0, 3])
    run(x, lengths)
    with pytest.raises(RuntimeError, match="expected input"):
        run(x[:, 1:], lengths)
    with pytest.raises(RuntimeError, match="one dtype"):
        run(x.float(), lengths)
    values = x.reshape(T * N, I)
    for given in (
        (x, torch.tensor([7])),
        (x, torch.tensor([7, 0, 3], dtype=torch.int32)),
        (x, None, torch.zeros(1, 1, dtype=torch.bool)),
        (x, None, torch.zeros(T, N)),
        (values, None, None, torch.tensor([0, 21])),
        (values, torch.tensor([7]), None, torch.tensor([0, 7, 14, 21])),
    ):
        with pytest.raises(RuntimeError, match="expected lengths, resets or offsets of shape"):
            run(*given)


@falls_back
def test_trace_with_a_row_of_none_under_the_compiler(compiler: None) -> None:
    lstm = double()
    x = torch.randn(T, N, I, dtype=torch.float64)
    compiled = torch.compile(lstm.trace, backend="eager")
    with torch.no_grad():
        actual, expected = compiled(x, lengths=[7, 2, 0]), lstm.trace(x, lengths=[7, 2, 0])
    torch.testing.assert_close(actual.layers[0][0].f, expected.layers[0][0].f)


@falls_back
@pytest.mark.parametrize("ragged", RAGGED.values(), ids=RAGGED)
@pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)
def test_gradients_of_its_gradients(options: dict[str, Any], ragged: dict[str, Any]) -> None:
    """Under saved-tensor hooks, which record the call, as without."""
    lstm = double(**options)
    x = torch.randn(T, N, I, dtype=torch.float64)
    if lstm.batch_first:
        x, ragged = x.transpose(0, 1), {k: v.t() if k == "reset" else v for k, v in ragged.items()}
    found = []
    for hooks in (nullcontext(), torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t)):
        leaf = x.clone().requires_grad_()
        with hooks:
            output, (h_n, _) = lstm(leaf, **ragged)
        (dx,) = torch.autograd.grad(output.sin().sum() + h_n.cos().sum(), leaf, create_graph=True)
        found.append([dx, *torch.autograd.grad(dx.square().sum(), [leaf, *lstm.parameters()])])
    assert found[0][0].abs().sum() > 0 or "no step" in str(ragged) or not output.any()
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@falls_back
@pytest.mark.parametrize("batch_first", [False, True])
def test_what_the_engine_does_not_take_keeps_its_lengths_under_the_compiler(compiler: None, batch_first: bool) -> None:
    lstm = LSTM(I, H, dtype=torch.complex64, batch_first=batch_first)
    x = torch.randn(N, T, I, dtype=torch.complex64)
    x = x if batch_first else x.transpose(0, 1).contiguous()
    with torch.no_grad():
        actual, expected = torch.compile(lstm, backend="eager")(x, lengths=[7, 2, 5]), lstm(x, lengths=[7, 2, 5])
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("kind", [list, torch.tensor])
def test_other_lengths_compile_nothing_anew(compiler: None, kind: Any) -> None:
    lstm = double()
    seen = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lstm, fullgraph=True, backend=seen)
    x = torch.randn(T, N, I, dtype=torch.float64)
    for lengths in ([7, 2, 5], [3, 4, 6], [2, 7, 3], [5, 3, 4], [4, 6, 2]):
        torch.testing.assert_close(compiled(x, lengths=kind(lengths)), lstm(x, lengths=lengths))
    assert seen.frame_count <= 2


def test_autocast_gives_one_dtype_whatever_the_lengths() -> None:
    lstm = LSTM(I, H)
    state = torch.zeros(1, N, H)
    for lengths in ([7, 2, 5], [7, 0, 5]):
        with torch.autocast("cpu", torch.bfloat16):
            output, (h_n, c_n) = lstm(torch.randn(T, N, I), (state, state), lengths=lengths)
        assert output.dtype is h_n.dtype is c_n.dtype is torch.bfloat16
