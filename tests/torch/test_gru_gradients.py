"""A GRU's gradients: every option against finite differences, each part of the backward pass asked for alone, against nn.GRU."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.checkpoint import checkpoint

from fastlstm import GRU
from tests.conftest import assert_bits, assert_close, draw, evaluate, outcome, twin

OPTIONS: list[dict[str, Any]] = [
    {},
    {"bias": False, "bidirectional": True},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 3, "dropout": 0.3, "batch_first": True},
]
GRADCHECKED: list[dict[str, Any]] = [
    {"num_layers": layers, "bias": bias, "bidirectional": bidirectional}
    for layers in (1, 2)
    for bias in (True, False)
    for bidirectional in (True, False)
]
each_options = pytest.mark.parametrize("options", OPTIONS, ids=str)
each_checked = pytest.mark.parametrize("options", GRADCHECKED, ids=lambda o: "-".join(map(str, o.values())))
falls_back = pytest.mark.filterwarnings("ignore:fastlstm runs in plain tensor operations")


def build(options: dict[str, Any], dtype: torch.dtype = torch.float64) -> GRU:
    return GRU(5, 9, **options, dtype=dtype).eval()


def backward(gru: nn.Module, x: Tensor, h_0: Tensor, of: dict[int, Tensor]) -> dict[str, Tensor | None]:
    """Gradients of chosen results (0 output, 1 h_n) alone."""
    gru.zero_grad(set_to_none=True)
    leaves = {name: t.detach().clone().requires_grad_(t.requires_grad) for name, t in (("x", x), ("h_0", h_0))}
    results = gru(leaves["x"], leaves["h_0"])
    torch.autograd.backward([results[k] for k in of], list(of.values()))
    return {f"d{name}": t.grad for name, t in (*leaves.items(), *gru.named_parameters())}


@each_options
@pytest.mark.parametrize("of", [(0,), (1,), (0, 1)], ids=str)
def test_a_loss_of_some_of_the_results(of, options):
    ours = build(options)
    call = draw(ours, 6, 4)
    tensors = call.x.requires_grad_(), call.hx.requires_grad_()
    chosen = {k: call.cotangents[k] for k in of}
    assert_close(backward(ours, *tensors, chosen), backward(twin(ours), *tensors, chosen))


@each_options
def test_each_parameter_frozen_and_trained_alone(options):
    """A frozen parameter has no gradient, and the others keep theirs, bit for bit."""
    ours = build(options, torch.float32)
    call = draw(ours, 6, 4)
    whole = evaluate(ours, call)
    for name, parameter in ours.named_parameters():
        parameter.requires_grad_(False)
        assert_bits(evaluate(ours, call), whole | {f"d{name}": None}, hint=f"{name} frozen")
        ours.requires_grad_(False)
        parameter.requires_grad_(True)
        backward(ours, -call.x, call.hx, dict(enumerate(call.cotangents)))  # else the scratch has the sums
        found = backward(ours, call.x, call.hx, dict(enumerate(call.cotangents)))
        assert [key for key, gradient in found.items() if gradient is not None] == [f"d{name}"]
        assert_close({f"d{name}": found[f"d{name}"]}, {f"d{name}": whole[f"d{name}"]})
        ours.requires_grad_(True)


@each_options
@pytest.mark.parametrize("wanted", [0, 1], ids=["x", "h_0"])
def test_a_frozen_layer_passes_gradients_to_one_input_alone(wanted, options):
    ours = build(options).requires_grad_(False)
    theirs = twin(ours).requires_grad_(False)
    call = draw(ours, 6, 4)
    inputs = [call.x, call.hx]
    inputs[wanted].requires_grad_()
    of = dict(enumerate(call.cotangents))
    found, reference = backward(ours, *inputs, of), backward(theirs, *inputs, of)
    assert [key for key, gradient in found.items() if gradient is not None] == [("dx", "dh_0")[wanted]]
    assert_close(found, reference)


def test_nothing_that_requires_grad_makes_results_that_do_not():
    for t in build({}).requires_grad_(False)(torch.randn(6, 4, 5, dtype=torch.float64)):
        assert not t.requires_grad
        assert t.grad_fn is None


@each_options
def test_retain_graph_gives_the_same_gradients_again(options):
    ours = build(options, torch.float32)
    call = draw(ours, 6, 4)
    x = call.x.clone().requires_grad_()
    results, wanted = ours(x, call.hx), [x, *ours.parameters()]
    first = torch.autograd.grad(results, wanted, call.cotangents, retain_graph=True)
    ours(torch.randn_like(x))[0].sum().backward()  # another call must not reuse what the retained graph still needs
    second = torch.autograd.grad(results, wanted, call.cotangents)
    assert_bits(dict(enumerate(second)), dict(enumerate(first)))
    kind, message = outcome(lambda: torch.autograd.grad(results, wanted, call.cotangents))
    assert kind is RuntimeError
    assert "backward through the graph a second time" in message


@pytest.mark.parametrize("which", ["output", "h_n", "x", "h_0", "weight_hh_l0", "weight_ih_l1", "bias_hh_l0"])
@pytest.mark.parametrize("T", [1, 6])
def test_a_tensor_changed_in_place_before_backward_raises_or_does_no_harm(which, T):
    """Results may be changed. Elsewhere nn.GRU raises where it needs the old values; ours may need fewer, never the new ones."""
    ours = build({"num_layers": 2})
    call = draw(ours, T, 4)
    whole = evaluate(ours, call)
    ours.zero_grad(set_to_none=True)
    x, h_0 = call.x.clone(), call.hx.clone()
    output, h_n = ours(x, h_0)
    sums = [(t * g).sum() for t, g in zip((output, h_n), call.cotangents, strict=True)]
    changed = {"output": output, "h_n": h_n, "x": x, "h_0": h_0, **dict(ours.named_parameters())}[which]
    with torch.no_grad():
        changed.mul_(3)
    kind, message = outcome(lambda: sum(sums).backward())
    if kind is None:
        found = {f"d{name}": p.grad for name, p in ours.named_parameters()}
        assert_close(found, {name: whole[name] for name in found}, hint=which)
    else:
        assert which not in ("output", "h_n")
        assert kind is RuntimeError
        assert "modified by an inplace operation" in message


@pytest.mark.parametrize("change", ["relu_", "mul_", "zero a step", "h_n"])
@pytest.mark.parametrize("form", ["dense", "packed", "lengths", "batch_first", "hooks", "bfloat16"])
def test_results_changed_in_place_before_backward(form, change):
    """The gradients are those where the change is made to a copy."""
    gru = GRU(5, 9, 2, batch_first=form == "batch_first", dtype=torch.bfloat16 if form == "bfloat16" else None)
    call = draw(gru, 6, 4, lengths=[6, 4, 3, 1] if form == "packed" else None)
    more = {"lengths": [3, 6, 0, 2]} if form == "lengths" else {}

    def apply(output: Tensor, h_n: Tensor) -> None:
        if change == "zero a step":
            output[0].zero_()
        elif change == "h_n":
            h_n.mul_(2)
        else:
            output.relu_() if change == "relu_" else output.mul_(2)

    gradients = []
    for copied in (False, True):
        gru.zero_grad(set_to_none=True)
        with torch.autograd.graph.save_on_cpu() if form == "hooks" else torch.enable_grad():
            output, h_n = gru(call.x, call.hx, **more)
        output = output.data if isinstance(output, PackedSequence) else output
        results = (output.clone(), h_n.clone()) if copied else (output, h_n)
        apply(*results)
        torch.autograd.backward(results, call.cotangents)
        gradients.append({f"d{name}": p.grad for name, p in gru.named_parameters()})
    assert_bits(*gradients)


def test_backpropagation_through_chunks_of_a_long_sequence():
    """Truncated and whole: states carried from call to call with their graph, or detached."""
    ours = build({"num_layers": 2})
    theirs, x = twin(ours), torch.randn(12, 4, 5, dtype=torch.float64)

    def run(gru: nn.Module, detach: bool) -> dict[str, Tensor]:
        gru.zero_grad(set_to_none=True)
        state, loss = None, torch.zeros((), dtype=torch.float64)
        for chunk in x.split(4):
            output, state = gru(chunk, state.detach() if detach and state is not None else state)
            loss = loss + output.pow(2).sum()
        loss.backward()
        return {f"d{name}": p.grad for name, p in gru.named_parameters()}

    for detach in (True, False):
        assert_close(run(ours, detach), run(theirs, detach))


def test_the_same_tensor_as_both_arguments():
    ours = GRU(9, 9, dtype=torch.float64)

    def run(gru: nn.Module) -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        x = torch.randn(6, 4, 9, dtype=torch.float64, requires_grad=True)
        output, h_n = gru(x, x[:1])
        return torch.autograd.grad(output.pow(2).sum() + h_n.sum(), [x, *gru.parameters()])

    assert_close(dict(enumerate(run(ours))), dict(enumerate(run(twin(ours)))))


def test_checkpointing_gives_the_same_bits():
    class Checkpointed(GRU):
        def forward(self, *arguments: Any) -> Any:
            return checkpoint(super().forward, *arguments, use_reentrant=False)

    gru, again = GRU(5, 9, 2, bidirectional=True), Checkpointed(5, 9, 2, bidirectional=True)
    again.load_state_dict(gru.state_dict())
    call = draw(gru, 6, 4)
    assert_bits(evaluate(again, call), evaluate(gru, call))


# Finite differences


@pytest.mark.parametrize("lengths", [None, [3, 2, 1]], ids=["dense", "packed"])
@each_checked
def test_gradcheck_of_every_option(options, lengths):
    """In float64, of every input and parameter."""
    ours = GRU(2, 3, **options, dtype=torch.float64)
    call = draw(ours, 3, 3, lengths=lengths)
    data = (call.x if lengths is None else call.x.data).requires_grad_()
    names = [name for name, _ in ours.named_parameters()]

    def run(data: Tensor, h_0: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        x = data if lengths is None else call.x._replace(data=data)
        output, h_n = torch.func.functional_call(ours, dict(zip(names, weights, strict=True)), (x, h_0))
        return (output if lengths is None else output.data), h_n

    assert torch.autograd.gradcheck(run, (data, call.hx.requires_grad_(), *ours.parameters()), fast_mode=False)


@falls_back
@each_checked
def test_gradgradcheck_of_every_option(options):
    ours = GRU(2, 2, **options, dtype=torch.float64)
    call = draw(ours, 3, 2)
    names = [name for name, _ in ours.named_parameters()]

    def run(x: Tensor, h_0: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        return torch.func.functional_call(ours, dict(zip(names, weights, strict=True)), (x, h_0))

    inputs = (call.x.requires_grad_(), call.hx.requires_grad_(), *ours.parameters())
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


@falls_back
@each_options
def test_gradients_of_gradients(options):
    """create_graph=True: a gradient penalty trains as with nn.GRU."""
    ours = build(options)
    call = draw(ours, 4, 3)

    def run(gru: nn.Module) -> dict[str, Tensor]:
        x = call.x.clone().requires_grad_()
        (dx,) = torch.autograd.grad(gru(x, call.hx), x, call.cotangents, create_graph=True)
        penalty = dx.pow(2).sum()
        names = [name for name, _ in gru.named_parameters()]
        gradients = torch.autograd.grad(penalty, [x, *gru.parameters()], allow_unused=True)
        found = zip(["dx", *names], gradients, strict=True)
        return {"penalty": penalty.detach()} | {name: torch.zeros(()) if t is None else t for name, t in found}

    found, reference = run(ours), run(twin(ours))
    for name, t in reference.items():  # what the penalty does not depend on may come as None or as zeros
        if not t.any():
            assert not found[name].any(), name
            found[name] = t
    assert_close(found, reference, torch.float64)
