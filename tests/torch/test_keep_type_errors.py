"""What goes wrong with a module that kept its type, or is not for the engine: torch's own errors, and its own kernels."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from tests.conftest import outcome
from tests.torch.kept import counting, kept


@pytest.fixture
def runs(monkeypatch):
    return counting(monkeypatch)


def wrong_calls() -> dict[str, object]:
    x, h, c = torch.zeros(5, 2, 3), torch.zeros(1, 2, 4), torch.zeros(1, 2, 4)

    def without(lstm: nn.LSTM) -> None:
        del lstm.weight_hh_l0
        lstm(x)

    def with_attribute(name: str, value: object):
        def call(lstm: nn.LSTM) -> list[Tensor]:
            setattr(lstm, name, value)
            output, (h_n, c_n) = lstm(x)
            return [output.shape, h_n.shape, c_n.shape]

        return call

    return {
        "features": lambda m: m(x[..., :2]),
        "dims": lambda m: m(x[None]),
        "dtype": lambda m: m(x.double()),
        "length": lambda m: m(x[:0]),
        "batch": lambda m: m(x, (h[:, :1], c)),
        "three states": lambda m: m(x, (h, c, c))[0].shape,
        "one state": lambda m: m(x, (h,)),
        "a tensor of states": lambda m: m(x, torch.stack([h, c]))[0].shape,
        "no states": lambda m: m(x, (None, None)),
        "a list": lambda m: m([1, 2]),
        "an argument too many": lambda m: m(x, (h, c), 3),
        "an unknown argument": lambda m: m(x, mask=None),
        "packed": lambda m: m(PackedSequence(x[:, 0], torch.tensor([1, 2, 2]))),
        "packed, too few rows": lambda m: m(PackedSequence(x[:, 0], torch.tensor([2, 2, 2]))),
        "no weight": without,
        "hidden_size": with_attribute("hidden_size", 4.0),
        "batch_first": with_attribute("batch_first", 1),
        "bias": with_attribute("bias", 1),
        "bidirectional": with_attribute("bidirectional", 0),
        "num_layers": with_attribute("num_layers", 0),
        "dropout": with_attribute("dropout", None),
        "dropout 2": with_attribute("dropout", 2.0),
        "training": with_attribute("training", 1),
        "proj_size": with_attribute("proj_size", 2),
    }


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("wrong", wrong_calls())
def test_errors_are_torchs_own(wrong, grad):
    call = wrong_calls()[wrong]
    with torch.set_grad_enabled(grad):
        assert outcome(lambda: call(kept(nn.LSTM(3, 4)))) == outcome(lambda: call(nn.LSTM(3, 4)))


@pytest.mark.parametrize("grad", [True, False])
def test_errors_of_cells_are_torchs_own(grad):
    x, h = torch.zeros(2, 3), torch.zeros(2, 4)
    wrong = [
        lambda m: m(x[None]),
        lambda m: m(x[:, :2]),
        lambda m: m(x, (h, h, h)),
        lambda m: m(x, (h[:1], h)),
        lambda m: m(x, h),
        lambda m: m(x.double()),
        lambda m: (setattr(m, "hidden_size", 4.0), m(x)),
    ]
    with torch.set_grad_enabled(grad):
        for call in wrong:
            expected = outcome(lambda call=call: call(nn.LSTMCell(3, 4)))
            assert outcome(lambda call=call: call(kept(nn.LSTMCell(3, 4)))) == expected


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
def test_what_the_engine_cannot_take_goes_to_torch(runs):
    x = torch.randn(5, 2, 3)
    cases = {
        "complex": lambda k: k(nn.LSTM(3, 4, dtype=torch.complex64))(x.to(torch.complex64))[0].shape,
        "an empty batch": lambda k: k(nn.LSTM(3, 4))(x[:, :0])[0].shape,
        "meta": lambda k: k(nn.LSTM(3, 4, device="meta"))(x.to("meta"))[0].shape,
        "a transform": lambda k: torch.func.grad(lambda t: k(nn.LSTM(3, 4))(t)[0].sum())(x).shape,
    }
    for case in cases.values():
        assert outcome(lambda case=case: case(kept)) == outcome(lambda case=case: case(lambda m: m))
    assert not runs
