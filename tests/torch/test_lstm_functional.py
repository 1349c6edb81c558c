"""A layer called in other ways than by its name: functional_call and torch.func, hooks, checkpointing, inside of containers."""

import pytest
import torch
from around import build
from conftest import assert_bits, assert_close, draw, evaluate, twin
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

from fastlstm import LSTM
from tests.tolerances import DIRECTIONAL_SLOPE

composite_is_expected = pytest.mark.filterwarnings("ignore:fastlstm runs in plain tensor operations")

# functional_call and torch.func


def test_functional_call_uses_the_parameters_it_is_given():
    ours = build()
    call = draw(ours, 6, 4)
    before = evaluate(ours, call)
    other = {name: (p.detach() * 2).requires_grad_() for name, p in ours.named_parameters()}
    reference = twin(ours)
    reference.load_state_dict(other)
    expected = evaluate(reference, call)
    output, (h_n, c_n) = torch.func.functional_call(ours, other, (call.x, call.hx))
    found = torch.autograd.grad((output, h_n, c_n), list(other.values()), call.cotangents)
    named = dict(zip([f"d{name}" for name in other], found, strict=True))
    assert_close(named, {name: expected[name] for name in named})
    assert_close({"output": output}, {"output": expected["output"]})
    assert_bits(evaluate(ours, call), before)


@composite_is_expected
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_torch_func_grad_vmap_and_jvp():
    """Per-sample gradients, and a directional derivative, against loops and finite differences.

    The deprecated torch.jit.script is used by torch's own decompositions for jvp.
    """
    ours = build()
    parameters = {name: p.detach() for name, p in ours.named_parameters()}
    x = torch.randn(7, 6, 5, dtype=torch.float64)  # seven unbatched sequences

    def loss(weights: dict[str, Tensor], sequence: Tensor) -> Tensor:
        return torch.func.functional_call(ours, weights, (sequence,))[0].pow(2).sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    for k in range(7):
        ours.zero_grad(set_to_none=True)
        ours(x[k])[0].pow(2).sum().backward()
        found = {f"d{name}": g[k] for name, g in each.items()}
        assert_close(found, {f"d{name}": p.grad for name, p in ours.named_parameters()})
    direction = torch.randn_like(x[0])
    _, derivative = torch.func.jvp(lambda sequence: loss(parameters, sequence), (x[0],), (direction,))
    step = 1e-6
    numeric = (loss(parameters, x[0] + step * direction) - loss(parameters, x[0] - step * direction)) / (2 * step)
    assert derivative.item() == pytest.approx(numeric.item(), rel=DIRECTIONAL_SLOPE)


@composite_is_expected
def test_stacked_models_of_an_ensemble():
    """torch.func.stack_module_state and vmap over the weights."""
    models = [build() for _ in range(3)]
    stacked, _ = torch.func.stack_module_state(models)
    x = torch.randn(6, 4, 5, dtype=torch.float64)
    together = torch.func.vmap(lambda weights: torch.func.functional_call(models[0], weights, (x,))[0])(stacked)
    for k, model in enumerate(models):
        torch.testing.assert_close(together[k], model(x)[0])


# Hooks and checkpointing


def test_module_and_tensor_hooks_are_called():
    ours, seen = build(), []
    ours.register_forward_pre_hook(lambda module, arguments: seen.append("before"))
    ours.register_forward_hook(lambda module, arguments, result: seen.append("after"))
    ours.register_full_backward_pre_hook(lambda module, g: seen.append("backward before"))
    ours.register_full_backward_hook(lambda module, d_in, d_out: seen.append("backward after"))
    ours.weight_hh_l0.register_hook(lambda gradient: gradient * 0)
    ours.bias_ih_l0.register_post_accumulate_grad_hook(lambda parameter: seen.append("accumulated"))
    output, _ = ours(torch.randn(6, 4, 5, dtype=torch.float64, requires_grad=True))
    output.sum().backward()
    assert {"before", "after", "backward before", "backward after", "accumulated"} == set(seen)
    assert not ours.weight_hh_l0.grad.any()
    assert ours.weight_hh_l1.grad.any()


def test_a_forward_hook_may_replace_the_result():
    ours = build()
    handle = ours.register_forward_hook(lambda module, arguments, result: (result[0] * 2, result[1]))
    x = torch.randn(6, 4, 5, dtype=torch.float64)
    doubled = ours(x)[0]
    handle.remove()
    assert torch.equal(doubled, ours(x)[0] * 2)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing_gives_the_same_gradients(use_reentrant):
    ours = build(dropout=0.5)

    def run(checkpointed: bool) -> dict[str, Tensor]:
        ours.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        x = torch.randn(6, 4, 5, dtype=torch.float64, requires_grad=True)
        output = (checkpoint(ours, x, use_reentrant=use_reentrant) if checkpointed else ours(x))[0]
        output.pow(2).sum().backward()
        return {"dx": x.grad} | {f"d{name}": p.grad for name, p in ours.named_parameters()}

    assert_bits(run(True), run(False))


def test_saved_tensor_hooks_see_what_the_graph_keeps():
    """save_on_cpu and every other user of the hooks: what is kept goes through them, and comes back."""
    ours, packed = build(), []
    x = torch.randn(6, 4, 5, dtype=torch.float64)

    def run() -> dict[str, Tensor]:
        ours.zero_grad(set_to_none=True)
        ours(x)[0].pow(2).sum().backward()
        return {f"d{name}": p.grad for name, p in ours.named_parameters()}

    plain = run()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t.numel()) or t.clone(), lambda t: t):
        assert_bits(run(), plain)
    assert sum(packed) > x.numel()
    with torch.autograd.graph.save_on_cpu():
        assert_bits(run(), plain)


# Containers


def test_nested_in_sequential_and_module_list():
    class First(nn.Module):
        def forward(self, result: tuple[Tensor, tuple[Tensor, Tensor]]) -> Tensor:
            return result[0]

    ours = build()
    x = torch.randn(6, 4, 5, dtype=torch.float64)
    stack = nn.Sequential(ours, First(), LSTM(9, 3, dtype=torch.float64), First())
    assert stack(x).shape == (6, 4, 3)
    packed = pack_padded_sequence(x, torch.tensor([6, 5, 2, 1]))
    assert nn.Sequential(ours, First(), LSTM(9, 3, dtype=torch.float64))(packed)[0].data.shape == (14, 3)
    assert isinstance(nn.ModuleList([ours])[0], LSTM)
