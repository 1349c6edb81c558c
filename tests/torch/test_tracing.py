"""torch.jit.trace of calls with lengths, resets and masks: inputs of the trace, checked on every run."""

import io
from typing import Any

import pytest
import torch
from conftest import assert_bits, outcome
from torch import Tensor, nn

import fastlstm
from fastlstm import GRU, LSTM

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")

ROWS = {
    "lengths": lambda L, N: torch.randint(0, L + 1, (N,), dtype=torch.int32),
    "reset": lambda L, N: torch.rand(L, N) < 0.3,
    "mask": lambda L, N: torch.arange(L).unsqueeze(1) < torch.randint(0, L + 1, (N,)),
}


class Model(nn.Module):
    """output of a layer whose rows are inputs."""

    def __init__(self, layer: Any, names: tuple[str, ...]) -> None:
        super().__init__()
        self.layer, self.names = layer, names

    def forward(self, x: Tensor, *rows: Tensor) -> Tensor:
        return self.layer(x, **dict(zip(self.names, rows, strict=True)))[0]

    def arguments(self, L: int, N: int) -> tuple[Tensor, ...]:
        tensors = [torch.randn(L, N, 3), *(ROWS[name](L, N) for name in self.names)]
        turned = [t.transpose(0, 1).contiguous() if t.dim() > 1 else t for t in tensors]
        return tuple(turned if self.layer.batch_first else tensors)


def traced(model: nn.Module, given: tuple[Tensor, ...]) -> Any:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(model, given), file)
    file.seek(0)
    return torch.jit.load(file)


@pytest.mark.parametrize("names", [("lengths",), ("reset",), ("mask",), ("lengths", "reset")], ids=str)
@pytest.mark.parametrize("kind", [LSTM, GRU])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}], ids=str)
def test_a_trace_follows_its_rows_with_the_models_bits(
    kind: Any, options: dict[str, Any], names: tuple[str, ...]
) -> None:
    model = Model(kind(3, 4, **options), names)
    trace = traced(model, model.arguments(5, 2))
    for L, N in ((9, 4), (3, 1)):
        given, found = model.arguments(L, N), []
        for run in (trace, model):
            run.zero_grad()
            output = run(*given)
            output.square().sum().backward()
            found.append({"output": output.detach()} | {f"d{name}": p.grad for name, p in run.named_parameters()})
        assert_bits(*found)


def test_an_unbatched_trace() -> None:
    model = Model(LSTM(3, 4), ("lengths", "reset"))
    trace = traced(model, (torch.randn(5, 3), torch.tensor(4), torch.arange(5) == 2))
    given = torch.randn(8, 3), torch.tensor(7), torch.arange(8) == 5
    assert torch.equal(trace(*given), model(*given))


WRONG = {
    "too long": (torch.tensor([5, 6]), "expected numbers from 0 to L = 5, got 6"),
    "of other rows": (torch.tensor([5]), r"of shape \(2,\), torch.int64, on the CPU, got \[1\]"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_trace_still_checks_its_lengths(wrong: str) -> None:
    lengths, words = WRONG[wrong]
    model = Model(LSTM(3, 4), ("lengths",))
    trace = traced(model, model.arguments(5, 2))
    with pytest.raises(RuntimeError, match=words):
        trace(torch.randn(5, 2, 3), lengths)


def test_a_trace_still_checks_its_masks() -> None:
    model = Model(LSTM(3, 4), ("mask",))
    trace = traced(model, model.arguments(5, 2))
    with pytest.raises(RuntimeError, match="expected numbers from 0 to L = 5, got -1"):
        trace(torch.randn(5, 2, 3), torch.tensor([[False, True]] * 2 + [[True, True]] * 3))


def test_a_trace_would_keep_a_list() -> None:
    layer, x = LSTM(3, 4), torch.randn(5, 2, 3)
    kind, words = outcome(lambda: torch.jit.trace(lambda x: layer(x, lengths=[5, 3])[0], x))
    assert kind is RuntimeError
    assert "torch.jit.trace would keep the lengths and resets it saw: expected tensors" in words


def test_torchs_own_operator_has_no_rows() -> None:
    model = Model(LSTM(3, 4), ("lengths",))
    with fastlstm.enabled():
        kind, words = outcome(lambda: torch.jit.trace(model, model.arguments(5, 2)))
    assert kind is RuntimeError
    assert "takes neither lengths nor resets" in words
