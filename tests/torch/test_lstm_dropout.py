"""Dropout: between layers, in training mode only, and with the same seed on the same elements as nn.LSTM."""

import pytest
import torch
from conftest import assert_bits, assert_close, draw, evaluate, twin
from torch import Tensor, nn

from fastlstm import LSTM

OPTIONS = [
    {},
    {"bidirectional": True},
    {"proj_size": 3, "batch_first": True},
    {"bias": False, "bidirectional": True, "proj_size": 5},
]
each_options = pytest.mark.parametrize("options", OPTIONS, ids=str)


@each_options
@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("num_layers", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_same_seed_drops_the_same_elements(dtype, num_layers, dropout, options):
    ours = LSTM(5, 9, num_layers, dropout=dropout, **options, dtype=dtype)
    call = draw(ours, 6, 4)
    for seed in range(3):
        found = evaluate(ours, call, seed=seed)
        after = torch.rand(4)
        assert_close(found, evaluate(twin(ours, torch.float64), call.to(torch.float64), seed=seed), dtype)
        assert torch.equal(after, torch.rand(4)), "as many random numbers are drawn"


def test_unbatched_and_batch_of_one_drop_the_same_elements():
    ours = LSTM(5, 9, 2, dropout=0.5, dtype=torch.float64)
    call = draw(ours, 6, None)
    assert_close(evaluate(ours, call), evaluate(twin(ours), call))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_dropout_without_grad_is_the_same_too(mode):
    ours = LSTM(5, 9, 2, dropout=0.5)
    theirs = twin(ours)
    x = torch.randn(6, 4, 5)
    with mode():
        torch.manual_seed(0)
        output, _ = ours(x)
        torch.manual_seed(0)
        torch.testing.assert_close(output, theirs(x)[0])


@each_options
def test_masks_are_those_of_dropout_called_in_layer_order_on_the_time_major_tensor(options):
    """Layer by layer with F.dropout between, the same seed: the stack itself."""
    stack = LSTM(5, 9, 3, dropout=0.4, **options, dtype=torch.float64)
    call = draw(stack, 6, 4)
    singles = []
    for k in range(3):
        state = {name.replace(f"_l{k}", "_l0"): p for name, p in stack.state_dict().items() if f"_l{k}" in name}
        singles.append(LSTM(state["weight_ih_l0"].shape[1], 9, **options, dtype=torch.float64))
        singles[-1].load_state_dict(state)
    torch.manual_seed(5)
    expected, _ = stack(call.x)
    torch.manual_seed(5)
    x = call.x
    for k, single in enumerate(singles):
        x, _ = single(x)
        if k < 2:
            steps = x.transpose(0, 1).contiguous() if stack.batch_first else x
            steps = nn.functional.dropout(steps, 0.4)
            x = steps.transpose(0, 1) if stack.batch_first else steps
    torch.testing.assert_close(expected, x)


def test_h_n_of_a_lower_layer_is_not_dropped_and_nor_is_the_last_output():
    ours = LSTM(5, 9, 2, dropout=0.9)
    output, (h_n, _) = ours(torch.randn(50, 8, 5))
    assert output.count_nonzero() == output.numel()
    assert h_n.count_nonzero() == h_n.numel()


def test_dropout_of_one_makes_the_layer_above_blind():
    ours = LSTM(5, 9, 2, dropout=1.0)
    call = draw(ours, 6, 4)
    found = evaluate(ours, call)
    assert_close(found, evaluate(twin(ours, torch.float64), call.to(torch.float64)), torch.float32)
    assert not found["dweight_ih_l1"].any()
    other = evaluate(ours, call._replace(x=call.x * -3))
    assert torch.equal(found["output"], other["output"])


def test_eval_mode_and_dropout_zero_draw_nothing():
    call = draw(LSTM(5, 9, 2), 6, 4)
    for ours in (LSTM(5, 9, 2, dropout=0.5).eval(), LSTM(5, 9, 2)):
        torch.manual_seed(0)
        ours(call.x)
        after = torch.rand(1)
        torch.manual_seed(0)
        assert torch.equal(torch.rand(1), after)


def test_one_layer_ignores_its_dropout():
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last"):
        ours = LSTM(5, 9, dropout=0.5)
    plain = LSTM(5, 9)
    plain.load_state_dict(ours.state_dict())
    call = draw(ours, 6, 4)
    assert_bits(evaluate(ours, call), evaluate(plain, call))


def test_another_seed_drops_other_elements_at_the_rate_asked_for():
    """Seen in dW_ih of layer 1 alone: with one step and one-hot cotangents a dropped feature leaves a zero column."""
    ours = LSTM(5, 400, 2, dropout=0.3)
    x = torch.randn(1, 1, 5)

    def dropped(seed: int) -> Tensor:
        ours.zero_grad(set_to_none=True)
        torch.manual_seed(seed)
        ours(x)[0].sum().backward()
        return ours.weight_ih_l1.grad.abs().sum(0) == 0

    first, second = dropped(0), dropped(1)
    assert not torch.equal(first, second)
    assert first.double().mean().item() == pytest.approx(0.3, abs=0.1)


def test_global_generator_state_moves_on_between_calls():
    ours = LSTM(5, 9, 2, dropout=0.5)
    x = torch.randn(6, 4, 5)
    assert not torch.equal(ours(x)[0], ours(x)[0])
