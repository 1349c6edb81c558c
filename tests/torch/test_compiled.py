"""torch.compile(fullgraph=True) as it is used: sizes that change, a state that is carried, torch's layers around ours."""

from typing import Any

import pytest
import torch
from conftest import assert_bits, assert_close, states_of
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from fastlstm import GRU, LSTM, GRUCell, LSTMCell
from fastlstm.torch.graph import operator

pytestmark = pytest.mark.usefixtures("compiler")
LAYERS = pytest.mark.parametrize("kind", [LSTM, GRU])


def compiled(module: Any, backend: str = "aot_eager") -> tuple[Any, CompileCounterWithBackend]:
    seen = CompileCounterWithBackend(backend)
    return torch.compile(module, fullgraph=True, backend=seen), seen


def evaluate(layer: nn.Module, run: Any, x: Tensor, **rows: Tensor) -> dict[str, Tensor | None]:
    layer.zero_grad()
    x = x.clone().requires_grad_()
    output, last = run(x, **rows)
    (output.sin().sum() + states_of(last)[0].cos().sum()).backward()
    return {"output": output.detach(), "dx": x.grad} | {f"d{name}": p.grad for name, p in layer.named_parameters()}


@LAYERS
@pytest.mark.parametrize("rows", [False, True], ids=["dense", "lengths and reset"])
def test_an_open_size_is_compiled_for_once(kind: Any, rows: bool) -> None:
    """At first for the sizes it has, then for any L, then for any N: automatic dynamic shapes, and nothing beyond."""
    layer = kind(3, 4, 2)
    run, seen = compiled(layer)
    for graphs, sizes in ((1, [(5, 2)]), (2, [(7, 2), (4, 2), (33, 2)]), (3, [(5, 3), (9, 7), (2, 16), (64, 5)])):
        for L, N in sizes:
            x, more = torch.randn(L, N, 3), {}
            if rows:
                more = {"lengths": torch.randint(0, L + 1, (N,)), "reset": torch.rand(L, N) < 0.3}
            assert_bits(evaluate(layer, run, x, **more), evaluate(layer, layer, x, **more))
            assert seen.frame_count == graphs, (L, N)


@LAYERS
def test_an_open_size_is_compiled_for_once_without_gradients(kind: Any) -> None:
    layer = kind(3, 4)
    run, seen = compiled(layer)
    with torch.no_grad():
        for L, N in ((5, 2), (7, 3), (4, 9), (30, 2), (2, 4)):
            x = torch.randn(L, N, 3)
            assert torch.equal(run(x)[0], layer(x)[0])
    assert seen.frame_count == 2


@LAYERS
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "bias": False}], ids=str)
def test_a_plain_call_is_one_operator(kind: Any, options: Any, batch_first: bool) -> None:
    """Whose results lie as the eager call's do, and which takes what it is given where it lies."""
    layer = kind(3, 4, **options, batch_first=batch_first)
    x, name = torch.randn(2, 5, 3), kind.__name__.lower()
    hx = layer(x)[1]
    hx = hx.detach() if isinstance(hx, Tensor) else tuple(t.detach() for t in hx)
    nodes: list[str] = []

    def look(graph: torch.fx.GraphModule, _: Any) -> Any:
        nodes.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph

    run = torch.compile(layer, fullgraph=True, backend=look)
    for states in (None, hx):
        with torch.no_grad():
            found, expected = run(x, states), layer(x, states)
            assert found[0].stride() == expected[0].stride()
            torch.testing.assert_close(found, expected, rtol=0, atol=0)
            if batch_first:
                assert torch.equal(run(x[:, ::2], states)[0], layer(x[:, ::2].clone(), states)[0])
    assert {node for node in nodes if "fastlstm" in node} == {f"fastlstm.{name}_inference.default"}
    assert not [node for node in nodes if "new_zeros" in node or "transpose" in node]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_the_operator_of_a_plain_call(batch_first: bool, given: bool) -> None:
    lstm, x = LSTM(3, 4, 2, batch_first=batch_first), torch.randn(2, 5, 3)
    N = x.shape[0 if batch_first else 1]
    weights, hx = [p.detach() for p in lstm.parameters()], [torch.randn(2, N, 4)] * 2 if given else [None] * 2
    arguments = (x, *hx, weights, batch_first, lstm._sizes.numbers)
    torch.library.opcheck(operator.lstm_inference, arguments)
    with torch.no_grad():
        output, (h_n, c_n) = lstm(x, tuple(hx) if given else None)
    for negated in (x, -torch._neg_view(x), x.transpose(0, 1).contiguous().transpose(0, 1)):
        found = operator.lstm_inference(negated, *arguments[1:])
        assert all(map(torch.equal, found, (output, h_n, c_n)))
    for changed in (x[..., :2], x.double(), x[:, :0] if batch_first else x[:0]):
        with pytest.raises(RuntimeError, match=r"[Ee]xpected"):
            operator.lstm_inference(changed, *arguments[1:])


