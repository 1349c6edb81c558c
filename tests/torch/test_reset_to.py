"""Sequences that start anew from given states (reset_to), against torch's layer step by step, and who runs them."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import fastlstm
from fastlstm import GRU, LSTM, _engine
from tests.conftest import Evaluation, States, assert_bits, assert_close, draw, evaluate, like, outcome, states_of
from tests.tolerances import SLOPE
from tests.torch.kernels import force_torchs_kernel
from tests.torch.step_by_step import step_by_step
from tests.torch.test_lstm_lengths import LENGTHS, resets

T, N, I, H = 7, 5, 3, 4
each_layer = pytest.mark.parametrize("kind", [LSTM, GRU])
falls_back = pytest.mark.filterwarnings("ignore:fastlstm runs in plain tensor operations")


def stored(layer: nn.Module, T: int, N: int | None, seed: int = 1) -> Any:
    """A state for every step of a call."""
    generator = torch.Generator().manual_seed(seed)
    lead = [T] if N is None else [N, T] if layer.batch_first else [T, N]
    widths = [getattr(layer, "proj_size", 0) or layer.hidden_size, layer.hidden_size]
    count = 2 if layer.mode == "LSTM" else 1
    states = [torch.randn(*lead, layer.num_layers, width, generator=generator) for width in widths[:count]]
    states = [t.to(layer.weight_ih_l0.dtype) for t in states]
    return tuple(states) if count > 1 else states[0]


def rows(layer: nn.Module, reset: Tensor) -> Tensor:
    """(T, N) in the layout of the layer's input."""
    return reset.t().contiguous() if layer.batch_first else reset


def double(states: Any) -> Any:
    return like(states, [t.double() for t in states_of(states)])


def with_gradients(layer: nn.Module, call: Any, reset_to: States, **more: Any) -> Evaluation:
    """`evaluate`, and the gradients of the given states."""
    leaves = like(reset_to, [t.detach().clone().requires_grad_() for t in states_of(reset_to)])
    found = evaluate(layer, call, reset_to=leaves, **more)
    return found | {f"dreset_to_{name}": t.grad for name, t in zip("hc", states_of(leaves), strict=False)}


def compare(layer: nn.Module, call: Any, reset_to: States, **more: Any) -> None:
    expected = with_gradients(step_by_step(layer, torch.float64), call.to(torch.float64), double(reset_to), **more)
    assert_close(with_gradients(layer, call, reset_to, **more), expected, layer.weight_ih_l0.dtype)


# What it means


@st.composite
def layers(draw_one: Any, kind: Any) -> Any:
    H = draw_one(st.sampled_from([1, 2, 5, 17, 33]))
    torch.manual_seed(draw_one(st.integers(0, 9)))
    return kind(
        draw_one(st.integers(1, 9)),
        H,
        draw_one(st.integers(1, 3)),
        bias=draw_one(st.booleans()),
        batch_first=draw_one(st.booleans()),
        **({"proj_size": draw_one(st.integers(0, H - 1))} if kind is LSTM else {}),
        dtype=draw_one(st.sampled_from([torch.float32, torch.float64])),
    )


@each_layer
@given(st.integers(1, 9), st.none() | st.integers(1, 6), st.booleans(), st.booleans(), st.data())
def test_it_is_the_loop_over_steps_with_every_gradient(kind, T, N, hx, short, data):
    layer = data.draw(layers(kind))
    flags = data.draw(st.lists(st.booleans(), min_size=T * (N or 1), max_size=T * (N or 1)))
    reset = torch.tensor(flags).reshape([T] if N is None else [N, T] if layer.batch_first else [T, N])
    more: dict[str, Any] = {"reset": reset}
    if short:
        length = st.integers(0, T)
        more["lengths"] = data.draw(length if N is None else st.lists(length, min_size=N, max_size=N))
    compare(layer, draw(layer, T, N, hx=hx), stored(layer, T, N), **more)


@each_layer
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_dropout_falls_where_it_would_in_a_plain_call(kind, batch_first, training, lengths):
    layer = kind(I, H, 3, dropout=0.5, batch_first=batch_first, dtype=torch.float64).train(training)
    reset = rows(layer, resets(0.3, T, N))
    compare(layer, draw(layer, T, N), stored(layer, T, N), reset=reset, lengths=lengths)


