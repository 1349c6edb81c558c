"""Modules that move between devices, change their class, and refuse what lies elsewhere."""

import copy
import io
import warnings

import pytest
import torch
from torch import nn

import fastlstm
from fastlstm import GRU, LSTM
from tests.conftest import assert_bits, assert_close, draw, evaluate, outcome
from tests.cuda.on_device import DEVICE, found_on, their_own

each_layer = pytest.mark.parametrize("kind", [LSTM, GRU])


def one_piece(layer: nn.Module) -> bool:
    return len({p.untyped_storage().data_ptr() for p in layer.parameters()}) == 1


MOVES = {
    "made there": lambda kind: kind(5, 7, 2, device=DEVICE),
    "to": lambda kind: kind(5, 7, 2).to(DEVICE),
    "cuda": lambda kind: nn.Sequential(kind(5, 7, 2)).cuda()[0],
    "half": lambda kind: kind(5, 7, 2).to(DEVICE).half(),
    "deepcopy": lambda kind: copy.deepcopy(kind(5, 7, 2, device=DEVICE)),
}


@pytest.mark.parametrize("move", MOVES)
@each_layer
def test_parameters_lie_in_one_piece_wherever_they_came_from(kind, move):
    layer = MOVES[move](kind)
    assert one_piece(layer)
    x = torch.randn(4, 2, 5, device=DEVICE, dtype=layer.weight_ih_l0.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch's says that they do not
        layer(x)[0].sum().backward()


@each_layer
def test_there_and_back_changes_no_bit(kind):
    layer = kind(5, 7, 2)
    call = draw(layer, 6, 3)
    expected = evaluate(layer, call)
    before = {name: t.clone() for name, t in layer.state_dict().items()}
    found = found_on(layer, call)
    assert_close(found, found_on(their_own(layer), call), torch.float32)
    assert_bits(layer.cpu().state_dict(), before)
    assert_bits(evaluate(layer, call), expected)


@each_layer
def test_state_dicts_and_pickles_cross_devices(kind):
    layer = kind(5, 7, 2, device=DEVICE)
    other = kind(5, 7, 2)
    other.load_state_dict(layer.state_dict())
    file = io.BytesIO()
    torch.save(layer, file)
    for where in ("cpu", DEVICE):
        file.seek(0)
        loaded = torch.load(file, map_location=where, weights_only=False)
        assert next(loaded.parameters()).device.type == torch.device(where).type
        assert_bits({n: t.cpu() for n, t in loaded.state_dict().items()}, other.state_dict())
        loaded(torch.randn(4, 2, 5, device=where))


@each_layer
def test_tensors_elsewhere_are_refused_in_torchs_words(kind):
    layer = kind(3, 4, device=DEVICE)
    theirs = their_own(kind(3, 4))
    here, there = draw(layer, 5, 2), draw(layer, 5, 2).to(DEVICE)
    for x, hx in ((here.x, here.hx), (there.x, here.hx)):
        expected, found = outcome(lambda x=x, hx=hx: theirs(x, hx)), outcome(lambda x=x, hx=hx: layer(x, hx))
        assert found == expected
        assert "not at the same device" in found[1]


@each_layer
def test_the_engine_takes_pinned_memory_and_no_other_device(kind):
    layer = kind(3, 4)
    call = draw(layer, 5, 2)
    assert_bits(evaluate(layer, call._replace(x=call.x.pin_memory())), evaluate(layer, call))
    with torch.no_grad():
        assert torch.equal(
            layer(call.x, lengths=torch.tensor([5, 2], device=DEVICE))[0], layer(call.x, lengths=[5, 2])[0]
        )
        assert outcome(lambda: layer(call.x.to(DEVICE)))[0] is RuntimeError


@each_layer
def test_a_stream_is_for_the_cpu(kind):
    with pytest.raises(TypeError, match="expected parameters on the CPU"):
        kind(3, 4, device=DEVICE).stream()


@pytest.mark.parametrize("how", ["convert", "keep_type", "enabled"])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_torchs_layers_that_were_converted(kind, how):
    layer = kind(5, 7, 2, device=DEVICE)
    call = draw(layer, 6, 3)
    expected = found_on(layer, call)
    if how == "enabled":
        with fastlstm.enabled():
            found = found_on(layer, call)
    else:
        assert fastlstm.convert(layer, keep_type=how == "keep_type").changed
        found = found_on(layer, call)
    assert_close(found, expected)
    fastlstm.revert(layer)
    assert_close(found_on(layer, call), expected)
