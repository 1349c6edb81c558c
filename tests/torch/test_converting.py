"""convert(): the nn.LSTM modules of a model become fastlstm.LSTM, the objects they were; and back."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import fastlstm
from fastlstm import LSTM, LSTMCell
from tests.conftest import assert_bits, draw, evaluate, outcome


class Theirs(nn.LSTM):
    pass


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.LSTM(3, 4, 2, bidirectional=True, dropout=0.5)
        self.blocks = nn.ModuleList([nn.LSTM(8, 8, proj_size=2), nn.RNN(3, 4)])
        self.tied = nn.ModuleDict({"same": self.encoder})
        self.own = Theirs(3, 4)
        self.head = nn.Linear(2, 1)

    def forward(self, x):
        x, _ = self.encoder(x)
        x, _ = self.blocks[0](x)
        return self.head(x)


def test_modules_are_the_objects_they_were_with_their_parameters():
    model = Model().eval()
    model.encoder.train()
    before = dict(model.named_parameters())
    x = torch.randn(5, 2, 3)
    seen = []
    model.encoder.register_forward_hook(lambda *_: seen.append("hook"))
    model.encoder.register_forward_pre_hook(lambda *_: seen.append("pre"))
    encoder, keys, said = model.encoder, list(model.state_dict()), repr(model.encoder)
    report = fastlstm.convert(model)
    assert report.changed == ["encoder", "blocks.0"]
    assert report.left == {"own": "a subclass, Theirs, whose forward may be its own"}
    assert type(model.encoder) is type(model.blocks[0]) is LSTM
    assert model.encoder is encoder
    assert model.tied["same"] is encoder
    assert repr(model.encoder) == said
    assert model.encoder.training
    assert not model.blocks[0].training
    assert list(model.state_dict()) == keys
    assert all(p is before[name] for name, p in model.named_parameters())
    model(x)
    assert seen == ["pre", "hook"]
    assert str(report).splitlines() == [
        "encoder: changed",
        "blocks.0: changed",
        "own: left alone, a subclass, Theirs, whose forward may be its own",
    ]


def test_an_optimizer_made_before_goes_on_working():
    torch.manual_seed(0)
    model = Model().eval()
    twin = copy.deepcopy(model)
    optimizers = [torch.optim.SGD(m.parameters(), 0.05, momentum=0.9) for m in (model, twin)]
    fastlstm.convert(model)
    x = torch.randn(5, 2, 3)
    for _ in range(5):
        for m, optimizer in zip((model, twin), optimizers, strict=True):
            optimizer.zero_grad()
            m(x).square().sum().backward()
            optimizer.step()
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=lambda m, n=name: f"{n}: {m}")
    assert not torch.equal(model.head.weight, Model().head.weight)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "proj_size": 2}, {"bias": False}])
def test_revert_gives_torchs_bits_back(options):
    lstm = nn.LSTM(3, 4, **options)
    attributes = set(vars(lstm))
    call = draw(lstm, 7, 3)
    before = evaluate(lstm, call)
    assert fastlstm.convert(lstm).changed == [""]
    assert type(lstm) is LSTM
    ours = LSTM(3, 4, **options)
    ours.load_state_dict(lstm.state_dict())
    assert_bits(evaluate(lstm, call), evaluate(ours, call))
    lstm.weight_hh_l0 = nn.Parameter(lstm.weight_hh_l0.detach().clone())  # another object, as load(assign=True) makes
    assert fastlstm.revert(lstm).changed == [""]
    assert type(lstm) is nn.LSTM
    assert set(vars(lstm)) == attributes
    assert lstm._flat_weights[1] is lstm.weight_hh_l0
    assert_bits(evaluate(lstm, call), before)


@pytest.mark.parametrize("bias", [True, False])
def test_cells_convert_and_revert(bias):
    class Own(nn.LSTMCell):
        pass

    model = nn.ModuleDict({"cell": nn.LSTMCell(3, 4, bias), "own": Own(3, 4)})
    cell, said, keys = model["cell"], repr(model), list(model.state_dict())
    attributes, parameters = set(vars(cell)), list(model.parameters())
    x, hx = torch.randn(2, 3), (torch.randn(2, 4), torch.randn(2, 4))

    def run():
        h, c = cell(x, hx)
        return [h, c, *torch.autograd.grad(h.sum() + c.sum(), list(cell.parameters()))]

    before = run()
    report = fastlstm.convert(model)
    assert report.changed == ["cell"]
    assert report.left == {"own": "a subclass, Own, whose forward may be its own"}
    assert type(cell) is LSTMCell
    assert (repr(model), list(model.state_dict())) == (said, keys)
    torch.testing.assert_close(run(), before)
    assert set(vars(cell)) == set(vars(LSTMCell(3, 4, bias)))
    assert fastlstm.revert(model).changed == ["cell"]
    assert type(cell) is nn.LSTMCell
    assert set(vars(cell)) == attributes
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(run(), before, strict=True))


class Asks(nn.Module):
    """Asks for the types of what it holds, in each way there is."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4)
        self.inner = nn.ModuleDict({"cell": nn.LSTMCell(3, 4), "rnn": nn.RNN(3, 4)})

    @staticmethod
    def is_recurrent(module: nn.Module) -> bool:
        return isinstance(module, (nn.LSTM, nn.RNN))

    def again(self) -> bool:
        return self.lstm.__class__ is nn.LSTM

    @property
    def cells(self) -> list[nn.Module]:
        return [m for m in self.modules() if type(m) is nn.LSTMCell]


