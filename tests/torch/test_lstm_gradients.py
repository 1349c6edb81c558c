"""Gradients of input, h_0, c_0 and every parameter; frozen parameters and retain_graph work; only what requires grad is
computed: each part of the backward pass asked for alone, against nn.LSTM.
"""

import pytest
import torch
from conftest import assert_bits, assert_close, draw, evaluate, outcome, twin
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fastlstm import LSTM

OPTIONS = [
    {},
    {"bias": False, "bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "proj_size": 3},
    {"num_layers": 3, "proj_size": 4, "dropout": 0.3, "batch_first": True},
]
each_options = pytest.mark.parametrize("options", OPTIONS, ids=str)
double_backward = pytest.mark.filterwarnings("ignore:fastlstm runs in plain tensor operations")


def build(options: dict[str, object], dtype: torch.dtype = torch.float64) -> LSTM:
    return LSTM(5, 9, **options, dtype=dtype).eval()


def backward(
    lstm: nn.Module, x: Tensor, hx: tuple[Tensor, Tensor] | None, of: dict[int, Tensor]
) -> dict[str, Tensor | None]:
    """Gradients of chosen results (0 output, 1 h_n, 2 c_n) alone."""
    lstm.zero_grad(set_to_none=True)
    leaves = {"x": x, **({} if hx is None else {"h_0": hx[0], "c_0": hx[1]})}
    leaves = {name: t.detach().clone().requires_grad_(t.requires_grad) for name, t in leaves.items()}
    output, (h_n, c_n) = lstm(leaves["x"], None if hx is None else (leaves["h_0"], leaves["c_0"]))
    results = (output, h_n, c_n)
    torch.autograd.backward([results[k] for k in of], list(of.values()))
    found = {f"d{name}": t.grad for name, t in leaves.items()}
    return found | {f"d{name}": p.grad for name, p in lstm.named_parameters()}


@each_options
@pytest.mark.parametrize("of", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)], ids=str)
def test_a_loss_of_some_of_the_three_results(of, options):
    ours = build(options)
    call = draw(ours, 6, 4)
    call.x.requires_grad_()
    hx = tuple(t.requires_grad_() for t in call.hx)
    chosen = {k: call.cotangents[k] for k in of}
    assert_close(backward(ours, call.x, hx, chosen), backward(twin(ours), call.x, hx, chosen))


@pytest.mark.filterwarnings("ignore::fastlstm.torch.runners.fallback.FallbackWarning")
@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}, {"dtype": torch.complex64}], ids=str)
def test_a_projection_that_no_loss_has_read_has_no_gradient(options, recorded):
    """Of one step's c_n, the last layer's: none, not zeros, by which an optimizer would let its weights decay."""
    ours = LSTM(3, 5, proj_size=2, **options)
    x, theirs = torch.randn(1, 4, 3, dtype=ours.weight_ih_l0.dtype), twin(ours)
    if recorded and not x.is_complex():
        ours.weight_hh_l0.data = torch._neg_view(-ours.weight_hh_l0.data)
    cells = ours.num_layers * (2 if ours.bidirectional else 1)
    found = [backward(lstm, x, None, {2: torch.ones(cells, 4, 5, dtype=x.dtype)}) for lstm in (ours, theirs)]
    assert_close(*found)
    assert found[0][f"dweight_hr_l{ours.num_layers - 1}"] is None


@each_options
def test_each_parameter_frozen_in_turn(options):
    """A frozen parameter has no gradient, and the others keep theirs, bit for bit."""
    ours = build(options, torch.float32)
    call = draw(ours, 6, 4)
    whole = evaluate(ours, call)
    for name, parameter in ours.named_parameters():
        parameter.requires_grad_(False)
        assert_bits(evaluate(ours, call), whole | {f"d{name}": None}, hint=f"{name} frozen")
        parameter.requires_grad_(True)


