"""to_onnx: ONNX Runtime gives the layer's results at sizes that nothing was told of, and from_onnx gives the layer back."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import fastlstm
from fastlstm import GRU, LSTM
from fastlstm import numpy as bare
from fastlstm.onnx import writing
from tests.conftest import run_python, states_of
from tests.tolerances import EXPORTED

UNSEEN = [(5, 2), (1, 1), (7, 3)]
GRID = [
    (module, D, layers, bias, batch_first, P, lengths)
    for module, D, layers, bias, batch_first, P, lengths in product(
        (LSTM, GRU), (1, 2), (1, 2), (True, False), (True, False), (0, 2), (False, True)
    )
    if module is LSTM or P == 0
]
MORE = [(LSTM, 2, 3, True, False, P, True) for P in (0, 3)] + [
    (GRU, 2, 3, True, True, 0, True),
    (LSTM, 1, 4, True, True, 1, False),
]


def made(module: Any, D: int, layers: int, bias: bool, batch_first: bool, P: int) -> Any:
    projection = {"proj_size": P} if P else {}
    return module(3, 4, layers, bias=bias, batch_first=batch_first, bidirectional=D == 2, **projection)


def run(path: Path, *inputs: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [torch.from_numpy(t) for t in feed(session, *inputs)]


def feed(session: Any, *inputs: Tensor) -> Any:
    names = [put.name for put in session.get_inputs()]
    return session.run(None, dict(zip(names, (t.numpy() for t in inputs), strict=True)))


def drawn(lstm: Any, L: int, N: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    """x, and the states."""
    x = torch.randn(*((N, L) if lstm.batch_first else (L, N)), lstm.input_size)
    return x, tuple(torch.randn(lstm._sizes.chains, N, features) for features in lstm._sizes.of_states)


@pytest.mark.parametrize(
    "options", [*GRID, *MORE], ids=lambda options: "-".join(map(str, options)).replace("<class", "")
)
def test_onnx_runtime_has_the_layer_s_results_and_the_layer_comes_back(options: Any, tmp_path: Path) -> None:
    *made_of, ragged = options
    lstm = made(*made_of)
    fastlstm.to_onnx(lstm, tmp_path / "layer.onnx", lengths=ragged)
    session = onnxruntime.InferenceSession(str(tmp_path / "layer.onnx"), providers=["CPUExecutionProvider"])
    for L, N in UNSEEN:
        x, states = drawn(lstm, L, N)
        lengths = torch.randint(1, L + 1, (N,)) if ragged else None
        output, last = lstm(x, states if len(states) > 1 else states[0], lengths=lengths)
        found = feed(session, x, *states, *([] if lengths is None else [lengths]))
        expected = [output, *states_of(last)]
        torch.testing.assert_close([torch.from_numpy(t) for t in found], [t.detach() for t in expected], **EXPORTED)
    back = fastlstm.from_onnx(tmp_path / "layer.onnx")
    assert type(back) is type(lstm)
    assert repr(back) == repr(lstm)
    assert list(back.state_dict()) == list(lstm.state_dict())
    assert all(torch.equal(t, lstm.state_dict()[name]) for name, t in back.state_dict().items())
    alone = bare.from_onnx(tmp_path / "layer.onnx")
    assert np.array_equal(alone(x.numpy())[0], lstm(x)[0].detach().numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("P", [0, 2])
def test_other_dtypes_come_back(dtype: torch.dtype, P: int, tmp_path: Path) -> None:
    lstm = LSTM(3, 4, 2, dropout=0.5, proj_size=P, dtype=dtype)
    fastlstm.to_onnx(lstm, tmp_path / "layer.onnx")
    back = fastlstm.from_onnx(tmp_path / "layer.onnx")
    assert repr(back) == repr(lstm)
    assert all(t.dtype is dtype and torch.equal(t, lstm.state_dict()[name]) for name, t in back.state_dict().items())
    assert bare.from_onnx(tmp_path / "layer.onnx").dtype == (np.float32 if dtype is torch.float16 else np.float64)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_whoever_s_layer_it_is_the_file_is_the_same(kind: str, tmp_path: Path) -> None:
    theirs = getattr(nn, kind)(3, 4, 2, bidirectional=True, batch_first=True)
    ours = getattr(fastlstm, kind)(3, 4, 2, bidirectional=True, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    alone = getattr(bare, kind).from_state({name: t.numpy() for name, t in ours.state_dict().items()}, batch_first=True)
    for name, layer in (("theirs", theirs), ("ours", ours), ("alone", alone)):
        fastlstm.to_onnx(layer, tmp_path / name)
    assert (tmp_path / "theirs").read_bytes() == (tmp_path / "ours").read_bytes() == (tmp_path / "alone").read_bytes()


def test_it_needs_no_torch(tmp_path: Path) -> None:
    fastlstm.to_onnx(LSTM(3, 4, 2, proj_size=2), tmp_path / "a.onnx")
    run_python(
        "import sys; sys.modules['torch'] = None\n"
        "import fastlstm, fastlstm.numpy\n"
        f"layer = fastlstm.numpy.from_onnx({str(tmp_path / 'a.onnx')!r})\n"
        f"fastlstm.to_onnx(layer, {str(tmp_path / 'b.onnx')!r})\n"
    )
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_a_layer_is_a_node_of_its_own(tmp_path: Path) -> None:
    fastlstm.to_onnx(LSTM(3, 4, 3), tmp_path / "layer.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "layer.onnx").graph.node]
    assert kinds.count("LSTM") == 3


@pytest.mark.parametrize("lstm", [LSTM(3, 4, 2), LSTM(3, 4, proj_size=2), GRU(3, 4, bidirectional=True)], ids=repr)
def test_a_row_without_a_step_ends_as_it_began(lstm: Any, tmp_path: Path) -> None:
    """Where the node alone, as ONNX Runtime runs it, ends in zeros."""
    fastlstm.to_onnx(lstm, tmp_path / "layer.onnx", lengths=True)
    (x, states), lengths = drawn(lstm, 5, 2), torch.tensor([0, 3])
    output, last = lstm(x, states if len(states) > 1 else states[0], lengths=lengths)
    found = run(tmp_path / "layer.onnx", x, *states, lengths)
    torch.testing.assert_close(found, [t.detach() for t in (output, *states_of(last))], **EXPORTED)
    for end, began in zip(found[1:], states, strict=True):
        assert torch.equal(end[:, 0], began[:, 0])


@pytest.mark.parametrize("module", [nn.LSTMCell(3, 4), fastlstm.GRUCell(3, 4), nn.RNN(3, 4), nn.Linear(3, 4)], ids=repr)
def test_other_modules_are_refused(module: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="expected an LSTM"):
        fastlstm.to_onnx(module, tmp_path / "layer.onnx")
    assert not list(tmp_path.iterdir())


def test_what_no_file_can_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="got bfloat16"):
        fastlstm.to_onnx(LSTM(3, 4, dtype=torch.bfloat16), tmp_path / "layer.onnx")
    with pytest.raises(ValueError, match="got complex64"):
        fastlstm.to_onnx(LSTM(3, 4, dtype=torch.complex64), tmp_path / "layer.onnx")
    with pytest.raises(FileNotFoundError):
        fastlstm.to_onnx(LSTM(3, 4), tmp_path / "no folder" / "layer.onnx")
    monkeypatch.setattr(writing, "_LARGEST", 2**20 + 100)
    with pytest.raises(ValueError, match="less than 2 GB"):
        fastlstm.to_onnx(LSTM(3, 4), tmp_path / "layer.onnx")
    assert not list(tmp_path.iterdir())
