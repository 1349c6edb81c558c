"""Inputs, states, weights and cotangents of any stride and offset."""

import pytest
import torch
from conftest import assert_close, draw, evaluate, twin
from torch import Tensor, nn

from fastlstm import LSTM


def strange(tensor: Tensor) -> dict[str, Tensor]:
    """The same values behind other strides and offsets."""
    every_other = torch.full((*tensor.shape[:-1], 2 * tensor.shape[-1]), torch.nan, dtype=tensor.dtype)
    every_other[..., ::2] = tensor
    offset = torch.full((tensor.numel() + 1,), torch.nan, dtype=tensor.dtype)
    offset[1:] = tensor.flatten()
    last_first = tensor.transpose(0, -1).contiguous().transpose(0, -1)
    return {
        "every other": every_other[..., ::2],
        "offset by one": offset[1:].view(tensor.shape),
        "last dimension first": last_first,
        "lazily negated": torch._neg_view(-tensor),
        "expanded": tensor[..., :1].expand_as(tensor),
    }


@pytest.mark.parametrize("kind", ["every other", "offset by one", "last dimension first", "lazily negated", "expanded"])
@pytest.mark.parametrize("place", ["x", "h_0", "c_0", "doutput", "dh_n", "dc_n"])
def test_inputs_and_cotangents_of_any_stride(place, kind):
    ours = LSTM(5, 9, 2, bidirectional=True, dtype=torch.float64)
    call = draw(ours, 6, 4)
    x, (h_0, c_0), (doutput, dh_n, dc_n) = call
    names = {"x": x, "h_0": h_0, "c_0": c_0, "doutput": doutput, "dh_n": dh_n, "dc_n": dc_n}
    names[place] = strange(names[place])[kind].requires_grad_(place in ("x", "h_0", "c_0"))
    x, h_0, c_0, *cotangents = names.values()

    def run(lstm: nn.Module) -> dict[str, Tensor]:
        output, (h_n, c_n) = lstm(x, (h_0, c_0))
        wanted = [*lstm.parameters()] + [t for t in (x, h_0, c_0) if t.requires_grad]
        gradients = torch.autograd.grad((output, h_n, c_n), wanted, cotangents)
        return {"output": output, "h_n": h_n, "c_n": c_n} | {f"d{k}": g for k, g in enumerate(gradients)}

    assert_close(run(ours), run(twin(ours)))


@pytest.mark.parametrize("kind", ["every other", "offset by one", "last dimension first", "expanded"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_weights_of_any_stride(dtype, kind):
    ours = LSTM(5, 9, 2, bidirectional=True, proj_size=3, dtype=dtype)
    for parameter in ours.parameters():
        parameter.data = strange(parameter.data)[kind]
    call = draw(ours, 6, 4)
    found = evaluate(ours, call)
    assert_close(found, evaluate(twin(ours, torch.float64), call.to(torch.float64)), dtype)


def test_sum_of_the_output_as_loss():
    """Its cotangent is one number expanded over the whole output: every stride is zero."""
    ours = LSTM(5, 9, batch_first=True, dtype=torch.float64)
    theirs = twin(ours)
    x = torch.randn(4, 6, 5, dtype=torch.float64)
    for lstm in (ours, theirs):
        lstm(x)[0].sum().backward()
    found, expected = ({f"d{name}": p.grad for name, p in lstm.named_parameters()} for lstm in (ours, theirs))
    assert_close(found, expected)