@each_options
def test_each_parameter_trained_alone(options):
    ours = build(options)
    call = draw(ours, 6, 4)
    whole = evaluate(ours, call)
    for name in [name for name, _ in ours.named_parameters()]:
        for other, parameter in ours.named_parameters():
            parameter.requires_grad_(other == name)
        backward(ours, -call.x, call.hx, dict(enumerate(call.cotangents)))  # else the scratch has the sums
        found = backward(ours, call.x, call.hx, dict(enumerate(call.cotangents)))
        assert [key for key, gradient in found.items() if gradient is not None] == [f"d{name}"]
        assert_close({f"d{name}": found[f"d{name}"]}, {f"d{name}": whole[f"d{name}"]})


@each_options
@pytest.mark.parametrize("wanted", ["x", "h_0", "c_0"])
def test_a_frozen_layer_passes_gradients_to_one_input_alone(wanted, options):
    ours = build(options)
    ours.requires_grad_(False)
    call = draw(ours, 6, 4)
    inputs = {"x": call.x, "h_0": call.hx[0], "c_0": call.hx[1]}
    inputs[wanted].requires_grad_()
    theirs = twin(ours).requires_grad_(False)
    of = dict(enumerate(call.cotangents))
    found, reference = backward(ours, call.x, call.hx, of), backward(theirs, call.x, call.hx, of)
    assert [key for key, gradient in found.items() if gradient is not None] == [f"d{wanted}"]
    assert_close(found, reference)


def test_nothing_that_requires_grad_makes_results_that_do_not():
    ours = build({}).requires_grad_(False)
    output, (h_n, c_n) = ours(torch.randn(6, 4, 5, dtype=torch.float64))
    assert not output.requires_grad
    assert not h_n.requires_grad
    assert not c_n.requires_grad
    assert output.grad_fn is None


def test_all_three_results_require_grad_and_none_is_a_leaf():
    output, (h_n, c_n) = build({})(torch.randn(6, 4, 5, dtype=torch.float64))
    for result in (output, h_n, c_n):
        assert result.requires_grad
        assert not result.is_leaf


@each_options
def test_retain_graph_gives_the_same_gradients_again(options):
    ours = build(options, torch.float32)
    call = draw(ours, 6, 4)
    x = call.x.clone().requires_grad_()
    output, (h_n, c_n) = ours(x, call.hx)
    wanted = [x, *ours.parameters()]
    first = torch.autograd.grad((output, h_n, c_n), wanted, call.cotangents, retain_graph=True)
    second = torch.autograd.grad((output, h_n, c_n), wanted, call.cotangents, retain_graph=True)
    ours(torch.randn_like(x))[0].sum().backward()  # another call must not reuse what the retained graph still needs
    third = torch.autograd.grad((output, h_n, c_n), wanted, call.cotangents)
    for again in (second, third):
        assert_bits(dict(enumerate(again)), dict(enumerate(first)))


def test_a_second_backward_without_retain_graph_raises_as_in_nn_lstm():
    ours = build({})

    def twice(lstm: nn.Module) -> None:
        output, _ = lstm(torch.randn(6, 4, 5, dtype=torch.float64))
        output.sum().backward()
        output.sum().backward()

    kind, message = outcome(lambda: twice(ours))
    their_kind, their_message = outcome(lambda: twice(twin(ours)))
    assert (kind, message) == (their_kind, their_message)
    assert "backward through the graph a second time" in message


def test_gradients_accumulate_over_calls():
    ours = build({"num_layers": 2})
    theirs = twin(ours)
    for lstm in (ours, theirs):
        torch.manual_seed(3)
        for _ in range(3):
            lstm(torch.randn(6, 4, 5, dtype=torch.float64))[0].pow(2).sum().backward()
    named = zip(ours.named_parameters(), theirs.parameters(), strict=True)
    pairs = [(f"d{name}", mine.grad, other.grad) for (name, mine), other in named]
    assert_close({name: mine for name, mine, _ in pairs}, {name: other for name, _, other in pairs})


def test_two_graphs_alive_at_once_do_not_disturb_each_other():
    ours = build({"num_layers": 2}, torch.float32)
    calls = [draw(ours, T, N, seed=seed) for seed, (T, N) in enumerate([(6, 4), (6, 4), (9, 2), (1, 1)])]
    alone = [evaluate(ours, call) for call in calls]
    ours.zero_grad(set_to_none=True)
    graphs = [ours(call.x, call.hx) for call in calls]
    for (output, (h_n, c_n)), call, found in reversed(list(zip(graphs, calls, alone, strict=True))):
        gradients = torch.autograd.grad((output, h_n, c_n), list(ours.parameters()), call.cotangents)
        named = {f"d{name}": g for (name, _), g in zip(ours.named_parameters(), gradients, strict=True)}
        assert_bits({"output": output.detach(), **named}, {name: found[name] for name in ("output", *named)})


