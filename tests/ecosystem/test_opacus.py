"""Opacus: differentially private training. It refuses an nn.LSTM, or puts a layer of its own there, by `type(module)`."""

import copy

import pytest
import torch
from opacus import PrivacyEngine
from opacus.layers import DPLSTM
from opacus.validators import ModuleValidator
from opacus.validators.errors import ShouldReplaceModuleError, UnsupportedModuleError
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import fastlstm


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 8, batch_first=True)
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.lstm(x)
        return self.head(output[:, -1])


def train(model: nn.Module) -> list[float]:
    x, y = torch.randn(2, 32, 6, 3, generator=torch.Generator().manual_seed(0)).unbind()
    model, optimizer, data = PrivacyEngine().make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        data_loader=DataLoader(TensorDataset(x, y.mean((1, 2))), batch_size=8),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        poisson_sampling=False,
        noise_generator=torch.Generator().manual_seed(1),
    )
    losses = []
    for x, y in data:
        optimizer.zero_grad()
        loss = (model(x).squeeze(-1) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_it_refuses_and_replaces_a_layer_that_kept_its_type():
    model, x = Model(), torch.randn(4, 6, 3)
    expected, losses = model(x).detach(), train(ModuleValidator.fix(copy.deepcopy(model)))
    assert fastlstm.convert(model, keep_type=True).changed == ["lstm"]
    torch.testing.assert_close(model(x).detach(), expected)
    assert [type(error) for error in ModuleValidator.validate(model)] == [ShouldReplaceModuleError]
    with pytest.raises(UnsupportedModuleError):
        train(copy.deepcopy(model))
    fixed = ModuleValidator.fix_and_validate(model)
    assert type(fixed.lstm) is DPLSTM
    torch.testing.assert_close(fixed(x).detach(), expected)
    assert train(fixed) == losses