@each_layer
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "dropout": 0.5, "batch_first": True}], ids=str)
def test_without_a_reset_it_is_the_plain_call(kind, options):
    layer = kind(I, H, **options)
    call, never = draw(layer, T, N), rows(layer, torch.zeros(T, N, dtype=torch.bool))
    found = with_gradients(layer, call, stored(layer, T, N), reset=never)
    unread = {name: found.pop(name) for name in list(found) if name.startswith("dreset_to")}
    assert_bits(found, evaluate(layer, call))
    assert all((t == 0).all() for t in unread.values())


@each_layer
def test_with_resets_everywhere_every_step_is_a_call_of_its_own(kind):
    layer = kind(I, H, 2, dtype=torch.float64)
    call, reset_to = draw(layer, T, N), stored(layer, T, N)
    always = torch.ones(T, N, dtype=torch.bool)
    output, last = layer(call.x, call.hx, reset=always, reset_to=reset_to)
    steps = [
        layer(call.x[t : t + 1], like(reset_to, [s[t].transpose(0, 1).contiguous() for s in states_of(reset_to)]))
        for t in range(T)
    ]
    expected = {"output": torch.cat([y for y, _ in steps]), "h_n": states_of(steps[-1][1])[0]}
    assert_close({"output": output, "h_n": states_of(last)[0]}, expected)


@each_layer
@pytest.mark.parametrize("batch_first", [False, True])
def test_what_no_segment_starts_from_is_never_read(kind, batch_first):
    layer = kind(I, H, 2, batch_first=batch_first)
    call, reset_to, reset = draw(layer, T, N), stored(layer, T, N), rows(layer, resets(0.3, T, N))
    own = rows(layer, torch.arange(T)[:, None] < torch.tensor(LENGTHS))
    dirty = like(reset_to, [t.clone() for t in states_of(reset_to)])
    for t in states_of(dirty):
        t[~(reset & own)] = float("nan")
    found = with_gradients(layer, call, dirty, reset=reset, lengths=LENGTHS)
    assert_bits(found, with_gradients(layer, call, reset_to, reset=reset, lengths=LENGTHS))
    for name in ("dreset_to_h", "dreset_to_c"):
        if name in found:
            assert (found[name][~(reset & own)] == 0).all()
            assert (found[name][reset & own] != 0).any()


@each_layer
def test_a_rollout_goes_on_from_the_states_it_kept(kind):
    """Recurrent replay: wherever a sequence is cut, the states that it had there give what the whole has."""
    layer = kind(I, H, 2, batch_first=True, dtype=torch.float64)
    x, kept, state = torch.randn(N, T, I, dtype=torch.float64), [], None
    outputs = []
    with torch.no_grad():
        for t in range(T):
            if state is not None:
                kept.append([s.transpose(0, 1) for s in states_of(state)])
            output, state = layer(x[:, t : t + 1], state)
            outputs.append(output)
        kept.insert(0, [torch.zeros_like(s) for s in kept[0]])
        reset_to = like(state, [torch.stack(list(of_steps), 1) for of_steps in zip(*kept, strict=True)])
        output, last = layer(x, reset=resets(0.4, N, T), reset_to=reset_to)
    found = {"output": output, "h_n": states_of(last)[0]}
    assert_close(found, {"output": torch.cat(outputs, 1), "h_n": states_of(state)[0]})


@each_layer
def test_gradients_are_right_and_have_gradients(kind):
    layer = kind(2, 3, 2, dtype=torch.float64)
    x = torch.randn(4, 3, 2, dtype=torch.float64)
    call, reset_to, names = draw(layer, 4, 3), stored(layer, 4, 3), [name for name, _ in layer.named_parameters()]
    count = len(states_of(reset_to))

    def run(x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        hx, to, weights = tensors[:count], tensors[count : 2 * count], tensors[2 * count :]
        more = {"lengths": [4, 0, 2], "reset": resets(0.4, 4, 3), "reset_to": like(reset_to, to)}
        own = dict(zip(names, weights, strict=True))
        output, last = torch.func.functional_call(layer, own, (x, like(call.hx, hx)), more)
        return output, *states_of(last)

    inputs = [x, *states_of(call.hx), *states_of(reset_to), *layer.parameters()]
    inputs = [t.detach().requires_grad_() for t in inputs]
    fastlstm.strict(True)
    try:
        assert torch.autograd.gradcheck(run, inputs)
        assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)
    finally:
        fastlstm.strict(False)


