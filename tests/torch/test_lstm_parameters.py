"""What PyTorch code does to a layer and its parameters besides calling it: copies, moves and loads; and whatever changes a
parameter, the next call sees it.
"""

import copy
import io
import multiprocessing
import pickle
from collections.abc import Callable

import pytest
import torch
from conftest import assert_bits, assert_close, draw, evaluate, twin
from torch import Tensor, nn
from training import X, assert_same_layer, build, train

from fastlstm import GRU, LSTM, GRUCell, LSTMCell

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


@pytest.mark.parametrize("change", ["input_size", "num_layers", "bias", "bidirectional"])
def test_a_changed_argument_is_seen_by_the_next_call(change):
    """nn.LSTM reads its arguments at every call."""
    ours = LSTM(5, 4, 2, bidirectional=change == "bidirectional")
    value = {"input_size": 6, "num_layers": 1, "bias": False, "bidirectional": False}[change]
    sizes = {"num_layers": 2, "input_size": 5, "bias": True, "bidirectional": False} | {change: value}
    ours(torch.randn(3, 2, 5))
    setattr(ours, change, value)
    if change == "input_size":
        ours.weight_ih_l0 = nn.Parameter(torch.randn(16, 6))
    if change == "bidirectional":
        ours.weight_ih_l1 = nn.Parameter(torch.randn(16, 4))
    expected = nn.LSTM(sizes["input_size"], 4, sizes["num_layers"], bias=sizes["bias"])
    state = ours.state_dict()
    expected.load_state_dict({name: state[name] for name in expected.state_dict()})
    x = torch.randn(3, 2, sizes["input_size"])
    torch.testing.assert_close(ours(x), expected(x))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), expected(x))


def test_a_layer_from_before_projections_is_one_without():
    lstm, x = LSTM(5, 4), torch.randn(3, 2, 5)
    state = lstm.__dict__.copy()
    del state["proj_size"]
    again = LSTM.__new__(LSTM)
    again.__setstate__(state)
    assert again.proj_size == 0
    assert torch.equal(again(x)[0], lstm(x)[0])


@pytest.mark.parametrize("kind", [LSTM, LSTMCell, GRU, GRUCell])
def test_a_subclass_names_its_own_modules_as_it_likes(kind):
    """A class attribute of ours would hide a submodule or a parameter of that name."""

    class Own(kind):
        def __init__(self) -> None:
            super().__init__(3, 4)
            self.cell = nn.Linear(4, 4)
            self.sizes = nn.Parameter(torch.zeros(2))
            self.states = nn.Identity()

    own = Own()
    assert type(own.cell) is nn.Linear
    assert type(own.sizes) is nn.Parameter
    assert type(own.states) is nn.Identity
    public = {name for name in dir(kind) if not name.startswith("_")}
    theirs = {name for name in dir(getattr(nn, kind.__name__)) if not name.startswith("_")}
    assert public - theirs <= {"trace", "stream", "all_weights", "flatten_parameters", "checkpoint_every"}
    own(torch.randn(2, 3) if kind.__name__.endswith("Cell") else torch.randn(5, 2, 3))
