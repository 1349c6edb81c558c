"""bindings/tensors.cpp: outputs and gradients that are large stand in memory of the engine's pool."""

import copy
import io
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fastlstm import LSTM
from fastlstm.torch import context
from tests.conftest import run_python
from tests.doubles import WITHOUT_TABLE

T, N, I, H = 40, 32, 5, 128  # output: 640 KiB
WIDE = 192  # w_hh: 576 KiB


def _infer(lstm: LSTM, x: Tensor) -> Tensor:
    with torch.no_grad():
        output: Tensor = lstm(x)[0]
        return output


def _train(lstm: LSTM, x: Tensor) -> Tensor:
    output: Tensor = lstm(x)[0]
    return output.detach()


@pytest.mark.parametrize("call", [_infer, _train])
def test_a_large_output_that_is_held_is_nobody_elses_and_its_memory_comes_again(
    call: Callable[[LSTM, Tensor], Tensor],
) -> None:
    lstm = LSTM(I, H)
    x = torch.randn(T, N, I)
    first = call(lstm, x)
    expected, place = first.clone(), first.data_ptr()
    second = call(lstm, 2 * x)
    assert second.data_ptr() != place
    assert torch.equal(first, expected)
    assert not torch.equal(second, expected)
    view = first[3:5]
    del first
    assert call(lstm, x).data_ptr() != place  # a view holds it, too
    assert torch.equal(view, expected[3:5])
    del view
    held = [call(lstm, x) for _ in range(20)]  # the pool may have other blocks to give first
    assert place in [t.data_ptr() for t in held]


def test_large_gradients_are_added_up_and_stay() -> None:
    lstm = LSTM(I, WIDE)
    x = torch.randn(3, 2, I)
    once = []
    for scale in (1, 2):
        lstm.zero_grad()
        lstm(scale * x)[0].sum().backward()
        once.append({name: p.grad for name, p in lstm.named_parameters()})
    kept = [{name: d.clone() for name, d in grads.items() if d is not None} for grads in once]
    lstm.zero_grad()
    lstm(x)[0].sum().backward()
    lstm(2 * x)[0].sum().backward()
    for name, p in lstm.named_parameters():
        assert p.grad is not None
        assert torch.equal(p.grad, kept[0][name] + kept[1][name]), name
    for grads, expected in zip(once, kept, strict=True):
        for name, d in grads.items():
            assert d is not None
            assert torch.equal(d, expected[name]), name


def test_an_optimizer_steps_on_large_gradients_as_on_any() -> None:
    torch.manual_seed(0)
    lstm = LSTM(I, WIDE)
    other = torch.nn.LSTM(I, WIDE)
    other.load_state_dict(lstm.state_dict())
    x = torch.randn(4, 3, I)
    for layer in (lstm, other):
        optimizer = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            layer(x)[0].square().mean().backward()
            optimizer.step()
    for (name, p), q in zip(lstm.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, msg=lambda said, name=name: f"{name}: {said}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_large_tensor_is_like_any(dtype: torch.dtype) -> None:
    lstm = LSTM(I, 2 * H, dtype=dtype)
    x = torch.randn(T, N, I).to(dtype)
    with torch.inference_mode():
        output = lstm(x)[0]
        assert output.is_inference()
    output = _infer(lstm, x)
    assert output.is_leaf
    assert not output.requires_grad
    assert not output.is_inference()
    assert output.is_contiguous()
    assert context.is_readable(output)
    assert torch.equal(copy.deepcopy(output), output)
    file = io.BytesIO()
    torch.save(output, file)
    file.seek(0)
    assert torch.equal(torch.load(file), output)
    expected = output.clone()
    assert torch.equal(output.share_memory_(), expected)
    assert torch.equal(output.add_(1), expected + 1)


def test_the_last_reference_may_go_in_another_thread() -> None:
    lstm = LSTM(I, H)
    x = torch.randn(T, N, I)
    held = [_infer(lstm, x)]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert not held
    assert torch.isfinite(_infer(lstm, x)).all()


def test_what_is_large_lies_in_the_engines_memory() -> None:
    lstm = LSTM(3, 256, dtype=torch.float64)
    output = _infer(lstm, torch.randn(256, 2, 3, dtype=torch.float64))
    assert (output.shape, output.stride(), output.dtype) == ((256, 2, 256), (512, 256, 1), torch.float64)
    assert output.data_ptr() % 64 == 0
    with pytest.raises(ValueError, match="expected float32, float64, bfloat16 or float16, got int8"):
        lstm._sizes.layer.saved_reals("int8")


CALLS = """
import hashlib
from fastlstm import GRU, LSTM, LSTMCell
torch.manual_seed(0)
seen = hashlib.sha256()
def see(*tensors):
    for t in tensors:
        seen.update(t.detach().double().numpy().tobytes())
for dtype in (torch.float32, torch.float64, torch.bfloat16):
    x = torch.randn(7, 3, 6, dtype=dtype)
    for lstm in (LSTM(6, 9, 2, bidirectional=True, proj_size=4, dtype=dtype), GRU(6, 9, bias=False, dtype=dtype)):
        for more in ({}, {"lengths": torch.tensor([7, 0, 2])}, {"reset": torch.arange(21).reshape(7, 3) % 4 == 0}):
            lstm.zero_grad()
            output, _ = lstm(x.transpose(0, 2).contiguous().transpose(0, 2), **more)
            output.sum().backward()
            see(output, *(parameter.grad for parameter in lstm.parameters()))
            with torch.no_grad():
                see(lstm(x, **more)[0])
    see(*LSTMCell(6, 9, dtype=dtype)(x[0]))
"""


def test_without_an_exchange_table_the_bits_are_the_same() -> None:
    with_table = run_python("import torch\n" + CALLS + "print(seen.hexdigest())")
    assert run_python(WITHOUT_TABLE + CALLS + "print(seen.hexdigest())") == with_table
