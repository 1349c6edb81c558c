"""The route that hands a call to torch's own kernel, as CUDA calls take it, without a GPU: torch's CPU kernel stands in."""

import pytest
import torch
from conftest import Call, assert_close, draw, dtype_of, evaluate, outcome, twin
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fastlstm import GRU, LSTM, GRUCell, LSTMCell
from fastlstm.torch.runners import torch_kernel
from tests.torch.kernels import force_torchs_kernel

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
CONFIGURATIONS = {
    "plain": {},
    "everything": {"num_layers": 2, "bidirectional": True, "proj_size": 3, "batch_first": True},
    "no bias": {"bias": False, "num_layers": 2},
    "dropout": {"dropout": 0.5, "num_layers": 3},
}
FORMS = {
    "dense": {"T": 5, "N": 3},
    "no states": {"T": 5, "N": 3, "hx": False},
    "unbatched": {"T": 5, "N": None},
    "packed": {"T": 5, "N": 3, "lengths": [5, 3, 1]},
    "unsorted": {"T": 5, "N": 3, "lengths": [2, 5, 1], "enforce_sorted": False},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_numbers_gradients_and_dropout_are_nn_lstms_because_the_kernel_is(name, form, monkeypatch):
    lstm = LSTM(3, 4, dtype=torch.float64, **CONFIGURATIONS[name])
    call = draw(lstm, **FORMS[form])
    calls = []
    kernel = torch_kernel.call

    def watched(*arguments):
        calls.append(arguments)
        return kernel(*arguments)

    force_torchs_kernel(monkeypatch)
    monkeypatch.setattr(torch_kernel, "call", watched)
    assert_close(evaluate(lstm, call), evaluate(twin(lstm), call))
    assert len(calls) == 1


def test_nothing_is_dropped_in_eval(monkeypatch):
    lstm = LSTM(3, 4, 2, dropout=0.9).eval()
    call = draw(lstm, 5, 3)
    expected = evaluate(twin(lstm), call)
    force_torchs_kernel(monkeypatch)
    assert_close(evaluate(lstm, call), expected)


def passed(run) -> tuple[list[Tensor], list[object]]:
    """The tensors, and the rest, that a call hands to torch's operator."""
    found: list[tuple[list[Tensor], list[object]]] = []

    def spy(*arguments):
        flat = [a for given in arguments for a in (given if isinstance(given, tuple | list) else (given,))]
        tensors = [a for a in flat if isinstance(a, Tensor)]
        found.append((tensors, [a for a in flat if not isinstance(a, Tensor)]))
        raise StopIteration

    with pytest.MonkeyPatch.context() as patched:
        for name in ("lstm", "gru", "lstm_cell", "gru_cell"):
            patched.setattr(torch._VF, name, spy, raising=False)
        with pytest.raises(StopIteration):
            run()
    return found[0]


@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_the_kernel_is_given_what_nn_lstm_gives_it(kind, dropout, training, packed, monkeypatch):
    """cuDNN has gradients of what ran in training alone, also where nothing is dropped."""
    layer = kind(3, 4, 2, bidirectional=True, dropout=dropout).train(training)
    call, theirs = draw(layer, 5, 3, lengths=[5, 3, 1] if packed else None), twin(layer)
    expected = passed(lambda: theirs(call.x, call.hx))
    force_torchs_kernel(monkeypatch)
    tensors, rest = passed(lambda: layer(call.x, call.hx))
    assert all(map(torch.equal, tensors, expected[0]))
    assert len(tensors) == len(expected[0])
    if not training:
        expected[1][2] = 0.0  # a dropout outside training is none
    assert rest == expected[1]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [LSTMCell, GRUCell])
