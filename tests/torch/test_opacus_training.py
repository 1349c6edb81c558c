"""Opacus' engine around models with `fastlstm.opacus.DPLSTM` and `DPGRU`: training, what it refuses, what it makes of them."""

import copy
import io
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fastlstm import GRU, LSTM, GRUCell, LSTMCell
from tests.conftest import assert_bits, assert_close, evaluate, states_of
from tests.conftest import draw as drawn
from tests.tolerances import CLIPPED_LOSS

pytest.importorskip("opacus")

from opacus import GradSampleModule, PrivacyEngine
from opacus.grad_sample import GradSampleModuleExpandedWeights
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from opacus.validators.errors import ShouldReplaceModuleError, UnsupportedModuleError

from fastlstm.opacus import DPGRU, DPLSTM

pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
    pytest.mark.filterwarnings("ignore:Secure RNG turned off:UserWarning"),
]
PRIVATE: dict[Any, Any] = {LSTM: DPLSTM, GRU: DPGRU}
each_kind = pytest.mark.parametrize("kind", PRIVATE)
RATE, NORM = 0.5, 0.1  # the learning rate, and what gradients are clipped to


class Model(nn.Module):
    """Reads all that the layer returns."""

    def __init__(self, kind: Any, **options: Any) -> None:
        super().__init__()
        self.layer = kind(3, 5, 2, batch_first=True, dtype=torch.float64, **options)
        self.head = nn.Linear(5, 1, dtype=torch.float64)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        output, last = self.layer(x, lengths=lengths)
        return self.head(output.sum(1) + sum(t[-1] for t in states_of(last))).squeeze(-1)


def data(seed: int) -> DataLoader[Any]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(12, 6, 3, dtype=torch.float64, generator=random)
    lengths = torch.randint(0, 7, (12,), generator=random)
    return DataLoader(
        TensorDataset(x, lengths, x.mean((1, 2))), batch_size=2, generator=torch.Generator().manual_seed(seed)
    )


def losses_of(model: nn.Module, batch: Any) -> Tensor:
    x, lengths, y = batch
    return (model(x, lengths) - y).square()


def by_hand(model: nn.Module, batches: list[Any]) -> None:
    """What Opacus means by a step without noise: a sum of clipped gradients of samples, over 2, the expected number."""
    parameters = list(model.parameters())
    for batch in batches:
        total = [torch.zeros_like(p) for p in parameters]
        for n in range(len(batch[0])):
            (loss,) = losses_of(model, [t[n : n + 1] for t in batch])
            found = torch.autograd.grad(loss, parameters, materialize_grads=True)
            norm = torch.stack([t.norm() for t in found]).norm()
            for t, own in zip(total, found, strict=True):
                t += own * (NORM / (norm + 1e-6)).clamp(max=1)
        with torch.no_grad():
            for p, t in zip(parameters, total, strict=True):
                p -= RATE * t / 2


@each_kind
@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_a_private_training(kind, mode):
    """Batches are Poisson's, of any size; one is empty."""
    model = ModuleValidator.fix_and_validate(Model(kind))
    assert type(model.layer) is PRIVATE[kind]
    plain = Model(kind)
    plain.load_state_dict(model.state_dict())
    criterion = nn.MSELoss()
    ready = PrivacyEngine().make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), RATE),
        data_loader=data(seed=3),
        noise_multiplier=0.0,
        max_grad_norm=NORM,
        grad_sample_mode=mode,
        **({"criterion": criterion} if mode == "ghost" else {}),
    )
    private, optimizer, *of_ghost, batches = ready
    criterion, seen = of_ghost[0] if of_ghost else criterion, []
    for x, lengths, y in batches:
        optimizer.zero_grad()
        criterion(private(x, lengths), y).backward()
        optimizer.step()
        seen.append((x, lengths, y))
    sizes = [len(x) for x, _, _ in seen]
    assert 0 in sizes
    assert len(set(sizes)) > 3
    by_hand(plain, seen)
    for name, p in plain.named_parameters():
        torch.testing.assert_close(private.get_parameter(f"_module.{name}"), p, rtol=CLIPPED_LOSS, atol=CLIPPED_LOSS)
    assert not torch.equal(plain.layer.weight_hh_l0, Model(kind).layer.weight_hh_l0)


@each_kind
def test_fix_keeps_the_layer(kind):
    model = nn.ModuleDict({"layer": kind(3, 5, 2, True, True, 0.25, dtype=torch.float64, checkpoint_every=2).eval()})
    layer = model["layer"]
    layer.bias_hh_l1.requires_grad_(False)
    fixed = ModuleValidator.fix(model)["layer"]
    assert type(fixed) is PRIVATE[kind]
    assert type(layer) is kind
    assert {k: v for k, v in vars(fixed).items() if k != "_parameters"} == {
        k: v for k, v in vars(layer).items() if k != "_parameters"
    }
    assert_bits(fixed.state_dict(), layer.state_dict())
    assert [p.requires_grad for p in fixed.parameters()] == [p.requires_grad for p in layer.parameters()]