@LAYERS
@pytest.mark.parametrize("odd", ["no row", "unbatched", "negated", "states in a list", "float16", "batch_first of 1"])
def test_what_is_odd_goes_as_it_does_in_eager_mode(kind: Any, odd: str) -> None:
    layer, x = kind(3, 4, 2, dropout=0.5).eval(), torch.randn(5, 2, 3)
    arguments: list[Any] = [x]
    if odd == "no row":
        arguments = [x[:, :0]]
    elif odd == "unbatched":
        arguments = [x[:, 0]]
    elif odd == "negated":
        arguments = [torch._neg_view(x)]
    elif odd == "states in a list":
        state = torch.randn(2, 2, 4)
        arguments.append([state, state] if kind is LSTM else state.transpose(1, 2).contiguous().transpose(1, 2))
    elif odd == "float16":
        layer, arguments = layer.half(), [x.half()]
    else:
        layer.batch_first = 1
    with torch.no_grad():
        expected, found = layer(*arguments), torch.compile(layer, fullgraph=True, backend="eager")(*arguments)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@LAYERS
def test_an_attribute_that_can_t_be_has_the_eager_error(kind: Any) -> None:
    layer, x = kind(3, 4), torch.randn(5, 2, 3)
    layer.hidden_size = "4"
    for run in (layer, torch.compile(layer, backend="eager")):
        with pytest.raises(TypeError, match="hidden_size should be of type int"):
            run(x)


@LAYERS
def test_what_does_not_fit_has_the_eager_error(kind: Any) -> None:
    layer = kind(3, 4)
    run = torch.compile(layer, backend="eager")
    calls = [
        (torch.randn(5, 2, 2),),
        (torch.randn(5, 2, 3).double(),),
        (torch.randn(0, 2, 3),),
        (torch.randn(5, 2, 3), (torch.randn(1, 2, 4),)),
        (torch.randn(5, 2, 3), torch.randn(1, 3, 4) if kind is GRU else (torch.randn(1, 3, 4), torch.randn(1, 2, 4))),
    ]
    for arguments in calls:
        with pytest.raises(Exception) as expected:  # noqa: PT011 - whichever it is
            layer(*arguments)
        with pytest.raises(expected.type) as found:
            run(*arguments)
        assert str(found.value) == str(expected.value)


@LAYERS
def test_a_state_is_carried_from_chunk_to_chunk(kind: Any) -> None:
    """In a loop, detached: one graph for the first chunk, which has no state, and one for all others."""
    layer = kind(3, 4, 2)
    run, seen = compiled(layer)
    chunks, found = torch.randn(6, 5, 2, 3), []
    for step in (run, layer):
        layer.zero_grad()
        state, outputs = None, []
        for x in chunks:
            output, state = step(x, state)
            output.square().sum().backward()
            state = state.detach() if isinstance(state, Tensor) else tuple(t.detach() for t in state)
            outputs.append(output.detach())
        gradients = {f"d{name}": p.grad.clone() for name, p in layer.named_parameters()}
        found.append({"output": torch.cat(outputs)} | gradients)
    assert_bits(*found)
    assert seen.frame_count == 2


@pytest.mark.parametrize("kind", [LSTMCell, GRUCell])
def test_a_loop_over_a_cell_is_one_graph(kind: Any) -> None:
    cell = kind(3, 4)

    def steps(x: Tensor) -> Tensor:
        state, outputs = None, []
        for x_t in x:
            state = cell(x_t, state)
            outputs.append(states_of(state)[0])
        return torch.stack(outputs)

    run, seen = compiled(steps)
    for x in torch.randn(3, 5, 2, 3):
        assert torch.equal(run(x), steps(x))
    assert seen.frame_count == 1


class Model(nn.Module):
    """Torch's layers before, between and after ours."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 8), nn.GELU())
        self.lstm = LSTM(8, 6, bidirectional=True)
        self.between = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 8), nn.ReLU())
        self.gru = GRU(8, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, (h_n, _) = self.lstm(self.encoder(x))
        y, _ = self.gru(self.between(y).transpose(0, 1))
        return self.head(y) * h_n.mean()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit")  # Inductor's own
def test_a_model_with_torchs_layers_between_is_one_graph() -> None:
    model = Model()
    run, seen = compiled(model, "inductor")
    for L, N in ((5, 2), (7, 3), (9, 4)):
        x, found = torch.randn(L, N, 3), []
        for call in (run, model):
            model.zero_grad()
            output = call(x)
            output.square().sum().backward()
            found.append({"output": output.detach()} | {f"d{name}": p.grad for name, p in model.named_parameters()})
        assert_close(*found)
    assert seen.frame_count == 2
