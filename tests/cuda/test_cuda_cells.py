"""Cells on CUDA: nn.LSTMCell's numbers and derivatives of any order, in training and out of it."""

import pytest
import torch
from torch import nn

from fastlstm import GRUCell, LSTMCell
from tests.conftest import states_of
from tests.cuda.on_device import DEVICE

each_cell = pytest.mark.parametrize("kind", [LSTMCell, GRUCell])


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("N", [4, None])
@pytest.mark.parametrize("bias", [True, False])
@each_cell
def test_it_is_torchs_cell(kind, bias, N, training):
    ours = kind(5, 7, bias=bias, dtype=torch.float64, device=DEVICE).train(training)
    theirs = getattr(nn, kind.__name__)(5, 7, bias=bias, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(*([] if N is None else [N]), 5, dtype=torch.float64)
    last = states_of(ours(x.to(DEVICE)))
    expected = states_of(theirs(x))
    torch.testing.assert_close([t.cpu() for t in last], list(expected))
    sum(t.square().sum() for t in last).backward()
    sum(t.square().sum() for t in expected).backward()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p.grad.cpu(), q.grad)


@each_cell
def test_gradients_of_gradients(kind):
    cell = kind(2, 3, dtype=torch.float64, device=DEVICE)
    x = torch.randn(2, 2, dtype=torch.float64, device=DEVICE, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: states_of(cell(x)), (x,))
