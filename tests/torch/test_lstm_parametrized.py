"""parametrize, weight_norm, spectral_norm, prune and the like replace a parameter by something computed: each must really
train, as the equations in plain Python do; and so under an optimizer that clips gradients.
"""

import pytest
import torch
from conftest import assert_close, twin
from equations import Equations
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from training import TARGET, X, assert_same_layer, build, train

from fastlstm import LSTM
from tests.tolerances import CLIPPED_LOSS, TRAINED_LOSS

NAMES = [f"{kind}_l{k}" for k in range(2) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 2


class Mirrored(nn.Module):
    """A weight that depends on other rows of the parameter: bounded, less a tenth of its mirror image."""

    def forward(self, weight: Tensor) -> Tensor:
        return torch.tanh(weight) - 0.1 * weight.flip(0)


def with_parametrize(model: nn.Module) -> None:
    for name in NAMES:
        parametrize.register_parametrization(model, name, Doubled() if "bias" in name else Mirrored())


def with_weight_norm(model: nn.Module) -> None:
    for name in NAMES:
        if "weight" in name:
            parametrizations.weight_norm(model, name)


def with_old_weight_norm(model: nn.Module) -> None:
    for name in NAMES:
        if "weight" in name:
            with pytest.warns(FutureWarning, match="weight_norm"):
                nn.utils.weight_norm(model, name)


def with_spectral_norm(model: nn.Module) -> None:
    torch.manual_seed(0)
    for name in ("weight_hh_l0", "weight_hh_l1"):
        parametrizations.spectral_norm(model, name)


def with_old_spectral_norm(model: nn.Module) -> None:
    torch.manual_seed(0)
    for name in ("weight_hh_l0", "weight_hh_l1"):
        nn.utils.spectral_norm(model, name)


def with_orthogonal(model: nn.Module) -> None:
    torch.manual_seed(0)
    parametrizations.orthogonal(model, "weight_hh_l0")


def with_pruning(model: nn.Module) -> None:
    for name in NAMES:
        if "weight" in name:
            prune.l1_unstructured(model, name, amount=0.5)
    prune.ln_structured(model, "weight_hh_l1", amount=3, n=2, dim=0)


def with_random_pruning(model: nn.Module) -> None:
    torch.manual_seed(0)
    for name in NAMES:
        prune.random_unstructured(model, name, amount=0.3)


def with_tied_weights(model: nn.Module) -> None:
    model.weight_hh_l1 = model.weight_hh_l0
    model.bias_hh_l0 = model.bias_ih_l0
    model.weight_ih_l1 = model.weight_hh_l0


TOOLS = [
    with_parametrize,
    with_weight_norm,
    with_old_weight_norm,
    with_spectral_norm,
    with_old_spectral_norm,
    with_orthogonal,
    with_pruning,
    with_random_pruning,
    with_tied_weights,
]


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("tool", TOOLS, ids=lambda t: t.__name__)
def test_each_tool_really_trains(tool):
    ours = build()
    ours(X)
    reference = Equations(ours)
    tool(ours), tool(reference)
    losses, expected = train(ours), train(reference)
    assert losses == pytest.approx(expected, rel=TRAINED_LOSS)
    assert losses[-1] < losses[0]
    found = {f"d{name}": p.detach() for name, p in ours.named_parameters()}
    theirs = dict(reference.named_parameters())
    assert set(found) == {f"d{name}" for name in theirs}
    assert_close(found, {name: theirs[name[1:]].detach() for name in found}, torch.float64)
    assert_same_layer(ours.eval(), reference.eval())


def test_removing_a_parametrization_or_a_pruning_keeps_the_numbers():
    ours = build()
    with_parametrize(ours)
    before = ours(X)[0]
    assert type(ours).__name__ == "ParametrizedLSTM"
    for name in NAMES:
        parametrize.remove_parametrizations(ours, name)
    assert type(ours) is LSTM
    assert torch.equal(ours(X)[0], before)
    prune.l1_unstructured(ours, "weight_hh_l0", amount=0.5)
    pruned = ours(X)[0]
    prune.remove(ours, "weight_hh_l0")
    assert (ours.weight_hh_l0 == 0).sum() == 162
    assert torch.equal(ours(X)[0], pruned)
    assert isinstance(ours.weight_hh_l0, nn.Parameter)


def test_a_plain_tensor_in_place_of_a_parameter_is_differentiated_through():
    """Hyper-networks: weights computed by another module."""
    ours = build()
    reference = Equations(ours)
    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    gradients = []
    for model in (ours, reference):
        weight = model.weight_hh_l0.detach() * scale
        del model.weight_hh_l0
        model.weight_hh_l0 = weight
        gradients.append(torch.autograd.grad(model(X)[0].pow(2).sum(), scale)[0])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.Adam(p, lr=0.05),
        lambda p: torch.optim.AdamW(p, lr=0.05, foreach=True),
        lambda p: torch.optim.Adam(p, lr=0.05, fused=True),
        lambda p: torch.optim.RMSprop(p, lr=0.01),
    ],
    ids=["Adam", "AdamW_foreach", "Adam_fused", "RMSprop"],
)
def test_training_with_clipped_gradients_follows_nn_lstm(optimizer):
    ours = build()
    losses = []
    for lstm in (ours, twin(ours)):
        stepper = optimizer(lstm.parameters())
        found = []
        for _ in range(8):
            stepper.zero_grad()
            loss = (lstm(X)[0] - TARGET).pow(2).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(lstm.parameters(), 0.1)
            stepper.step()
            found.append(loss.item())
        losses.append(found)
    assert losses[0] == pytest.approx(losses[1], rel=CLIPPED_LOSS)
