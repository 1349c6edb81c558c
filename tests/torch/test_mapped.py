"""vmap over calls where members stand side by side, or go straight to the engine, and the odd ones: none, under autocast."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from fastlstm import GRU, LSTM
from tests.tolerances import AUTOCAST_LOSS
from tests.torch.test_transforms import CLOSE, H, I, N, T, build, draw, each_layer, flat


@each_layer
def test_vmap_over_inputs_without_gradients(kind, options, monkeypatch):
    """Where the call goes straight to the engine, and where it does not."""
    layer, x = build(kind, options), draw(build(kind, options), 6)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    by_equal = {"rtol": 0, "atol": 0} if not layer.proj_size else CLOSE

    def call(x: Tensor) -> Any:
        return flat(layer(x))

    def loop(run: Any, each: Any) -> Any:
        return [torch.stack(found) for found in zip(*map(run, each), strict=True)]

    with torch.no_grad():
        expected = loop(call, x)
        with monkeypatch.context() as patch:
            patch.setattr("fastlstm.torch.runners.mapped.run", None)
            for dim in range(4):
                torch.testing.assert_close(vmap(call, dim)(x.movedim(0, dim)), expected, **by_equal)
        torch.testing.assert_close(vmap(call)(x.float().double()), loop(call, x.float().double()), **CLOSE)
        pairs = x.unflatten(0, (2, 3))
        found = vmap(vmap(call))(pairs)
        torch.testing.assert_close([t.flatten(0, 1) for t in found], expected, **CLOSE)
        torch.testing.assert_close(vmap(call, 1)(x[:, :1].movedim(0, 1)), loop(call, x[:, :1]), **CLOSE)
        stacked = {name: torch.stack([p, -p]) for name, p in parameters.items()}
        found = vmap(lambda p, x: flat(functional_call(layer, p, (x,))))(stacked, x[:2])
        members = [{name: t[k] for name, t in stacked.items()} for k in range(2)]
        each = [flat(functional_call(layer, p, (t,))) for p, t in zip(members, x[:2], strict=True)]
        torch.testing.assert_close(found, [torch.stack(t) for t in zip(*each, strict=True)], **CLOSE)
        if layer.num_layers > 1:
            layer.train().dropout = 0.5
            with pytest.raises(RuntimeError, match="random"):
                vmap(call)(x)


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_vmap_under_autocast(kind):
    layer, x = kind(I, H), torch.randn(3, T, N, I)
    with torch.autocast("cpu", torch.bfloat16):
        found = vmap(lambda x: layer(x)[0])(x)
        torch.testing.assert_close(
            found, torch.stack([layer(each)[0] for each in x]), rtol=AUTOCAST_LOSS, atol=AUTOCAST_LOSS
        )


@pytest.mark.parametrize("kind", [LSTM, GRU])
@pytest.mark.parametrize("grad_mode", [torch.enable_grad, torch.no_grad])
def test_no_member_at_all(kind, grad_mode):
    layer, x = build(kind, {}), torch.randn(0, T, N, I, dtype=torch.float64)
    with grad_mode():
        assert vmap(lambda x: layer(x)[0])(x).shape == (0, T, N, H)
    loss = grad(lambda p, x: functional_call(layer, p, (x,))[0].sum())
    found = vmap(loss, (None, 0))({name: p.detach() for name, p in layer.named_parameters()}, x)
    assert found["weight_hh_l0"].shape == (0, *layer.weight_hh_l0.shape)
