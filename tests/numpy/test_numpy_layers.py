"""fastlstm.numpy: the torch face's bits, shapes and errors."""

import random
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

import fastlstm
import fastlstm.numpy
from tests.conftest import outcome

COUNT = 240


class Configuration(NamedTuple):
    cell: str
    dtype: torch.dtype
    T: int
    N: int | None
    I: int
    H: int
    P: int
    layers: int
    bias: bool
    bidirectional: bool
    batch_first: bool
    hx: bool
    lengths: bool
    reset: bool
    seed: int


def configurations() -> list[Configuration]:
    pick = random.Random(18)
    found = []
    for seed in range(COUNT):
        cell, H = ("LSTM", "GRU")[seed % 2], pick.choice([1, 3, 8, 16, 17, 33, 64])
        found.append(
            Configuration(
                cell=cell,
                dtype=pick.choice([torch.float32, torch.float64]),
                T=pick.choice([1, 1, 2, 5, 17, 64]),
                N=pick.choice([None, 1, 2, 5, 8, 17]),
                I=pick.choice([1, 2, 7, 16, 33]),
                H=H,
                P=pick.randint(1, H - 1) if cell == "LSTM" and H > 1 and pick.random() < 0.3 else 0,
                layers=pick.choice([1, 2, 3]),
                bias=pick.random() < 0.7,
                bidirectional=pick.random() < 0.4,
                batch_first=pick.random() < 0.5,
                hx=pick.random() < 0.5,
                lengths=pick.random() < 0.4,
                reset=pick.random() < 0.4,
                seed=seed,
            )
        )
    return found


def arrays_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: t.numpy() for name, t in module.state_dict().items()}


def as_tuple(states: Any) -> tuple[Any, ...]:
    return states if isinstance(states, tuple) else (states,)


def mapped(function: Any, states: Any) -> Any:
    return tuple(map(function, states)) if isinstance(states, tuple) else function(states)


def same_bits(ours: np.ndarray, theirs: torch.Tensor, name: str) -> None:
    assert (ours.shape, str(ours.dtype)) == (tuple(theirs.shape), str(theirs.dtype).removeprefix("torch.")), name
    assert np.array_equal(ours, theirs.numpy(), equal_nan=True), name


@pytest.mark.parametrize("c", configurations(), ids=lambda c: f"{c.cell}-{c.seed}")
def test_bits_are_those_of_the_torch_face(c):
    torch.manual_seed(c.seed)
    projection = {"proj_size": c.P} if c.P else {}
    layer = getattr(fastlstm, c.cell)(
        c.I, c.H, c.layers, c.bias, c.batch_first, 0.0, c.bidirectional, **projection, dtype=c.dtype
    )
    ours = getattr(fastlstm.numpy, c.cell).from_state(arrays_of(layer), batch_first=c.batch_first)
    lead = [c.T] if c.N is None else [c.N, c.T] if c.batch_first else [c.T, c.N]
    batch = [] if c.N is None else [c.N]
    x = torch.randn(*lead, c.I, dtype=c.dtype)
    states = [
        torch.randn(c.layers * (1 + c.bidirectional), *batch, features, dtype=c.dtype) for features in (c.P or c.H, c.H)
    ]
    hx: Any = None if not c.hx else tuple(states) if c.cell == "LSTM" else states[0]
    lengths = torch.randint(0, c.T + 1, batch) if c.lengths else None
    reset = torch.rand(lead) < 0.2 if c.reset else None
    arguments = [x, hx, lengths, reset]
    given = [None if a is None else mapped(lambda t: t.numpy(), a) for a in arguments]
    with torch.no_grad():
        output, last = layer(*arguments)
        trace = layer.trace(*arguments)
    found, found_last = ours(*given)
    same_bits(found, output, "output")
    for name, mine, other in zip("hc", as_tuple(found_last), as_tuple(last), strict=False):
        same_bits(mine, other, f"{name}_n")
    traced = ours.trace(*given)
    assert type(traced) is type(trace)
    for mine, other in zip(traced.layers, trace.layers, strict=True):
        for steps, other_steps in zip(mine, other, strict=True):
            for name, array, tensor in zip(steps._fields, steps, other_steps, strict=True):
                same_bits(array, tensor, name)


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell"])
@pytest.mark.parametrize("batch", [(), (1,), (6,)])
def test_cells(name, batch):
    cell = getattr(fastlstm, name)(7, 5)
    ours = getattr(fastlstm.numpy, name).from_state(arrays_of(cell))
    x, h, c = torch.randn(*batch, 7), torch.randn(*batch, 5), torch.randn(*batch, 5)
    hx = (h, c) if name == "LSTMCell" else h
    with torch.no_grad():
        for given in (None, hx):
            expected = as_tuple(cell(x, given))
            found = as_tuple(ours(x.numpy(), None if given is None else mapped(lambda t: t.numpy(), given)))
            for mine, other in zip(found, expected, strict=True):
                same_bits(mine, other, name)


