"""A call without gradients in one crossing: what it takes, what it leaves to the long way, and that both agree."""

import itertools
import threading
from types import SimpleNamespace

import pytest
import torch
from conftest import assert_bits

import fastlstm
from fastlstm import LSTM, LSTMCell, _engine

pytestmark = pytest.mark.skipif(
    not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"), reason="this torch has no DLPack exchange table"
)


def infer(lstm, x, hx=None, lengths=None, reset=None, parameters=None, threads=1):
    sizes, batch_first = lstm._sizes, getattr(lstm, "batch_first", False)
    parameters = lstm._parameters if parameters is None else parameters
    done = _engine.forward(sizes.layer, parameters, x, hx, threads, batch_first, lengths, reset)
    if done is None:
        return None
    return done[1] if isinstance(lstm, LSTMCell) else done[:2]


def named(results):
    if isinstance(results[1], tuple):
        return {"output": results[0], "h_n": results[1][0], "c_n": results[1][1]}
    return {"h_n": results[0], "c_n": results[1]}


def the_long_way(lstm, x, hx=None):
    """The same call with gradients on: it never takes the short way."""
    results = lstm(x, hx)
    return {name: tensor.detach() for name, tensor in named(results).items()}


OPTIONS = [
    {},
    {"bias": False},
    {"num_layers": 2, "bidirectional": True},
    {"proj_size": 3},
    {"num_layers": 3, "bidirectional": True, "proj_size": 2, "bias": False},
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_resets_are_taken_along(options, dtype):
    shapes = ((1, 1), (1, 5), (7, 1), (9, 4), (8, None))
    for (T, N), hx, batch_first, often in itertools.product(shapes, (False, True), (False, True), (0.0, 0.3, 1.0)):
        lstm = LSTM(6, 9, batch_first=batch_first, dtype=dtype, **options)
        batch = [] if N is None else [N]
        steps = [N, T] if N and batch_first else [T, *batch]
        x, reset = torch.randn(*steps, 6, dtype=dtype), torch.rand(steps) < often
        chains, out = lstm._sizes.chains, lstm._sizes.out
        states = (torch.randn(chains, *batch, out, dtype=dtype), torch.randn(chains, *batch, 9, dtype=dtype))
        initial = states if hx else None
        expected = {k: t.detach() for k, t in named(lstm(x, initial, reset=reset)).items()}
        hint = f"T {T}, N {N}, hx {hx}, batch_first {batch_first}, resets {often}"
        with torch.no_grad():
            whole = infer(lstm, x, initial, None, reset, threads=2)
            apart = infer(lstm, x, initial, None, torch.stack([reset, ~reset], -1)[..., 0], threads=2)  # not dense
            for wrong in (reset.long(), reset[..., None], torch.ones(T + 1, N or 1, dtype=torch.bool), reset.tolist()):
                assert infer(lstm, x, initial, None, wrong) is None
        for found in (whole, apart):
            assert found is not None, hint
            assert_bits(named(found), expected, hint)
            assert {k: t.stride() for k, t in named(found).items()} == {k: t.stride() for k, t in expected.items()}, (
                hint
            )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_lengths_are_taken_along(options, dtype):
    shapes = ((1, 1), (1, 5), (7, 1), (9, 4), (3, 9))
    for (T, N), hx, batch_first, often in itertools.product(shapes, (False, True), (False, True), (None, 0.3)):
        lstm = LSTM(6, 9, batch_first=batch_first, dtype=dtype, **options)
        steps = [N, T] if batch_first else [T, N]
        x, lengths = torch.randn(*steps, 6, dtype=dtype), torch.randint(1, T + 1, [N])
        reset = None if often is None else torch.rand(steps) < often
        chains, out = lstm._sizes.chains, lstm._sizes.out
        states = (torch.randn(chains, N, out, dtype=dtype), torch.randn(chains, N, 9, dtype=dtype))
        initial = states if hx else None
        expected = {k: t.detach() for k, t in named(lstm(x, initial, lengths=lengths, reset=reset)).items()}
        hint = f"lengths {lengths}, hx {hx}, batch_first {batch_first}, reset {reset}"
        with torch.no_grad():
            found = infer(lstm, x, initial, lengths, reset, threads=2)
            too_long = lengths.clone()
            too_long[-1] = T + 1
            apart = torch.stack([lengths, lengths], -1)[..., 0]
            others = (
                lengths.int(),
                lengths.double(),
                lengths[None],
                lengths[1:],
                lengths.tolist(),
                torch._neg_view(lengths),
            )
            for other in (too_long, -lengths, *others, *([apart] if N > 1 else [])):
                assert infer(lstm, x, initial, other, reset) is None, other
        assert found is not None, hint
        assert_bits(named(found), expected, hint)
        assert {k: t.stride() for k, t in named(found).items()} == {k: t.stride() for k, t in expected.items()}, hint


def test_one_sequence_has_a_number_for_its_length():
    lstm, x, lengths = LSTM(6, 9), torch.randn(5, 6), torch.tensor([3])
    with torch.no_grad():
        assert infer(lstm, x, None, lengths) is None
        with pytest.raises(ValueError, match="expected one number for an unbatched input"):
            lstm(x, lengths=lengths)
        assert torch.equal(lstm(x, lengths=lengths[0])[0][3:], torch.zeros(2, 9))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_gives_the_bits_shapes_and_strides_of_the_long_way(options, dtype):
    for (T, N), hx, batch_first in itertools.product(((1, 1), (1, 5), (7, 1), (4, None)), (False, True), (False, True)):
        lstm = LSTM(6, 9, batch_first=batch_first, dtype=dtype, **options)
        batch = [] if N is None else [N]
        x = torch.randn(*([N, T] if N and batch_first else [T, *batch]), 6, dtype=dtype)
        chains, out = lstm._sizes.chains, lstm._sizes.out
        states = (torch.randn(chains, *batch, out, dtype=dtype), torch.randn(chains, *batch, 9, dtype=dtype))
        initial = states if hx else None
        with torch.no_grad():
            results = infer(lstm, x, initial)
        assert results is not None
        expected = the_long_way(lstm, x, initial)
        hint = f"T {T}, N {N}, hx {hx}, batch_first {batch_first}"
        assert_bits(named(results), expected, hint)
        for name, tensor in named(results).items():
            assert tensor.stride() == expected[name].stride(), f"{name}: {hint}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_cell_gives_the_bits_of_the_long_way(dtype):
    for N, hx, bias in itertools.product((None, 1, 5), (False, True), (False, True)):
        cell = LSTMCell(6, 9, bias, dtype=dtype)
        batch = [] if N is None else [N]
        initial = (torch.randn(*batch, 9, dtype=dtype), torch.randn(*batch, 9, dtype=dtype)) if hx else None
        x = torch.randn(*batch, 6, dtype=dtype)
        results = infer(cell, x, initial)
        assert results is not None
        assert_bits(named(results), the_long_way(cell, x, initial), f"N {N}, hx {hx}, bias {bias}")


def test_the_module_takes_it_without_gradients_only(monkeypatch):
    taken = []
    watched = SimpleNamespace(forward=lambda *arguments: taken.append(1) or _engine.forward(*arguments))
    monkeypatch.setattr("fastlstm.torch.layer._engine", watched)
    lstm, x = LSTM(3, 4, 2, dropout=0.5), torch.randn(1, 1, 3)
    lstm(x)
    with torch.no_grad():
        lstm(x)  # in training mode, with dropout
    assert not taken
    lstm.eval()
    with torch.no_grad():
        lstm(x)
    with torch.inference_mode():
        assert lstm(x)[0].is_inference()
    assert len(taken) == 2


class Tagged(torch.Tensor):
    pass


def freed():
    x = torch.randn(1, 1, 3)
    x.untyped_storage().resize_(0)
    return x


LEFT = {
    "a list": lambda: [1.0],
    "another dtype": lambda: torch.randn(1, 1, 3).half(),
    "integers": lambda: torch.ones(1, 1, 3, dtype=torch.int32),
    "complex": lambda: torch.randn(1, 1, 3, dtype=torch.complex64),
    "a subclass": lambda: torch.randn(1, 1, 3).as_subclass(Tagged),
    "another device": lambda: torch.randn(1, 1, 3, device="meta"),
    "wrong features": lambda: torch.randn(1, 1, 4),
    "too many dimensions": lambda: torch.randn(1, 1, 1, 3),
    "too few dimensions": lambda: torch.randn(3),
    "no steps": lambda: torch.randn(0, 1, 3),
    "strided": lambda: torch.randn(1, 1, 6)[..., ::2],
    "a lazy negation": lambda: torch._neg_view(torch.randn(1, 1, 3)),
    "sparse": lambda: torch.randn(1, 1, 3).to_sparse(),
    "memory freed": freed,
    "a lazy zero": lambda: torch._efficientzerotensor((1, 1, 3)),
}


@pytest.mark.parametrize("kind", LEFT)
def test_input_that_it_leaves_to_the_long_way(kind):
    assert infer(LSTM(3, 4), LEFT[kind]()) is None


@pytest.mark.parametrize(
    "hx",
    [
        [torch.zeros(1, 1, 4), torch.zeros(1, 1, 4)],
        (torch.zeros(1, 1, 4),),
        (torch.zeros(1, 1, 5), torch.zeros(1, 1, 4)),
        (torch.zeros(1, 1, 4), torch.zeros(1, 4)),
        (torch.zeros(1, 1, 4), torch.zeros(1, 1, 4, dtype=torch.float64)),
        (torch.zeros(1, 1, 4), torch._neg_view(torch.zeros(1, 1, 4))),
        (torch.zeros(1, 1, 4), None),
        torch.zeros(2, 1, 1, 4),
    ],
    ids=["a list", "one state", "features", "dimensions", "dtype", "a lazy negation", "None", "a tensor"],
)
def test_states_that_it_leaves_to_the_long_way(hx):
    assert infer(LSTM(3, 4), torch.randn(1, 1, 3), hx) is None


def test_no_rows_are_taken():
    output, (h_n, c_n) = infer(LSTM(3, 4), torch.randn(2, 0, 3))
    assert (output.shape, h_n.shape, c_n.shape) == ((2, 0, 4), (1, 0, 4), (1, 0, 4))


def test_batch_first_rows_that_must_be_reordered_are_left():
    assert infer(LSTM(3, 4, batch_first=True), torch.randn(2, 5, 3)) is None


def test_parameters_that_it_leaves_to_the_long_way():
    x = torch.randn(1, 1, 3)
    for change in (
        lambda p: p.double(),
        lambda p: p[:-1],
        lambda p: torch.zeros(p.shape[1], p.shape[0]).t(),
        lambda p: p.as_subclass(Tagged),
        lambda p: None,
    ):
        lstm = LSTM(3, 4).requires_grad_(False)
        parameters = {**lstm._parameters, "weight_hh_l0": change(lstm.weight_hh_l0)}
        assert infer(lstm, x, parameters=parameters) is None
    lstm = LSTM(3, 4)
    assert infer(lstm, x, parameters={}) is None


def test_a_device_or_function_mode_changes_nothing():
    lstm, x = LSTM(3, 4), torch.randn(1, 1, 3)
    expected = the_long_way(lstm, x)
    with torch.no_grad(), torch.device("meta"):
        assert_bits(named(lstm(x)), expected)
    torch.set_default_dtype(torch.float64)
    with torch.no_grad():
        assert_bits(named(lstm(x)), expected)


def test_a_parameter_whose_data_was_exchanged_is_read_anew():
    lstm, x = LSTM(3, 4), torch.randn(1, 1, 3)
    with torch.no_grad():
        lstm(x)
        lstm.weight_ih_l0.data = torch.randn(16, 3)
        assert_bits(named(lstm(x)), the_long_way(lstm, x))
        lstm.weight_ih_l0.data = torch.randn(3, 16).t()
        assert_bits(named(lstm(x)), the_long_way(lstm, x))
    assert fastlstm.engine(lstm, x).name == "native"


def test_a_parameter_replaced_while_the_engine_reads_it_stays_alive():
    lstm, x = (
        LSTM(32, 256),
        torch.randn(50, 4, 32),
    )  # weights of 1 MiB: freed, they go back to the system, and a read crashes
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            lstm.weight_hh_l0 = torch.nn.Parameter(torch.zeros(1024, 256))

    with torch.no_grad():
        before = lstm(x)[0]
    replacing = threading.Thread(target=replace)
    replacing.start()
    try:
        with torch.no_grad():
            found = [lstm(x)[0] for _ in range(200)]
    finally:
        stop.set()
        replacing.join()
    with torch.no_grad():
        after = lstm(x)[0]
    assert all(torch.equal(output, before) or torch.equal(output, after) for output in found)