class Holds(nn.Module):
    """Names the type, and asks for others."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4)
        assert not isinstance(self.lstm, nn.RNN | LSTM)
        assert type(self.lstm) is not nn.LSTMCell


def test_who_asks_for_the_type_is_named():
    model = nn.Sequential(Asks(), Holds(), nn.LSTM(3, 4))
    report = fastlstm.convert(model)
    assert report.changed == ["0.lstm", "0.inner.cell", "1.lstm", "2"]
    assert report.asked == {"0.lstm": "Asks.is_recurrent, Asks.again", "0.inner.cell": "Asks.cells"}
    said = "asked for its type, which keep_type=True leaves as it is"
    assert str(report).splitlines() == [
        f"0.lstm: changed; Asks.is_recurrent, Asks.again {said}",
        f"0.inner.cell: changed; Asks.cells {said}",
        "1.lstm: changed",
        "2: changed",
    ]
    assert not fastlstm.revert(model).asked
    assert not fastlstm.convert(model, keep_type=True).asked


def test_layers_written_as_ours_revert_too():
    lstm = LSTM(3, 4, 2)
    call = draw(lstm, 7, 3)
    theirs = nn.LSTM(3, 4, 2)
    theirs.load_state_dict(lstm.state_dict())
    fastlstm.revert(lstm)
    assert_bits(evaluate(lstm, call), evaluate(theirs, call))
    assert fastlstm.revert(lstm).changed == []


def test_pickle_and_deepcopy_of_a_converted_model():
    model = Model().eval()
    fastlstm.convert(model)
    x = torch.randn(5, 2, 3)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for again in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert torch.equal(again(x), model(x))
        fastlstm.revert(again)
        assert type(again.encoder) is nn.LSTM


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning", "ignore:`torch.jit")
def test_what_is_left_alone_says_why():
    parametrized = parametrizations.weight_norm(nn.LSTM(3, 4), "weight_hh_l0")
    normed = torch.nn.utils.weight_norm(nn.LSTM(3, 4), "weight_hh_l0")
    replaced = nn.LSTM(3, 4)
    replaced.forward = lambda x: x

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 4)

        def forward(self, x):
            return self.lstm(x)[0]

    model = nn.ModuleDict({"a": parametrized, "b": normed, "c": replaced, "d": torch.jit.script(Holder())})
    report = fastlstm.convert(model)
    assert report.changed == []
    assert parametrize.is_parametrized(model["a"])
    assert report.left == {
        "a": "parametrized",
        "b": "its weights are not parameters (weight_norm, prune, or another of their kind computes them)",
        "c": "its forward was replaced",
        "d.lstm": "TorchScript runs its own copy of nn.LSTM: enable() reaches it",
    }
    assert fastlstm.revert(model) == fastlstm.convert(nn.Linear(1, 1))


def test_what_is_not_a_model_is_refused():
    for change in (fastlstm.convert, fastlstm.revert):
        kind, message = outcome(lambda f=change: f([nn.LSTM(3, 4)]))
        assert kind is TypeError
        assert message == "expected a torch.nn.Module, got list"
    assert str(fastlstm.convert(nn.Linear(1, 1))) == "nothing to change"


def test_a_model_that_is_a_layer_itself_is_named():
    assert str(fastlstm.convert(nn.LSTM(3, 4))) == "(the model itself): changed"
