"""semantics.md, "The machinery people lean on": what wraps a layer or calls it in the caller's place.

functional_call and torch.func, checkpointing and saved-tensor hooks, module hooks, torch.jit.trace, torch.compile,
DataParallel's replicate, DistributedDataParallel and FSDP2's fully_shard (in one process, on gloo).
"""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed
from conftest import assert_bits, assert_close, draw, evaluate, twin
from equations import Equations
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

from fastlstm import LSTM, LSTMCell
from tests.tolerances import DIRECTIONAL_SLOPE

composite_is_expected = pytest.mark.filterwarnings("ignore:fastlstm runs in plain tensor operations")


def build(**options: object) -> LSTM:
    return LSTM(5, 9, 2, **{"dtype": torch.float64, **options})


class Model(nn.Module):
    """A layer with something on either side, as it is met in the wild."""

    def __init__(self, lstm: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, lstm.input_size, dtype=lstm.weight_ih_l0.dtype)
        self.lstm = lstm
        self.head = nn.Linear(lstm.hidden_size, 2, dtype=lstm.weight_ih_l0.dtype)

    def forward(self, x: Tensor) -> Tensor:
        output, (h_n, _) = self.lstm(self.encoder(x).tanh())
        return self.head(output) + h_n.mean()


def pair(**options: object) -> tuple[Model, Model]:
    """The model with ours in it, and the same one with nn.LSTM."""
    ours = Model(build(**options))
    theirs = Model(twin(ours.lstm))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor | None]:
    model.zero_grad(set_to_none=True)
    y = model(x)
    y.pow(2).sum().backward()
    return {"output": y.detach()} | {f"d{name.replace('module.', '')}": p.grad for name, p in model.named_parameters()}


X = torch.randn(6, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


# functional_call and torch.func


def test_functional_call_uses_the_parameters_it_is_given():
    ours = build()
    call = draw(ours, 6, 4)
    before = evaluate(ours, call)
    other = {name: (p.detach() * 2).requires_grad_() for name, p in ours.named_parameters()}
    reference = twin(ours)
    reference.load_state_dict(other)
    expected = evaluate(reference, call)
    output, (h_n, c_n) = torch.func.functional_call(ours, other, (call.x, call.hx))
    found = torch.autograd.grad((output, h_n, c_n), list(other.values()), call.cotangents)
    named = dict(zip([f"d{name}" for name in other], found, strict=True))
    assert_close(named, {name: expected[name] for name in named})
    assert_close({"output": output}, {"output": expected["output"]})
    assert_bits(evaluate(ours, call), before)


@composite_is_expected
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_torch_func_grad_vmap_and_jvp():
    """Per-sample gradients, and a directional derivative, against loops and finite differences.

    The deprecated torch.jit.script is used by torch's own decompositions for jvp.
    """
    ours = build()
    parameters = {name: p.detach() for name, p in ours.named_parameters()}
    x = torch.randn(7, 6, 5, dtype=torch.float64)  # seven unbatched sequences

    def loss(weights: dict[str, Tensor], sequence: Tensor) -> Tensor:
        return torch.func.functional_call(ours, weights, (sequence,))[0].pow(2).sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    for k in range(7):
        ours.zero_grad(set_to_none=True)
        ours(x[k])[0].pow(2).sum().backward()
        found = {f"d{name}": g[k] for name, g in each.items()}
        assert_close(found, {f"d{name}": p.grad for name, p in ours.named_parameters()})
    direction = torch.randn_like(x[0])
    _, derivative = torch.func.jvp(lambda sequence: loss(parameters, sequence), (x[0],), (direction,))
    step = 1e-6
    numeric = (loss(parameters, x[0] + step * direction) - loss(parameters, x[0] - step * direction)) / (2 * step)
    assert derivative.item() == pytest.approx(numeric.item(), rel=DIRECTIONAL_SLOPE)


@composite_is_expected
def test_stacked_models_of_an_ensemble():
    """torch.func.stack_module_state and vmap over the weights."""
    models = [build() for _ in range(3)]
    stacked, _ = torch.func.stack_module_state(models)
    x = torch.randn(6, 4, 5, dtype=torch.float64)
    together = torch.func.vmap(lambda weights: torch.func.functional_call(models[0], weights, (x,))[0])(stacked)
    for k, model in enumerate(models):
        torch.testing.assert_close(together[k], model(x)[0])


# Hooks and checkpointing


def test_module_and_tensor_hooks_are_called():
    ours, seen = build(), []
    ours.register_forward_pre_hook(lambda module, arguments: seen.append("before"))
    ours.register_forward_hook(lambda module, arguments, result: seen.append("after"))
    ours.register_full_backward_pre_hook(lambda module, g: seen.append("backward before"))
    ours.register_full_backward_hook(lambda module, d_in, d_out: seen.append("backward after"))
    ours.weight_hh_l0.register_hook(lambda gradient: gradient * 0)
    ours.bias_ih_l0.register_post_accumulate_grad_hook(lambda parameter: seen.append("accumulated"))
    output, _ = ours(torch.randn(6, 4, 5, dtype=torch.float64, requires_grad=True))
    output.sum().backward()
    assert {"before", "after", "backward before", "backward after", "accumulated"} == set(seen)
    assert not ours.weight_hh_l0.grad.any()
    assert ours.weight_hh_l1.grad.any()


def test_a_forward_hook_may_replace_the_result():
    ours = build()
    handle = ours.register_forward_hook(lambda module, arguments, result: (result[0] * 2, result[1]))
    x = torch.randn(6, 4, 5, dtype=torch.float64)
    doubled = ours(x)[0]
    handle.remove()
    assert torch.equal(doubled, ours(x)[0] * 2)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing_gives_the_same_gradients(use_reentrant):
    ours = build(dropout=0.5)

    def run(checkpointed: bool) -> dict[str, Tensor]:
        ours.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        x = torch.randn(6, 4, 5, dtype=torch.float64, requires_grad=True)
        output = (checkpoint(ours, x, use_reentrant=use_reentrant) if checkpointed else ours(x))[0]
        output.pow(2).sum().backward()
        return {"dx": x.grad} | {f"d{name}": p.grad for name, p in ours.named_parameters()}

    assert_bits(run(True), run(False))


def test_saved_tensor_hooks_see_what_the_graph_keeps():
    """save_on_cpu and every other user of the hooks: what is kept goes through them, and comes back."""
    ours, packed = build(), []
    x = torch.randn(6, 4, 5, dtype=torch.float64)

    def run() -> dict[str, Tensor]:
        ours.zero_grad(set_to_none=True)
        ours(x)[0].pow(2).sum().backward()
        return {f"d{name}": p.grad for name, p in ours.named_parameters()}

    plain = run()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t.numel()) or t.clone(), lambda t: t):
        assert_bits(run(), plain)
    assert sum(packed) > x.numel()
    with torch.autograd.graph.save_on_cpu():
        assert_bits(run(), plain)