@pytest.mark.parametrize("kind", [LSTM, GRU, LSTMCell, GRUCell])
def test_a_layer_that_is_not_fixed_is_refused(kind):
    model = nn.Sequential(kind(3, 5))
    words = rf"can't train a fastlstm.{kind.__name__}.*ModuleValidator.fix\(model\)"
    (error,) = ModuleValidator.validate(model)
    assert type(error) is (ShouldReplaceModuleError if kind in PRIVATE else UnsupportedModuleError)
    with pytest.raises(UnsupportedModuleError, match=words):
        PrivacyEngine().make_private(
            module=model,
            optimizer=torch.optim.SGD(model.parameters(), RATE),
            data_loader=data(0),
            noise_multiplier=1.0,
            max_grad_norm=NORM,
        )
    GradSampleModule(model)
    found = model(torch.randn(6, 4, 3) if kind in PRIVATE else torch.randn(4, 3))
    with pytest.raises(RuntimeError, match=words):
        (found if isinstance(found, Tensor) else found[0]).sum().backward()


def test_a_layer_that_is_not_fixed_makes_no_step_of_what_it_lost():
    """Its last states alone reach no hook: Opacus' optimizer then finds no gradients."""
    layer = LSTM(3, 5)
    GradSampleModule(layer)
    optimizer = DPOptimizer(
        torch.optim.SGD(layer.parameters(), RATE), noise_multiplier=0.0, max_grad_norm=NORM, expected_batch_size=4
    )
    layer(torch.randn(6, 4, 3))[1][0].sum().backward()
    with pytest.raises(ValueError, match="Per sample gradient is not initialized"):
        optimizer.step()


@each_kind
def test_what_a_private_layer_refuses(kind):
    x, name = torch.randn(6, 4, 3), PRIVATE[kind].__name__
    layer = PRIVATE[kind](3, 5)
    GradSampleModule(layer, force_functorch=True)
    with pytest.raises(RuntimeError, match=f'{name} computes .* expected grad_sample_mode="hooks" or "ghost"'):
        layer(x)
    layer = PRIVATE[kind](3, 5)
    nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    GradSampleModule(layer)
    with pytest.raises(RuntimeError, match="expected weights that are its own parameters"):
        layer(x)
    layer = PRIVATE[kind](3, 5, device="meta")
    GradSampleModule(layer)
    with pytest.raises(
        RuntimeError, match=r"expected parameters of real numbers on the CPU, got torch\.float32 on meta"
    ):
        layer(x.to("meta"))
    with pytest.raises(RuntimeError, match="Expanded Weights encountered but cannot handle"):
        GradSampleModuleExpandedWeights(PRIVATE[kind](3, 5, batch_first=True))(x)
    layer = PRIVATE[kind](3, 5)
    GradSampleModule(layer)
    for call in (layer.forward, layer.trace):
        with pytest.raises(RuntimeError, match=f"{call.__name__} goes past Opacus"):
            call(x)
        with torch.no_grad():
            call(x)
    with pytest.raises(ValueError, match="lengths: expected shape"):
        layer(x, lengths=[1, 2])


