"""semantics.md, "The machinery people lean on": what PyTorch code does to a layer besides calling it.

Whatever changes a parameter, the next call sees it; whatever replaces one, trains as the equations in plain Python do.
"""

import copy
import io
import multiprocessing
import pickle
from collections.abc import Callable

import pytest
import torch
from conftest import assert_bits, assert_close, draw, evaluate, twin
from equations import Equations
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from fastlstm import LSTM

NAMES = [f"{kind}_l{k}" for k in range(2) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
X = torch.randn(6, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TARGET = torch.randn(6, 4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def build() -> LSTM:
    return LSTM(5, 9, 2, dtype=torch.float64)


def train(model: nn.Module, steps: int = 5) -> list[float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.5)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(X)[0] - TARGET).pow(2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def assert_same_layer(ours: nn.Module, reference: nn.Module) -> None:
    """The reference has ours' present parameters: one call must give the same results."""
    output, (h_n, c_n) = ours(X)
    expected, (expected_h, expected_c) = reference(X)
    assert_close({"output": output, "h_n": h_n, "c_n": c_n}, {"output": expected, "h_n": expected_h, "c_n": expected_c})


# Copies


def through_pickle(lstm: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(lstm))


def through_torch_save(lstm: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(lstm, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, through_pickle, through_torch_save])
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_a_copy_is_the_same_layer(duplicate, used):
    ours = LSTM(5, 9, 3, bidirectional=True, proj_size=4, dropout=0.5, batch_first=True).eval()
    call = draw(ours, 6, 4)
    if used:
        evaluate(ours, call)
        ours.zero_grad(set_to_none=True)
    again = duplicate(ours)
    assert type(again) is LSTM
    assert repr(again) == repr(ours)
    assert again.training == ours.training
    assert_bits(evaluate(again, call), evaluate(ours, call))
    assert [id(p) for layer in again.all_weights for p in layer] == [id(p) for p in again.parameters()]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, through_pickle, through_torch_save])
def test_a_copy_has_parameters_of_its_own(duplicate):
    ours = build()
    before = ours(X)[0]
    again = duplicate(ours)
    train(again)
    assert not torch.equal(again(X)[0], before)
    assert torch.equal(ours(X)[0], before)


def test_a_model_that_holds_it_copies_and_moves():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = LSTM(5, 9, batch_first=True), nn.Linear(9, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(x)[0][:, -1])

    model = Model()
    x = torch.randn(4, 6, 5)
    again = copy.deepcopy(model).double()
    torch.testing.assert_close(again(x.double()).float(), model(x))
    assert list(again.state_dict()) == list(model.state_dict())


# Moves and loads


@pytest.mark.parametrize("move", [nn.Module.double, nn.Module.half, nn.Module.bfloat16], ids=lambda m: m.__name__)
def test_to_another_dtype_and_back(move):
    ours, theirs = LSTM(5, 9, 2), nn.LSTM(5, 9, 2)
    theirs.load_state_dict(ours.state_dict())
    ours(torch.randn(6, 4, 5))
    move(ours), move(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    call = draw(ours, 6, 4)
    assert_close(evaluate(ours, call), evaluate(twin(ours, torch.float64), call.to(torch.float64)))
    ours.float()
    call = draw(ours, 6, 4)
    assert_close(evaluate(ours, call), evaluate(twin(ours, torch.float64), call.to(torch.float64)))


def test_meta_construction_to_empty_and_load():
    source = build()
    ours = LSTM(5, 9, 2, device="meta", dtype=torch.float64).to_empty(device="cpu")
    ours.load_state_dict(source.state_dict())
    assert_same_layer(ours, source)
    ours.reset_parameters()
    assert ours.weight_hh_l1.abs().max() <= 1 / 3


def test_meta_construction_and_assigning_load():
    """assign=True puts the checkpoint's own tensors in place of the parameters."""
    source = nn.LSTM(5, 9, 2, dtype=torch.float64)
    ours = LSTM(5, 9, 2, device="meta", dtype=torch.float64)
    state = source.state_dict()
    ours.load_state_dict(state, assign=True)
    assert ours.weight_ih_l0.data_ptr() == state["weight_ih_l0"].data_ptr()
    assert_same_layer(ours, source)
    fresh = nn.LSTM(5, 9, 2, dtype=torch.float64)
    ours.load_state_dict(fresh.state_dict(), assign=True)
    assert_same_layer(ours, fresh)


def test_skip_init_and_delayed_initialisation():
    ours = nn.utils.skip_init(LSTM, 5, 9, 2, dtype=torch.float64)
    ours.load_state_dict(build().state_dict())
    assert_same_layer(ours, twin(ours))


# A parameter changed in any way is seen by the next call


def with_optimizer(lstm: nn.Module) -> None:
    train(lstm, 1)


def with_load_state_dict(lstm: nn.Module) -> None:
    lstm.load_state_dict(build().state_dict())


def with_data_copy(lstm: nn.Module) -> None:
    for parameter in lstm.parameters():
        parameter.data.copy_(parameter.data * 2)


def with_data_swap(lstm: nn.Module) -> None:
    for parameter in lstm.parameters():
        parameter.data = parameter.data * 2


def with_a_view(lstm: nn.Module) -> None:
    lstm.weight_hh_l1.detach()[3:7, 2] += 5
    lstm.bias_ih_l0.detach().view(3, 12)[1].zero_()


def with_numpy(lstm: nn.Module) -> None:
    lstm.weight_ih_l0.detach().numpy()[:] *= -1


def with_a_new_parameter(lstm: nn.Module) -> None:
    lstm.weight_ih_l0 = nn.Parameter(lstm.weight_ih_l0.detach() * 3)


def with_init(lstm: nn.Module) -> None:
    for name, parameter in lstm.named_parameters():
        (nn.init.orthogonal_ if "weight" in name else nn.init.ones_)(parameter)


def with_vector_to_parameters(lstm: nn.Module) -> None:
    vector = nn.utils.parameters_to_vector(lstm.parameters())
    nn.utils.vector_to_parameters(vector * 2, lstm.parameters())


def with_clipping(lstm: nn.Module) -> None:
    for parameter in lstm.parameters():
        parameter.data.clamp_(-0.1, 0.1)


CHANGES: list[Callable[[nn.Module], None]] = [
    with_optimizer,
    with_load_state_dict,
    with_data_copy,
    with_data_swap,
    with_a_view,
    with_numpy,
    with_a_new_parameter,
    with_init,
    with_vector_to_parameters,
    with_clipping,
]


@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize("T", [1, 6])
@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__)
def test_a_changed_parameter_is_seen_by_the_next_call(change, T, grad):
    ours = build()
    with torch.set_grad_enabled(grad):
        for _ in range(3):
            before = ours(X[:T])[0]
    change(ours)
    with torch.set_grad_enabled(grad):
        after = ours(X[:T])[0]
        assert not torch.equal(after, before)
        torch.testing.assert_close(after, twin(ours)(X[:T])[0])


def _double_in_place(lstm: nn.Module, inbox: "multiprocessing.Queue[list[float]]") -> None:
    torch.set_num_threads(1)
    for parameter in lstm.parameters():
        parameter.data.mul_(2)
    with torch.no_grad():
        inbox.put(lstm(X)[0].flatten().tolist())


def test_another_process_through_share_memory():
    """What a child writes the parent's next call reads, and the other way round; the child can call the layer too."""
    ours = build().share_memory()
    assert all(parameter.is_shared() for parameter in ours.parameters())
    before = ours(X)[0]
    context = multiprocessing.get_context("spawn")
    inbox = context.Queue()
    child = context.Process(target=_double_in_place, args=(ours, inbox), daemon=True)
    child.start()
    theirs = torch.tensor(inbox.get(timeout=60), dtype=torch.float64)
    child.join(60)
    assert child.exitcode == 0
    after = ours(X)[0]
    assert not torch.equal(after, before)
    torch.testing.assert_close(after.flatten(), theirs)
    assert_same_layer(ours, twin(ours))


# Tools that replace parameters: trained, against the equations in plain Python


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 2


class Symmetric(nn.Module):
    """The candidate gate's recurrent weights from an orthogonal-ish factor: a parametrization of another shape inside."""

    def forward(self, weight: Tensor) -> Tensor:
        return torch.tanh(weight) - 0.1 * weight.flip(0)


def with_parametrize(model: nn.Module) -> None:
    for name in NAMES:
        parametrize.register_parametrization(model, name, Doubled() if "bias" in name else Symmetric())


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
    assert losses == pytest.approx(expected, rel=1e-12)
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


def test_ema_swaps_of_data_are_seen():
    ours = build()
    average = torch.optim.swa_utils.AveragedModel(ours, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
    for _ in range(3):
        train(ours, 1)
        average.update_parameters(ours)
        assert_same_layer(average, twin(average.module))
        kept = [p.data.clone() for p in ours.parameters()]
        for mine, other in zip(ours.parameters(), average.parameters(), strict=True):
            mine.data.copy_(other.data)
        assert_same_layer(ours, average)
        for mine, other in zip(ours.parameters(), kept, strict=True):
            mine.data.copy_(other)
        assert_same_layer(ours, twin(ours))


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
    assert losses[0] == pytest.approx(losses[1], rel=1e-8)