@pytest.mark.parametrize(
    "which", ["output", "h_n", "c_n", "x", "h_0", "c_0", "weight_hh_l0", "weight_ih_l1", "bias_hh_l0"]
)
def test_a_tensor_changed_in_place_before_backward_raises_or_does_no_harm(which):
    """nn.LSTM raises where it needs the old values. Ours may need fewer; it must never use the new ones."""
    ours = build({"num_layers": 2})
    call = draw(ours, 6, 4)
    whole = evaluate(ours, call)
    ours.zero_grad(set_to_none=True)
    x, h_0, c_0 = call.x.clone(), call.hx[0].clone(), call.hx[1].clone()
    output, (h_n, c_n) = ours(x, (h_0, c_0))
    results = {"output": output, "h_n": h_n, "c_n": c_n}
    sums = [(t * g).sum() for t, g in zip(results.values(), call.cotangents, strict=True)]
    changed = {**results, "x": x, "h_0": h_0, "c_0": c_0, **dict(ours.named_parameters())}[which]
    with torch.no_grad():
        changed.mul_(3)
    kind, message = outcome(lambda: sum(sums).backward())
    if kind is None:
        found = {f"d{name}": p.grad for name, p in ours.named_parameters()}
        assert_close(found, {name: whole[name] for name in found}, hint=which)
    else:
        assert kind is RuntimeError
        assert "modified by an inplace operation" in message


def test_relu_in_place_on_the_output_is_as_in_nn_lstm():
    ours = build({})
    call = draw(ours, 6, 4)

    def run(lstm: nn.Module) -> dict[str, Tensor]:
        lstm.zero_grad(set_to_none=True)
        output, _ = lstm(call.x, call.hx)
        output = output.relu_()
        output.pow(2).sum().backward()
        return {f"d{name}": p.grad for name, p in lstm.named_parameters()}

    theirs = twin(ours)
    kind, _ = outcome(lambda: run(theirs))
    our_kind, message = outcome(lambda: run(ours))
    if our_kind is None and kind is None:
        assert_close(run(ours), run(theirs))
    else:
        assert our_kind is RuntimeError, "a wrong gradient in silence"
        assert "modified by an inplace operation" in message


@each_options
def test_the_same_tensor_as_two_arguments(options):
    """x also as h_0's memory, one tensor as h_0 and c_0: gradients add up."""
    ours = LSTM(9, 9, **{**options, "proj_size": 0, "batch_first": False}, dtype=torch.float64).eval()
    cells = ours.num_layers * (2 if ours.bidirectional else 1)

    def run(lstm: nn.Module) -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        x = torch.randn(6, 4, 9, dtype=torch.float64, requires_grad=True)
        state = x[:1].expand(cells, -1, -1)
        output, (h_n, c_n) = lstm(x, (state, state))
        return torch.autograd.grad(output.pow(2).sum() + h_n.sum() + c_n.pow(2).sum(), [x, *lstm.parameters()])

    assert_close(dict(enumerate(run(ours))), dict(enumerate(run(twin(ours)))))


def test_backpropagation_through_chunks_of_a_long_sequence():
    """Truncated and whole: states carried from call to call with their graph, or detached."""
    ours = build({"num_layers": 2})
    theirs = twin(ours)
    x = torch.randn(12, 4, 5, dtype=torch.float64)

    def run(lstm: nn.Module, detach: bool) -> dict[str, Tensor]:
        lstm.zero_grad(set_to_none=True)
        state, loss = None, torch.zeros((), dtype=torch.float64)
        for chunk in x.split(4):
            if detach and state is not None:
                state = (state[0].detach(), state[1].detach())
            output, state = lstm(chunk, state)
            loss = loss + output.pow(2).sum()
        loss.backward()
        return {f"d{name}": p.grad for name, p in lstm.named_parameters()}

    for detach in (True, False):
        assert_close(run(ours, detach), run(theirs, detach))