def test_a_cells_kernel_is_given_what_nn_lstmcell_gives_it(kind, bias, monkeypatch):
    cell, theirs = kind(3, 4, bias=bias), getattr(nn, kind.__name__)(3, 4, bias=bias)
    theirs.load_state_dict(cell.state_dict())
    x = torch.randn(2, 3)
    expected = passed(lambda: theirs(x))
    force_torchs_kernel(monkeypatch)
    found = passed(lambda: cell(x))
    assert all(map(torch.equal, found[0], expected[0]))
    assert len(found[0]) == len(expected[0])


NONE = torch.zeros(6, 5, dtype=torch.bool)
SOME = torch.zeros(6, 5, dtype=torch.bool)
SOME[2, 1] = SOME[0, 3] = SOME[4, 3] = SOME[5, 0] = True
MASK = torch.arange(6)[:, None] < torch.tensor([3, 0, 6, 1, 5])
RAGGED = {
    "lengths": {"lengths": [3, 0, 6, 1, 5]},
    "one long row": {"lengths": [0, 0, 6, 0, 0]},
    "no steps": {"lengths": [0] * 5},
    "full": {"lengths": [6] * 5, "reset": NONE},
    "reset": {"reset": SOME},
    "always": {"reset": ~NONE},
    "both": {"lengths": [3, 0, 6, 1, 5], "reset": SOME},
    "mask": {"mask": MASK},
}
OPTIONS = [
    {"num_layers": 3},
    {"bias": False, "proj_size": 3, "bidirectional": True, "num_layers": 2},
]