def lstm(**options: Any) -> tuple[Any, Any]:
    module = fastlstm.LSTM(3, 4, **options)
    return module, fastlstm.numpy.LSTM.from_state(arrays_of(module), batch_first=options.get("batch_first", False))


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape)


WRONG = {
    "4-D input": (zeros(1, 5, 2, 3),),
    "features": (zeros(5, 2, 4),),
    "features, unbatched": (zeros(5, 4),),
    "no steps": (zeros(0, 2, 3),),
    "h_0 batch": (zeros(5, 2, 3), (zeros(1, 3, 4), zeros(1, 2, 4))),
    "c_0 features": (zeros(5, 2, 3), (zeros(1, 2, 4), zeros(1, 2, 5))),
    "2-D states": (zeros(5, 2, 3), (zeros(2, 4), zeros(2, 4))),
    "three states": (zeros(5, 2, 3), (zeros(1, 2, 4),) * 3),
    "lengths of another shape": (zeros(5, 2, 3), None, torch.tensor([1, 2, 3])),
    "lengths of floats": (zeros(5, 2, 3), None, torch.tensor([1.0, 2.0])),
    "a length beyond L": (zeros(5, 2, 3), None, torch.tensor([1, 6])),
    "a length below 0": (zeros(5, 2, 3), None, torch.tensor([-1, 2])),
    "reset of another shape": (zeros(5, 2, 3), None, None, torch.zeros(2, 5, dtype=torch.bool)),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_those_of_the_torch_face(name):
    module, ours = lstm()
    arguments = [None if a is None else mapped(lambda t: t.numpy(), a) for a in WRONG[name]]
    with torch.no_grad():
        expected = outcome(lambda: module(*WRONG[name]))
    assert expected[0] is not None
    kind, words = outcome(lambda: ours(*arguments))
    assert kind is expected[0], words
    assert words.replace("float32", "").replace("torch.", "") == expected[1].replace("float32", "").replace(
        "torch.", ""
    )


def test_other_dtypes_are_named():
    _, ours = lstm()
    with pytest.raises(ValueError, match=r"RNN input dtype \(float64\) does not match weight dtype \(float32\)"):
        ours(np.zeros((5, 2, 3)))
    with pytest.raises(RuntimeError, match="not the same dtype"):
        ours(np.zeros((5, 2, 3), np.float32), (np.zeros((1, 2, 4)), np.zeros((1, 2, 4))))
    with pytest.raises(TypeError, match="expected bool, got int64"):
        ours(np.zeros((5, 2, 3), np.float32), None, None, np.zeros((5, 2), np.int64))


def test_arrays_of_any_layout_and_lists():
    module, ours = lstm(batch_first=True)
    x = torch.randn(2, 5, 3)
    with torch.no_grad():
        expected = module(x)[0].numpy()
    plain = x.numpy()
    views = [
        np.asfortranarray(plain),
        np.repeat(plain, 2, axis=1)[:, ::2],
        plain.astype(">f4"),
        np.frombuffer(b"." + plain.tobytes(), np.uint8)[1:].view(np.float32).reshape(plain.shape),
    ]
    for view in views:
        assert np.array_equal(ours(view)[0], expected)
    assert np.array_equal(ours(plain, None, [5, 5])[0], expected)
    with pytest.raises(ValueError, match="does not match weight dtype"):
        ours(plain.tolist())  # of float64


def test_weights_are_copies_that_nobody_changes():
    module, _ = lstm()
    state = {name: array.copy() for name, array in arrays_of(module).items()}
    ours = fastlstm.numpy.LSTM.from_state(state)
    x = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    before = ours(x)[0]
    for array in state.values():
        array[:] = 0
    assert np.array_equal(ours(x)[0], before)
    with pytest.raises(ValueError, match="read-only"):
        ours.weights["weight_ih_l0"][:] = 0


@pytest.mark.parametrize(
    ("kind", "state", "words"),
    [
        ("LSTM", {}, "it has no recurrent layer"),
        ("LSTM", {"encoder.weight_hh_l0": np.zeros((16, 4))}, "it has layers under 'encoder.'"),
        ("LSTM", {"weight_hh_l0": np.zeros((16, 4))}, "there is no weight_ih_l0"),
        ("LSTM", {"weight_ih_l0": np.zeros((12, 3)), "weight_hh_l0": np.zeros((12, 4))}, "such as a GRU has"),
        ("GRU", {"weight_ih_l0": np.zeros((16, 3)), "weight_hh_l0": np.zeros((16, 4))}, "such as a LSTM has"),
        ("LSTM", {"weight_ih_l0": np.zeros(16), "weight_hh_l0": np.zeros((16, 4))}, "2 dimensions"),
        ("GRU", {"weight_ih_l0": np.zeros((0, 3)), "weight_hh_l0": np.zeros((0, 0))}, "expected the parameters"),
        ("LSTM", {"weight_ih_l0": np.zeros((16, 3), int), "weight_hh_l0": np.zeros((16, 4), int)}, "of one dtype"),
        (
            "LSTM",
            {"weight_ih_l0": np.zeros((16, 3)), "weight_hh_l0": np.zeros((16, 4)), "bias_ih_l0": np.zeros(16)},
            "there is no bias_hh_l0",
        ),
    ],
)
def test_what_is_no_such_layer_is_refused(kind, state, words):
    with pytest.raises(ValueError, match=words):
        getattr(fastlstm.numpy, kind).from_state(state)


def test_threads_change_no_bit():
    module = fastlstm.LSTM(64, 128, 2)
    ours = fastlstm.numpy.LSTM.from_state(arrays_of(module))
    x = np.random.default_rng(0).standard_normal((50, 8, 64)).astype(np.float32)
    usual = fastlstm.numpy.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        fastlstm.numpy.set_num_threads(threads)
        results.append(ours(x)[0])
    fastlstm.numpy.set_num_threads(usual)
    assert all(np.array_equal(result, results[0]) for result in results)
    with pytest.raises(ValueError, match="positive"):
        fastlstm.numpy.set_num_threads(0)


def test_a_large_result_is_an_array_like_any_other():
    lstm = fastlstm.numpy.LSTM.from_state({name: t.numpy() for name, t in nn.LSTM(3, 64).state_dict().items()})
    x = np.zeros((1000, 4, 3), np.float32)
    output, _ = lstm(x)
    assert output.nbytes > 512 << 10  # from where on its memory is the engine's
    assert type(output) is np.ndarray
    assert output.flags.writeable
    assert output.flags.c_contiguous
    expected = output.copy()
    views = [lstm(x)[0][1:] for _ in range(3)]  # each in memory of its own, as long as anyone looks at it
    output[...] = 7
    del output
    assert all(np.array_equal(view, expected[1:]) for view in views)