@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_packed_gradients_of_each_result_alone(enforce_sorted):
    ours = build({"num_layers": 2, "bidirectional": True})
    theirs = twin(ours)
    lengths = [6, 5, 2, 1] if enforce_sorted else [2, 6, 1, 5]
    call = draw(ours, 6, 4, lengths=lengths, enforce_sorted=enforce_sorted)
    for k in range(3):

        def run(lstm: nn.Module, k: int = k) -> dict[str, Tensor]:
            data = call.x.data.clone().requires_grad_()
            output, (h_n, c_n) = lstm(call.x._replace(data=data), call.hx)
            assert isinstance(output, PackedSequence)
            wanted = [data, *lstm.parameters()]
            return dict(enumerate(torch.autograd.grad((output.data, h_n, c_n)[k], wanted, call.cotangents[k])))

        assert_close(run(ours), run(theirs))


@double_backward
@each_options
def test_gradients_of_gradients(options):
    """create_graph=True: a gradient penalty trains as with nn.LSTM."""
    ours = build(options)
    call = draw(ours, 4, 3)

    def run(lstm: nn.Module) -> dict[str, Tensor]:
        x = call.x.clone().requires_grad_()
        output, (h_n, c_n) = lstm(x, call.hx)
        (dx,) = torch.autograd.grad((output, h_n, c_n), x, call.cotangents, create_graph=True)
        penalty = dx.pow(2).sum()
        names = [name for name, _ in lstm.named_parameters()]
        gradients = torch.autograd.grad(penalty, [x, *lstm.parameters()], allow_unused=True)
        return {"penalty": penalty.detach()} | dict(zip(["dx", *names], gradients, strict=True))

    found, reference = run(ours), run(twin(ours))
    # A parameter the penalty does not depend on (the last bias of c alone, say) may come as None or as zeros.
    zeros = {name: torch.zeros(()) for name in found}
    for name in found:
        if (found[name] is None) != (reference[name] is None):
            present = found[name] if found[name] is not None else reference[name]
            assert not present.any(), name
            found[name] = reference[name] = zeros[name]
    assert_close(found, reference, torch.float64)


GRADCHECKED = [
    {"num_layers": layers, "bias": bias, "bidirectional": bidirectional, "proj_size": proj_size}
    for layers in (1, 2)
    for bias in (True, False)
    for bidirectional in (True, False)
    for proj_size in (0, 2)
]


@pytest.mark.parametrize("lengths", [None, [3, 2, 1]], ids=["dense", "packed"])
@pytest.mark.parametrize("options", GRADCHECKED, ids=lambda o: "-".join(str(v) for v in o.values()))
def test_gradcheck_of_every_option(options, lengths):
    """The analytic gradients against finite differences, in float64, of every input and parameter."""
    ours = LSTM(2, 3, **options, dtype=torch.float64)
    call = draw(ours, 3, 3, lengths=lengths)
    data = (call.x if lengths is None else call.x.data).requires_grad_()
    names = [name for name, _ in ours.named_parameters()]

    def run(data: Tensor, h_0: Tensor, c_0: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = data if lengths is None else call.x._replace(data=data)
        named = dict(zip(names, weights, strict=True))
        output, (h_n, c_n) = torch.func.functional_call(ours, named, (x, (h_0, c_0)))
        return (output if lengths is None else output.data), h_n, c_n

    h_0, c_0 = (t.requires_grad_() for t in call.hx)
    assert torch.autograd.gradcheck(run, (data, h_0, c_0, *ours.parameters()), fast_mode=False)


@double_backward
@pytest.mark.parametrize("options", GRADCHECKED[::5], ids=str)
def test_gradgradcheck(options):
    ours = LSTM(2, 2, **{**options, "proj_size": min(1, options["proj_size"])}, dtype=torch.float64)
    call = draw(ours, 2, 2)
    x, h_0, c_0 = call.x.requires_grad_(), call.hx[0].requires_grad_(), call.hx[1].requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x, h, c: ours(x, (h, c))[0], (x, h_0, c_0), fast_mode=True)