@each_layer
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits(kind, dtype):
    layer = kind(I, H, 2, dtype=dtype)
    call = draw(layer, T, N)
    call = call._replace(hx=like(call.hx, [t.clamp(-1, 1) for t in states_of(call.hx)]))
    reset_to = stored(layer, T, N)
    reset_to = like(reset_to, [t.clamp(-1, 1) for t in states_of(reset_to)])
    compare(layer, call, reset_to, reset=resets(0.3, T, N), lengths=LENGTHS)


@each_layer
@pytest.mark.parametrize("hx", [None, "given"])
def test_no_step_and_no_row(kind, hx):
    layer = kind(I, H, 2)
    for steps, N in ((0, 3), (4, 0)):
        call = draw(layer, steps, N, hx=hx is not None)
        reset = torch.zeros(steps, N, dtype=torch.bool)
        output, last = layer(call.x, call.hx, lengths=[0] * N, reset=reset, reset_to=stored(layer, steps, N))
        assert output.shape == (steps, N, H)
        for k, t in enumerate(states_of(last)):
            assert torch.equal(t, torch.zeros(2, N, H) if hx is None else states_of(call.hx)[k])


# Who runs it


@each_layer
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_call_crosses_to_the_engine_once(kind, batch_first, monkeypatch):
    layer = kind(I, H, 2, batch_first=batch_first)
    call, reset_to, reset = draw(layer, T, N), stored(layer, T, N), rows(layer, resets(0.3, T, N))
    crossings, forward = [], _engine.forward
    monkeypatch.setattr(_engine, "forward", lambda *given: crossings.append(1) or forward(*given))
    assert fastlstm.engine(layer, call.x, reset=reset, reset_to=reset_to).name == "native"
    output, _ = layer(call.x, reset=reset, reset_to=reset_to)
    assert len(crossings) == 1
    assert output.is_contiguous()


@falls_back
@each_layer
def test_autocast_and_saved_tensor_hooks(kind):
    layer = kind(I, H, 2)
    call, reset_to = draw(layer, T, N), stored(layer, T, N)
    more = {"reset": resets(0.3, T, N), "lengths": LENGTHS}
    expected = with_gradients(layer, call, reset_to, **more)
    with torch.autograd.graph.save_on_cpu():
        assert_bits(with_gradients(layer, call, reset_to, **more), expected)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = layer(call.x.bfloat16(), call.hx, reset_to=reset_to, **more)
    assert output.dtype is (torch.bfloat16 if kind is LSTM else torch.float32)  # a GRU's has that of its states
    assert_close({"output": output}, {"output": expected["output"]}, torch.bfloat16)


@each_layer
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "batch_first": True}], ids=str)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_a_compiled_call_is_one_graph_and_a_program_takes_other_resets(compiler, kind, options, lengths):
    layer = kind(I, H, dtype=torch.float64, **options)
    call, reset_to, reset = draw(layer, T, N), stored(layer, T, N), rows(layer, resets(0.3, T, N))
    more = {"lengths": None if lengths is None else torch.tensor(lengths)}
    expected = with_gradients(layer, call, reset_to, reset=reset, **more)
    whole = torch.compile(layer.forward, fullgraph=True, backend="aot_eager")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(layer, "forward", whole)
        assert_bits(with_gradients(layer, call, reset_to, reset=reset, **more), expected)
    program = torch.export.export(layer, (call.x, call.hx), {"reset": ~reset, "reset_to": reset_to, **more})
    output, _ = program.module()(call.x, call.hx, reset=reset, reset_to=reset_to, **more)
    assert_bits({"output": output.detach()}, {"output": expected["output"]})