@pytest.mark.parametrize("hx", [True, False], ids=["states", "zeros"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("form", RAGGED)
@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_rows_of_any_lengths_go_there_in_one_call(kind, form, options, hx, monkeypatch):
    own = {name: value for name, value in options.items() if kind is LSTM or name != "proj_size"}
    layer = kind(5, 7, **own, dtype=torch.float64)
    call = draw(layer, 6, 5, hx=hx)
    expected = evaluate(layer, call, **RAGGED[form])
    calls = []
    kernel = torch_kernel.call
    force_torchs_kernel(monkeypatch)
    monkeypatch.setattr(torch_kernel, "call", lambda *given: calls.append(given) or kernel(*given))
    assert_close(evaluate(layer, call, **RAGGED[form]), expected)
    assert len(calls) == 1


@pytest.mark.parametrize("kind", [LSTM, GRU])
@pytest.mark.parametrize("form", ["batch_first", "unbatched", "no rows", "one row"])
def test_ragged_calls_of_other_shapes(form, kind, monkeypatch):
    layer = kind(5, 7, 2, batch_first=form == "batch_first", dtype=torch.float64)
    N = {"batch_first": 5, "unbatched": None, "no rows": 0, "one row": 1}[form]
    call = draw(layer, 6, N)
    reset = {"batch_first": SOME.t(), "unbatched": SOME[:, 1], "no rows": SOME[:, :0], "one row": SOME[:, 1:2]}[form]
    arguments = {"lengths": {5: [3, 0, 6, 1, 5], None: 4, 0: [], 1: [4]}[N], "reset": reset}
    expected = evaluate(layer, call, **arguments)
    force_torchs_kernel(monkeypatch)
    assert_close(evaluate(layer, call, **arguments), expected)


def test_a_row_without_a_step_gets_states_of_its_own(monkeypatch):
    """Not the caller's h_0 itself, which a change in place would reach."""
    force_torchs_kernel(monkeypatch)
    lstm = LSTM(5, 7)
    call = draw(lstm, 6, 5)
    with torch.no_grad():
        _, (h_n, _) = lstm(call.x, call.hx, lengths=[0] * 5)
        before = call.hx[0].clone()
        h_n.zero_()
    assert torch.equal(call.hx[0], before)


@pytest.mark.parametrize(
    "arguments", [{}, {"lengths": [3, 0, 6, 1, 5]}, {"reset": SOME}], ids=["dense", "lengths", "reset"]
)
def test_the_default_device_is_not_where_batch_sizes_go(arguments, monkeypatch):
    """torch.set_default_device("cuda") is usual: the kernel reads them on the host."""
    lstm = LSTM(5, 7)
    call = draw(lstm, 6, 5)
    expected = evaluate(lstm, call, **arguments)
    force_torchs_kernel(monkeypatch)
    with torch.device("meta"):
        found = evaluate(lstm, call, **arguments)
    assert_close(found, expected)


def packed_by_hand(call: Call, batch_sizes: Tensor) -> Call:
    return call._replace(x=PackedSequence(call.x.data, batch_sizes))


@pytest.mark.parametrize(
    "batch_sizes", [torch.tensor([3, 2, 1], dtype=torch.int32), torch.tensor([3, 2, 1, 0])], ids=str
)
def test_batch_sizes_of_any_kind(batch_sizes, monkeypatch):
    lstm = LSTM(5, 7)
    call = packed_by_hand(draw(lstm, 3, 3, lengths=[3, 2, 1]), batch_sizes)
    expected = evaluate(lstm, call)
    force_torchs_kernel(monkeypatch)
    assert_close(evaluate(lstm, call), expected)


@pytest.mark.parametrize("batch_sizes", [[3, 2, 2], [3, 1, 2], [3, 3, 1, -1]], ids=str)
def test_batch_sizes_that_are_none_are_refused_as_on_the_engine(batch_sizes, monkeypatch):
    lstm = LSTM(5, 7)
    call = packed_by_hand(draw(lstm, 3, 3, lengths=[3, 2, 1]), torch.tensor(batch_sizes))
    expected = outcome(lambda: lstm(call.x, call.hx))
    assert expected[0] is RuntimeError
    force_torchs_kernel(monkeypatch)
    assert outcome(lambda: lstm(call.x, call.hx)) == expected


@pytest.mark.parametrize("N", [4, None])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [LSTMCell, GRUCell])
def test_a_cell_and_the_derivatives_of_its_derivatives(kind, bias, N, monkeypatch):
    cell = kind(3, 5, bias=bias, dtype=torch.float64)
    x = torch.randn(*([] if N is None else [N]), 3, dtype=torch.float64, requires_grad=True)
    expected = cell(x)
    force_torchs_kernel(monkeypatch)
    torch.testing.assert_close(cell(x), expected)
    assert torch.autograd.gradgradcheck(lambda x, *_: cell(x), (x, *cell.parameters()))  # silent: a fallback would warn


def test_states_and_weights_may_lie_in_any_order(monkeypatch):
    lstm = LSTM(5, 7, batch_first=True, dtype=torch.float64)
    call = draw(lstm, 6, 5)
    expected = evaluate(lstm, call)
    strided = call._replace(hx=tuple(t.transpose(1, 2).contiguous().transpose(1, 2) for t in call.hx))
    for p in lstm.parameters():
        p.data = p.data.t().contiguous().t()
    force_torchs_kernel(monkeypatch)
    kernel, calls = torch_kernel.call, []
    monkeypatch.setattr(torch_kernel, "call", lambda *given: calls.append(given) or kernel(*given))
    assert not strided.hx[0].is_contiguous()
    with torch.no_grad():
        output, _ = lstm(strided.x, strided.hx)
    assert_close({"output": output}, {"output": expected["output"]}, dtype_of(lstm))
    assert all(t.is_contiguous() for t in (*calls[0][2], *calls[0][3]))


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor"
)  # torch's own, where a graph goes on after a break
@pytest.mark.usefixtures("compiler")
def test_torch_compile_leaves_the_kernel_as_it_is(monkeypatch):
    """In a graph the operator would become a loop over time, unrolled."""
    lstm = LSTM(5, 7)
    call = draw(lstm, 6, 5)
    expected = evaluate(lstm, call)
    force_torchs_kernel(monkeypatch)
    called: list[str] = []

    def backend(graph, _):
        called.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    lstm.compile(backend=backend)
    assert_close(evaluate(lstm, call), expected)
    assert not [name for name in called if "lstm" in name]