class Whole(nn.Module):
    """Opacus takes a module with parameters of its own as a whole, by torch.func, and its layers have no hooks."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(1, 1, 5, dtype=torch.float64))
        self.layer = kind(3, 5, batch_first=True, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first.expand(-1, len(x), -1)
        output, last = self.layer(x, h if self.layer.mode == "GRU" else (h, h))
        return output.sum(1) + sum(t[-1] for t in states_of(last))


@each_kind
def test_within_a_module_that_opacus_takes_as_a_whole(kind):
    model, plain, x = Whole(PRIVATE[kind]), Whole(kind), torch.randn(4, 6, 3, dtype=torch.float64)
    plain.load_state_dict(model.state_dict())
    GradSampleModule(model)
    model(x).square().mean(1).mean().backward()
    each = [torch.autograd.grad(plain(x[n : n + 1]).square().mean(), list(plain.parameters())) for n in range(4)]
    names = [f"d{name}" for name, _ in plain.named_parameters()]
    expected = {name: torch.stack(of) for name, of in zip(names, zip(*each, strict=True), strict=True)}
    assert_close({f"d{name}": p.grad_sample for name, p in model.named_parameters()}, expected)


@each_kind
def test_autocast_leaves_it_in_the_dtype_of_its_weights(kind):
    layer, x = PRIVATE[kind](3, 5), torch.randn(6, 4, 3)
    GradSampleModule(layer)
    plain, _ = layer(x.bfloat16().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, last = layer(x.bfloat16())
    assert_bits({"output": output}, {"output": plain})
    (output.mean() + plain.mean()).backward()
    assert layer.weight_ih_l0.grad_sample.dtype is torch.float32
    assert all(t.dtype is torch.float32 for t in states_of(last))


@each_kind
def test_where_opacus_does_not_watch_it_is_the_plain_layer(kind):
    private = PRIVATE[kind](3, 5, 2, dropout=0.5)
    plain = kind(3, 5, 2, dropout=0.5)
    plain.load_state_dict(private.state_dict())
    call = drawn(plain, 6, 4)
    expected = evaluate(plain, call, reset=torch.rand(6, 4, generator=torch.Generator().manual_seed(0)) < 0.3)

    def hold(layer: Any) -> None:
        assert_bits(
            evaluate(layer, call, reset=torch.rand(6, 4, generator=torch.Generator().manual_seed(0)) < 0.3), expected
        )

    hold(private)
    wrapped = GradSampleModule(private)
    with torch.no_grad():
        torch.manual_seed(0)
        output = private(call.x, call.hx)[0]
        torch.manual_seed(0)
        assert_bits({"output": output}, {"output": plain(call.x, call.hx)[0]})
    hold(wrapped.to_standard_module())
    hold(copy.deepcopy(private))
    file = io.BytesIO()
    torch.save(private, file)
    hold(torch.load(io.BytesIO(file.getvalue()), weights_only=False))


@each_kind
def test_a_caller_may_change_what_it_gave_and_got(kind):
    """Lengths and resets before backward, and results."""
    found = []
    for change in (False, True):
        torch.manual_seed(0)
        layer, x = PRIVATE[kind](3, 5), torch.randn(6, 4, 3)
        GradSampleModule(layer)
        lengths, reset = torch.tensor([6, 3, 0, 2]), torch.rand(6, 4) < 0.3
        output, last = layer(x, lengths=lengths, reset=reset)
        if change:
            lengths.fill_(1)
            reset.fill_(True)
            output = output.mul_(2) / 2
        (output.sum() + sum(t.sum() for t in states_of(last))).backward()
        states_of(last)[0].detach_()
        found.append({f"d{name}": p.grad_sample for name, p in layer.named_parameters()})
    assert_bits(*found)


def test_fastlstm_alone_imports_nothing_of_opacus():
    script = "import sys, torch, fastlstm; fastlstm.LSTM(2, 3); print('opacus' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"
    )
    without = (
        "import sys; sys.modules['opacus'] = None\n"
        "try: import fastlstm.opacus\n"
        "except ImportError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, check=True).stdout
    assert said == 'fastlstm.opacus needs Opacus: pip install ".[opacus]" in the folder of fastlstm\n'


class Louder(DPLSTM):
    def forward(self, x: Any, *given: Any) -> Any:  # type: ignore[override]
        return super().forward(2 * x, *given)


def norms(layer: nn.Module, run: Any) -> list[tuple[Tensor, Tensor]]:
    """Of the gradients of a single sample, and of what is added up: they are the same."""
    run(torch.randn(6, 1, 3))[0].sum().backward()
    return [(p.grad_sample.norm(), p.grad.norm()) for p in layer.parameters()]


@each_kind
def test_an_input_that_other_hooks_change(kind):
    layer = PRIVATE[kind](3, 5)
    layer.register_forward_pre_hook(lambda _, given: (3 * given[0], *given[1:]))
    watched = GradSampleModule(layer, batch_first=False, loss_reduction="sum")
    for own, whole in norms(layer, watched):
        torch.testing.assert_close(own, whole)


def test_what_opacus_would_not_know_of_is_refused():
    def watched(layer: nn.Module) -> Any:
        return GradSampleModule(layer, batch_first=False, loss_reduction="sum")

    x = torch.randn(6, 2, 3)
    with pytest.raises(RuntimeError, match="expected the forward of fastlstm"):
        watched(Louder(3, 5))(x)
    for change in (lambda flat: 2 * flat, lambda flat: flat.mul_(2)):
        hooked = DPLSTM(3, 5)
        hooked.register_forward_hook(lambda _module, _given, flat, change=change: change(flat))
        with pytest.raises(RuntimeError, match="changes what forward returns"):
            watched(hooked)(x)
    cut = DPLSTM(3, 5)
    cut.register_forward_pre_hook(lambda _, given: (given[0][1:], *given[1:]))
    with pytest.raises(RuntimeError, match="a hook made another input"):
        watched(cut)(x)