# torch.jit.trace, torch.compile, torch.export

traced = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore::FutureWarning"
)


@traced
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "proj_size": 3, "batch_first": True}], ids=str)
def test_jit_trace_of_a_model_that_holds_it(options, tmp_path: Path):
    """The trace answers like the model, for other values, batch sizes and lengths too, and survives a file."""
    if "proj_size" in options:
        ours: nn.Module = build(**options)
        x, others = torch.randn(4, 6, 5, dtype=torch.float64), torch.randn(3, 9, 5, dtype=torch.float64)
    else:
        ours, _ = pair(**options)
        x, others = X, torch.randn(9, 3, 3, dtype=torch.float64)
    trace = torch.jit.trace(ours.eval(), (x,))
    torch.jit.save(trace, str(tmp_path / "trace.pt"))
    for module in (trace, torch.jit.load(str(tmp_path / "trace.pt"))):
        for given in (x, others):
            torch.testing.assert_close(module(given), ours(given))


@traced
def test_a_trace_trains_and_reads_its_parameters_anew():
    ours, theirs = pair()
    trace = torch.jit.trace(ours, (X,))
    assert_close(gradients(trace, X), gradients(theirs, X))
    with torch.no_grad():
        ours.lstm.weight_hh_l0.mul_(2)
        theirs.lstm.weight_hh_l0.mul_(2)
    assert_close(gradients(trace, X), gradients(theirs, X))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_torch_compile_makes_one_graph_with_the_same_gradients(backend):
    ours, theirs = pair()
    compiled = torch.compile(ours, backend=backend, fullgraph=True)
    try:
        found = {name.replace("_orig_mod.", ""): value for name, value in gradients(compiled, X).items()}
        assert_close(found, gradients(theirs, X))
        with torch.no_grad():
            torch.testing.assert_close(compiled(X), theirs(X))
    finally:
        torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torch_export_keeps_the_numbers():
    ours, theirs = pair()
    open_sizes = {0: torch.export.Dim("T"), 1: torch.export.Dim("N")}
    program = torch.export.export(ours.eval(), (X,), dynamic_shapes=(open_sizes,))
    others = torch.randn(9, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(program.module()(others), theirs(others))


# Parallel wrappers


def test_replicate_of_data_parallel(monkeypatch: pytest.MonkeyPatch):
    """torch's own replicate, its broadcast replaced by copies: replicas hold plain tensors in place of parameters."""

    def copies(tensors: list[Tensor], devices: list[int], detach: bool = False) -> list[list[Tensor]]:
        return [[t.clone() for t in tensors] for _ in devices]

    replicate_module = importlib.import_module("torch.nn.parallel.replicate")
    monkeypatch.setattr(replicate_module, "_broadcast_coalesced_reshape", copies)
    ours, theirs = pair()
    halves = X.split(2, dim=1)
    ours.zero_grad(set_to_none=True)
    replicas = replicate_module.replicate(ours, [0, 1])
    assert not list(replicas[0].lstm.parameters())
    y = torch.cat([replica(half) for replica, half in zip(replicas, halves, strict=True)], dim=1)
    y.pow(2).sum().backward()
    expected = torch.cat([theirs(half) for half in halves], dim=1)
    expected.pow(2).sum().backward()
    assert_close(
        {"output": y, **{f"d{name}": p.grad for name, p in ours.named_parameters()}},
        {"output": expected, **{f"d{name}": p.grad for name, p in theirs.named_parameters()}},
    )


@pytest.fixture
def gloo(tmp_path: Path) -> Iterator[None]:
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


distributed = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")


@distributed
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_distributed_data_parallel_trains(gloo):
    ours, theirs = pair()
    wrapped = nn.parallel.DistributedDataParallel(ours)
    steppers = [torch.optim.SGD(model.parameters(), lr=0.01) for model in (wrapped, theirs)]
    for _ in range(3):
        assert_close(gradients(wrapped, X), gradients(theirs, X))
        for stepper in steppers:
            stepper.step()


@distributed
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_fully_shard_trains(gloo):
    """FSDP2: the named parameters are sharded tensors, whole ones stand in their place during a call."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    ours = build()
    reference = Equations(ours)
    mesh = init_device_mesh("cpu", (1,))
    fully_shard(ours, mesh=mesh)
    x = torch.randn(6, 4, 5, dtype=torch.float64)
    steppers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (ours, reference)]
    for _ in range(3):
        for model, stepper in zip((ours, reference), steppers, strict=True):
            stepper.zero_grad()
            model(x)[0].pow(2).sum().backward()
        found = {f"d{name}": p.grad.full_tensor() for name, p in ours.named_parameters()}
        assert_close(found, {f"d{name}": p.grad for name, p in reference.named_parameters()})
        for stepper in steppers:
            stepper.step()
    state = {name: p.full_tensor() for name, p in ours.state_dict().items()}
    assert_close({f"d{n}": p for n, p in state.items()}, {f"d{n}": p.detach() for n, p in reference.named_parameters()})


def test_nested_in_sequential_and_module_list():
    class First(nn.Module):
        def forward(self, result: tuple[Tensor, tuple[Tensor, Tensor]]) -> Tensor:
            return result[0]

    ours = build()
    x = torch.randn(6, 4, 5, dtype=torch.float64)
    stack = nn.Sequential(ours, First(), LSTM(9, 3, dtype=torch.float64), First())
    assert stack(x).shape == (6, 4, 3)
    packed = pack_padded_sequence(x, torch.tensor([6, 5, 2, 1]))
    assert nn.Sequential(ours, First(), LSTM(9, 3, dtype=torch.float64))(packed)[0].data.shape == (14, 3)
    assert isinstance(nn.ModuleList([ours])[0], LSTM)


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("kind", [LSTM, LSTMCell])
def test_torchscript_says_what_to_do(kind):
    model = nn.Sequential(nn.Linear(3, 3), kind(3, 4))
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"fastlstm\.revert\(model\).*fastlstm\.enable\(\)"):
            torch.jit.script(model)
    assert type(model[1]) is kind


@pytest.mark.parametrize("grad", [True, False])
def test_torch_fx_keeps_it_whole(grad):
    """As it keeps torch.nn's modules: no look inside, a node that calls it."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.cell = LSTM(3, 4), LSTMCell(4, 4)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            output, (h, c) = self.lstm(x, lengths=lengths)
            return output[0] + self.cell(output[-1], (h[0], c[0]))[0]

    model, x, lengths = Model(), torch.randn(5, 2, 3), torch.tensor([5, 3])
    with torch.set_grad_enabled(grad):
        traced = torch.fx.symbolic_trace(model)
        assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["lstm", "cell"]
        assert torch.equal(traced(x, lengths), model(x, lengths))
        again = torch.fx.symbolic_trace(traced)
        assert torch.equal(again(x, lengths), model(x, lengths))
