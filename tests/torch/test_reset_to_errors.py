"""What is refused of reset_to: every wrong argument, by its message, before anything runs."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from fastlstm import GRU, LSTM, _engine
from tests.conftest import outcome

T, N, I, H = 7, 5, 3, 4
X, RESET = torch.zeros(T, N, I), torch.zeros(T, N, dtype=torch.bool)
h = torch.zeros(T, N, 2, H)
EXPECTED = (
    "reset_to: expected h of shape (L, N, D*num_layers, H_out) = (7, 5, 2, 4) "
    "and c of shape (L, N, D*num_layers, H_cell) = (7, 5, 2, 4), got "
)
WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no reset": (
        {"reset": None},
        ValueError,
        "reset_to: expected reset, too, which says at which steps a sequence starts from these states",
    ),
    "of two directions": (
        {"bidirectional": True, "reset_to": (torch.zeros(T, N, 4, H),) * 2},
        ValueError,
        "reset_to: expected a layer of one direction: the reverse one begins a segment at its last step, where there is no "
        "state to start from",
    ),
    "h alone": ({"reset_to": h}, TypeError, "reset_to: expected a tuple (h, c) of tensors, got Tensor"),
    "three": ({"reset_to": (h, h, h)}, TypeError, "reset_to: expected a tuple (h, c) of tensors, got 3"),
    "no tensor": ({"reset_to": (h, None)}, TypeError, "reset_to: expected a tuple (h, c) of tensors, got tuple"),
    "of one step": ({"reset_to": (h[0], h[0])}, ValueError, EXPECTED + "(5, 2, 4) and (5, 2, 4)"),
    "of h_0's layout": (
        {"reset_to": (h, h.transpose(1, 2))},
        ValueError,
        EXPECTED + "(7, 5, 2, 4) and (7, 2, 5, 4)",
    ),
    "batch_first": (
        {"batch_first": True, "x": X.transpose(0, 1), "reset": RESET.t(), "reset_to": (h, h)},
        ValueError,
        EXPECTED.replace("(L, N,", "(N, L,").replace("(7, 5", "(5, 7") + "(7, 5, 2, 4) and (7, 5, 2, 4)",
    ),
    "unbatched": (
        {"x": X[:, 0], "reset": RESET[:, 0], "reset_to": (h, h)},
        ValueError,
        EXPECTED.replace("(L, N,", "(L,").replace("(7, 5,", "(7,") + "(7, 5, 2, 4) and (7, 5, 2, 4)",
    ),
    "projected": (
        {"proj_size": 2, "reset_to": (h, h)},
        ValueError,
        EXPECTED.replace("(7, 5, 2, 4)", "(7, 5, 2, 2)", 1) + "(7, 5, 2, 4) and (7, 5, 2, 4)",
    ),
    "dtype": (
        {"reset_to": (h, h.double())},
        RuntimeError,
        "Input and reset_to tensors are not the same dtype, found input tensor with torch.float32 and reset_to tensor with "
        "torch.float64",
    ),
    "dtype of hx": (
        {"hx": (torch.zeros(2, N, H).double(),) * 2},
        RuntimeError,
        "Input and hidden tensors are not the same dtype, found input tensor with torch.float32 and hidden tensor with "
        "torch.float64",
    ),
    "device": (
        {"reset_to": (h, h.to("meta"))},
        RuntimeError,
        "Input and reset_to tensors are not at the same device, found input tensor at cpu and reset_to tensor at meta",
    ),
    "layout": (
        {"reset_to": (h, h.to_sparse())},
        RuntimeError,
        "expected reset_to tensors of layout torch.strided, got torch.sparse_coo: t.to_dense() makes them so",
    ),
    "a length": ({"lengths": [1, 2, 8, 4, 5]}, ValueError, "lengths: expected numbers from 0 to L = 7, got 8"),
    "packed": (
        {"x": pack_padded_sequence(X, torch.tensor([7] * N))},
        TypeError,
        "lengths and reset are for a padded tensor, got a PackedSequence",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_said_before_anything_runs(wrong, monkeypatch):
    given, kind, message = WRONG[wrong]
    given = {"x": X, "reset": RESET, "reset_to": (h, h), **given}
    options = {name: given.pop(name) for name in ("bidirectional", "batch_first", "proj_size") if name in given}
    monkeypatch.setattr(_engine, "forward", None)
    assert outcome(lambda: LSTM(I, H, 2, **options)(given.pop("x"), **given)) == (kind, message)


def test_a_gru_takes_h_alone():
    message = "reset_to: expected a tensor h, got tuple"
    assert outcome(lambda: GRU(I, H, 2)(X, reset=RESET, reset_to=(h, h))) == (TypeError, message)
    message = "reset_to: expected h of shape (L, N, D*num_layers, H_out) = (7, 5, 1, 4), got (7, 5, 2, 4)"
    assert outcome(lambda: GRU(I, H)(X, reset=RESET, reset_to=h)) == (ValueError, message)


def test_memory_that_was_freed_is_not_read():
    freed = torch.zeros(T, N, 2, H)
    freed.untyped_storage().resize_(0)
    kind, message = outcome(lambda: LSTM(I, H, 2)(X, reset=RESET, reset_to=(h, freed)))
    assert (kind, message) == (RuntimeError, "a tensor has no memory: its storage was freed")


@pytest.mark.parametrize("name", ["lengths", "reset"])
def test_vmap_over_where_segments_start_is_refused_by_name(name):
    more = {"lengths": torch.ones(2, N).long(), "reset": RESET.expand(2, T, N)}

    lstm = LSTM(I, H, 2)

    def run(mapped: Tensor) -> Tensor:
        return lstm(X, **{"reset": RESET, name: mapped}, reset_to=(h, h))[0]

    message = f"torch.func.vmap can't map over {name} of a call with reset_to: expected the same for all"
    assert outcome(lambda: torch.func.vmap(run)(more[name])) == (RuntimeError, message)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torch_jit_trace_refuses_it():
    class Replay(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = LSTM(I, H, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.lstm(x, reset=RESET, reset_to=(h, h))[0]

    kind, message = outcome(lambda: torch.jit.trace(Replay(), X))
    assert kind is RuntimeError
    assert "torch.jit.trace would keep the segments it saw" in message