def test_a_compiled_call_refuses_a_length_that_is_none(compiler):
    layer = LSTM(I, H)
    call, reset_to = draw(layer, T, N), stored(layer, T, N)
    whole = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for wrong in (T + 1, -1):
        lengths = torch.tensor([T, 1, wrong, 0, 3])
        kind, message = outcome(lambda n=lengths: whole(call.x, lengths=n, reset=resets(0.3, T, N), reset_to=reset_to))
        assert kind is ValueError
        assert "offsets and lengths" in message


@pytest.mark.filterwarnings("ignore:`torch.jit")  # deprecated, and used by torch's own forward-mode rules
@each_layer
def test_transforms(kind):
    layer = kind(I, H, 2, dtype=torch.float64)
    call, reset_to, reset = draw(layer, T, N), stored(layer, T, N), resets(0.3, T, N)
    point, count = (call.x, *states_of(reset_to)), len(states_of(reset_to))

    def run(x: Tensor, *to: Tensor) -> Tensor:
        return layer(x, call.hx, LENGTHS, reset=reset, reset_to=like(reset_to, to))[0]

    fastlstm.strict(True)
    try:
        way = tuple(torch.randn_like(t) for t in point)
        _, slope = torch.func.jvp(run, point, way)
        sides = [run(*(p + s * 1e-6 * d for p, d in zip(point, way, strict=True))) for s in (1, -1)]
        torch.testing.assert_close(slope, (sides[0] - sides[1]).detach() / 2e-6, rtol=0, atol=SLOPE)
        pairs = tuple(torch.stack([p, p + d]) for p, d in zip(point, way, strict=True))
        both = torch.func.vmap(run)(*pairs)
        each = torch.stack([run(*(t[k] for t in pairs)) for k in range(2)])
        assert_close({"output": both}, {"output": each})
        found = torch.func.grad(lambda *t: (run(*t) * call.cotangents[0]).sum(), tuple(range(1 + count)))(*point)
    finally:
        fastlstm.strict(False)
    cotangents = (call.cotangents[0], *(torch.zeros_like(t) for t in call.cotangents[1:]))
    expected = with_gradients(layer, call._replace(cotangents=cotangents), reset_to, reset=reset, lengths=LENGTHS)
    names = ["dx", "dreset_to_h", "dreset_to_c"][: 1 + count]
    assert_close(dict(zip(names, found, strict=True)), {name: expected[name] for name in names})


@each_layer
@pytest.mark.parametrize("options", [{"dropout": 0.5}, {"batch_first": True, "dropout": 0.0}], ids=str)
def test_torchs_own_kernel(kind, options, monkeypatch):
    layer = kind(I, H, 2, dtype=torch.float64, **options).eval()
    call, reset_to, reset = draw(layer, T, N), stored(layer, T, N), rows(layer, resets(0.3, T, N))
    expected = with_gradients(layer, call, reset_to, reset=reset, lengths=LENGTHS)
    force_torchs_kernel(monkeypatch)
    assert_close(with_gradients(layer, call, reset_to, reset=reset, lengths=LENGTHS), expected)


@each_layer
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_trace_has_the_layout_and_the_numbers_of_the_call(kind, batch_first):
    layer = kind(I, H, 2, batch_first=batch_first)
    call, reset_to, reset = draw(layer, T, N), stored(layer, T, N), rows(layer, resets(0.3, T, N))
    output, last = layer(call.x, call.hx, LENGTHS, reset, reset_to=reset_to)
    trace = layer.trace(call.x, call.hx, LENGTHS, reset, reset_to=reset_to)
    found = {"output": trace.output.detach(), "h": trace.layers[-1][0].h.detach(), "h_n": trace.h_n.detach()}
    assert_bits(found, {"output": output.detach(), "h": output.detach(), "h_n": states_of(last)[0].detach()})
    assert trace.lengths.tolist() == LENGTHS


def test_torch_fx_writes_it_down():
    class Replay(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = LSTM(I, H)

        def forward(self, x: Tensor, reset: Tensor, h: Tensor, c: Tensor) -> Tensor:
            return self.lstm(x, reset=reset, reset_to=(h, c))[0]

    model = Replay()
    given = (torch.randn(T, N, I), resets(0.3, T, N), *stored(model.lstm, T, N))
    assert torch.equal(torch.fx.symbolic_trace(model)(*given), model(*given))
