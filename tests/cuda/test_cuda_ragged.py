"""lengths, reset, mask and nested tensors on CUDA, beside torch's layer row by row on the CPU; and how often the host waits."""

import warnings

import pytest
import torch

from fastlstm import GRU, LSTM
from tests.conftest import assert_close, draw, evaluate, like, states_of
from tests.cuda.on_device import DEVICE, found_on
from tests.torch.row_by_row import row_by_row
from tests.torch.step_by_step import step_by_step
from tests.torch.test_reset_to import stored

T, N = 9, 5
RESET = torch.zeros(T, N, dtype=torch.bool)
RESET[4, 1] = RESET[0, 3] = RESET[7, 3] = RESET[8, 0] = True
LENGTHS = [3, 0, 9, 1, 6]
MASK = torch.arange(T)[:, None] < torch.tensor(LENGTHS)
ROWS = {"lengths": {"lengths": LENGTHS}, "reset": {"reset": RESET}, "both": {"lengths": LENGTHS, "reset": RESET}}
each_layer = pytest.mark.parametrize("kind", [LSTM, GRU])


@pytest.mark.parametrize("where", ["cpu", DEVICE.type])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("rows", ROWS)
@each_layer
def test_every_row_is_what_it_is_alone(kind, rows, dtype, where):
    layer = kind(5, 7, 2, bidirectional=True, dtype=dtype)
    call = draw(layer, T, N)
    expected = evaluate(row_by_row(layer, torch.float64), call.to(torch.float64), **ROWS[rows])
    given = {name: torch.as_tensor(value).to(where) for name, value in ROWS[rows].items()}
    assert_close(found_on(layer, call, **given), expected, dtype)


@pytest.mark.parametrize("rows", ["reset", "both"])
@each_layer
def test_segments_start_from_given_states(kind, rows):
    layer = kind(5, 7, 2, dtype=torch.float64)
    call, reset_to = draw(layer, T, N), stored(layer, T, N)
    expected = evaluate(step_by_step(layer), call, **ROWS[rows], reset_to=reset_to)
    there = like(reset_to, [t.to(DEVICE) for t in states_of(reset_to)])
    assert_close(found_on(layer, call, **ROWS[rows], reset_to=there), expected)


@each_layer
def test_a_mask_is_lengths(kind):
    layer = kind(5, 7, dtype=torch.float64)
    call = draw(layer, T, N)
    expected = evaluate(layer, call, lengths=LENGTHS)
    assert_close(found_on(layer, call, mask=MASK.to(DEVICE)), expected)


@each_layer
@pytest.mark.parametrize("reset", [None, RESET])
def test_no_steps_at_all(kind, reset):
    layer = kind(5, 7, 2, dtype=torch.float64)
    call = draw(layer, T, N)
    expected = evaluate(layer, call, lengths=[0] * N, reset=reset)
    assert_close(found_on(layer, call, lengths=[0] * N, reset=reset), expected)


@each_layer
def test_nested_tensors(kind):
    layer = kind(5, 7, dtype=torch.float64)
    rows = [torch.randn(n, 5, dtype=torch.float64) for n in (4, 1, 6)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a prototype, says torch
        jagged = torch.nested.nested_tensor(rows, layout=torch.jagged, device=DEVICE)
        output, _ = layer.to(DEVICE)(jagged)
        found = [row.cpu() for row in output.unbind()]
    layer.cpu()
    for row, own in zip(rows, found, strict=True):
        assert_close({"output": own}, {"output": layer(row)[0]})


@pytest.mark.parametrize("default", ["cpu", DEVICE.type])
@each_layer
def test_whatever_the_default_device_is(kind, default):
    layer = kind(5, 7, dtype=torch.float64)
    call = draw(layer, T, N)
    expected = evaluate(layer, call, lengths=LENGTHS)
    layer.to(DEVICE)
    with torch.device(default), torch.no_grad():
        output, _ = layer(call.x.to(DEVICE), None if call.hx is None else call.to(DEVICE).hx, lengths=LENGTHS)
    assert_close({"output": output.cpu()}, {"output": expected["output"]})


@pytest.mark.parametrize(("where", "waits"), [("cpu", 0), (DEVICE.type, 1)])
@pytest.mark.parametrize("name", ["lengths", "reset", "mask"])
@each_layer
def test_the_host_waits_once_for_what_is_on_the_device(kind, name, where, waits):
    layer = kind(5, 7, device=DEVICE)
    x = torch.randn(T, N, 5, device=DEVICE)
    given = {name: {"lengths": torch.tensor(LENGTHS), "reset": RESET, "mask": MASK}[name].to(where)}
    layer(x, **given)  # what cuDNN sets up at first
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            layer(x, **given)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found = [str(w.message) for w in said if "synchroniz" in str(w.message)]
    assert len(found) == waits, found
