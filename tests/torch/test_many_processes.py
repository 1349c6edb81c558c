"""examples/many_processes.py: two processes, DistributedDataParallel or fully_shard, against one with the whole batch.

The reference is nn.LSTM in one process, in float64. Two processes are spawned once for all cases; they meet at a file,
not at a port, and leave on disk what they found. The layer stands in the example's model, and by itself.
"""

import importlib.util
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.distributed as dist
from conftest import assert_bits, assert_close, dtype_of, twin
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import fastlstm
from fastlstm import LSTM

EXAMPLE = Path(__file__).parents[2] / "examples" / "many_processes.py"
STRATEGIES = ("ddp", "fsdp")
KINDS: dict[str, dict[str, object]] = {
    "plain": {"num_layers": 2},
    "both directions": {"num_layers": 2, "bidirectional": True, "proj_size": 3, "bias": False},
}
OPTIONS: dict[str, dict[str, object]] = {
    f"{kind}, {str(dtype).removeprefix('torch.')}": {**options, "dtype": dtype}
    for kind, options in KINDS.items()
    for dtype in (torch.float64, torch.float32)
}
CASES = [(strategy, options) for strategy in STRATEGIES for options in OPTIONS]
SECONDS = 120  # two processes take 8 on two cores, 22 where others keep these busy
# Five sequences: one process has three of them, the other two.
X = torch.randn(6, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")
every_case = pytest.mark.parametrize(("strategy", "options"), CASES)


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("many_processes", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(code: ModuleType, options: str, seed: int) -> nn.Module:
    lstm = build_layer(options, seed)
    model = code.Forecaster(lstm, Y.shape[1])
    features = (2 if lstm.bidirectional else 1) * (lstm.proj_size or lstm.hidden_size)
    model.head = nn.Linear(features, Y.shape[1], dtype=dtype_of(lstm))
    return model


def build_layer(options: str, seed: int) -> LSTM:
    torch.manual_seed(seed)
    return LSTM(4, 9, **OPTIONS[options])


def whole_gradients(model: nn.Module) -> dict[str, Tensor | None]:
    """A copy of every gradient as far as this process has it, of a sharded one as all have it together."""
    named = {name.removeprefix("module."): p.grad for name, p in model.named_parameters()}
    whole = {name: g.full_tensor() if hasattr(g, "full_tensor") else g for name, g in named.items()}
    return {f"d{name}": None if g is None else g.clone() for name, g in whole.items()}


def train(code: ModuleType, model: nn.Module) -> tuple[Tensor, list[dict[str, Tensor | None]]]:
    """The losses of five steps, and the whole gradient of every parameter at each."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.5)
    dtype = dtype_of(model)
    losses, gradients = [], []
    for _ in range(5):
        optimizer.zero_grad()
        losses.append(code.backward(model, X.to(dtype), Y.to(dtype)))
        gradients.append(whole_gradients(model))
        optimizer.step()
    return torch.tensor(losses, dtype=dtype), gradients


def squares(layer: nn.Module, x: Tensor) -> Tensor:
    output, (h_n, c_n) = layer(x)
    return output.pow(2).sum() + h_n.pow(2).sum() + c_n.pow(2).sum()


def accumulate(rank: int, strategy: str, layer: nn.Module) -> dict[str, dict[str, Tensor | None]]:
    """The layer by itself: gradients of a first micro-batch that are sent to no one, those with the second one's, which
    are, and a call without gradients after a step with these.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    x = X.to(dtype_of(layer))[:, rank::2]
    if strategy == "ddp":
        layer = nn.parallel.DistributedDataParallel(layer)
        with layer.no_sync():
            (2 * squares(layer, x[:, :1])).backward()
    else:
        fully_shard(layer, mesh=init_device_mesh("cpu", (2,)))
        layer.set_requires_gradient_sync(False)
        (2 * squares(layer, x[:, :1])).backward()
        layer.set_requires_gradient_sync(True)
    first = whole_gradients(layer)
    (2 * squares(layer, x[:, 1:])).backward()
    both = whole_gradients(layer)
    torch.optim.SGD(layer.parameters(), lr=0.01).step()
    with torch.no_grad():
        return {"first": first, "both": both, "stepped": {"output": layer(x)[0]}}


def member(rank: int, folder: Path) -> None:
    """One of the two processes: trains every case, saves it, and trains on from what the other strategy saved."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    warnings.filterwarnings("error", message="fastlstm")  # no strategy may take the engine away
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=SECONDS))
    code = example()
    for strategy, options in CASES:
        model = code.spread(build(code, options, seed=0), strategy)
        torch.save(train(code, model), folder / f"{strategy} {options} {rank}.pt")
        state = code.whole(model)
        assert bool(state) == (rank == 0), "the state dict is rank 0's"
        if state:
            save_file(state, folder / f"{strategy} {options}.safetensors")
        found = accumulate(rank, strategy, build_layer(options, seed=0))
        torch.save(found, folder / f"{strategy} {options} {rank} layer.pt")
    dist.barrier()
    for strategy, options in CASES:
        (other,) = set(STRATEGIES) - {strategy}
        model = code.spread(build(code, options, seed=1), strategy)
        state = load_file(folder / f"{other} {options}.safetensors")
        set_model_state_dict(model, state, options=StateDictOptions(full_state_dict=True))
        torch.save(train(code, model), folder / f"{strategy} {options} {rank} resumed.pt")
    code.leave()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What two processes left on disk; neither outlives the test."""
    folder = tmp_path_factory.mktemp("processes")
    context = torch.multiprocessing.spawn(member, (folder,), nprocs=2, join=False)
    try:
        deadline = time.monotonic() + SECONDS
        while not context.join(deadline - time.monotonic()):  # comes back after each process; raises where one failed
            assert time.monotonic() < deadline, f"two processes did not end within {SECONDS} s"
        yield folder
    finally:
        for process in context.processes:
            process.kill()


def one_process(code: ModuleType, options: str, state: dict[str, Tensor] | None = None) -> nn.Module:
    """The model with nn.LSTM in it, in float64, from the first parameters or from a checkpoint."""
    model = build(code, options, seed=0)
    model.lstm = twin(model.lstm)
    if state is not None:
        model.load_state_dict(state)
    return model.double()


def assert_same_training(found: Path, code: ModuleType, reference: nn.Module) -> None:
    losses, gradients = torch.load(found)
    expected_losses, expected = train(code, reference)
    assert_close({"output": losses}, {"output": expected_losses}, hint="the losses")
    for step, (mine, theirs) in enumerate(zip(gradients, expected, strict=True)):
        assert_close(mine, theirs, hint=f"step {step}")


@every_case
@pytest.mark.parametrize("rank", [0, 1])
def test_losses_and_gradients_are_those_of_one_process(folder, strategy, options, rank):
    code = example()
    assert_same_training(folder / f"{strategy} {options} {rank}.pt", code, one_process(code, options))


@every_case
@pytest.mark.parametrize("rank", [0, 1])
def test_a_checkpoint_trains_on_under_the_other_strategy(folder, strategy, options, rank):
    code = example()
    (other,) = set(STRATEGIES) - {strategy}
    state = load_file(folder / f"{other} {options}.safetensors")
    reference = one_process(code, options, state)
    assert_same_training(folder / f"{strategy} {options} {rank} resumed.pt", code, reference)


@every_case
def test_a_checkpoint_loads_in_one_process(folder, strategy, options):
    """In ours and in nn.LSTM, key for key; and it holds what one process arrives at."""
    code = example()
    state = load_file(folder / f"{strategy} {options}.safetensors")
    theirs, ours = one_process(code, options), build(code, options, seed=1)
    dtype = dtype_of(ours)
    train(code, theirs)
    assert state.keys() == theirs.state_dict().keys()
    assert_close(state, {name: theirs.state_dict()[name] for name in state})
    ours.load_state_dict(state)
    theirs.load_state_dict(state)
    for model in (ours, theirs.to(dtype)):
        assert_bits({name: model.state_dict()[name] for name in state}, state)
    assert_close({"output": ours(X.to(dtype)).detach()}, {"output": theirs.double()(X).detach()})


@every_case
@pytest.mark.parametrize("rank", [0, 1])
def test_the_layer_by_itself_accumulates_gradients(folder, strategy, options, rank):
    """What is not sent yet is this process's alone (ddp) or nowhere to be seen (fsdp)."""
    found = torch.load(folder / f"{strategy} {options} {rank} layer.pt")
    reference = twin(build_layer(options, seed=0), torch.float64)
    (2 * squares(reference, X[:, [rank]])).backward()
    if strategy == "ddp":
        assert_close(found["first"], whole_gradients(reference))
    else:
        assert found["first"] == dict.fromkeys(whole_gradients(reference))
    reference.zero_grad()
    squares(reference, X).backward()
    assert_close(found["both"], whole_gradients(reference))
    torch.optim.SGD(reference.parameters(), lr=0.01).step()
    assert_close(found["stepped"], {"output": reference(X[:, rank::2])[0].detach()})


def test_a_sharded_layer_is_not_saved_in_part(tmp_path):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        for kind in (LSTM, nn.LSTM):
            lstm = fully_shard(kind(4, 9), mesh=init_device_mesh("cpu", (1,)))
            with pytest.raises(ValueError, match="whole parameters, but weight_ih_l0 is sharded over processes"):
                fastlstm.save(lstm, tmp_path / "lstm.safetensors")
    finally:
        dist.destroy_process_group()
    assert not list(tmp_path.iterdir())


def two_processes(folder: Path, *arguments: str) -> Tensor:
    """The losses that the example prints under torchrun, on a free port."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(EXAMPLE)]
    command = [*torchrun, "--steps", "3", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return printed(done.stdout)


def printed(text: str) -> Tensor:
    losses = torch.tensor([float(line.split()[-1]) for line in text.splitlines()])
    assert len(losses) == 3, text  # one process of the two speaks
    return losses


def test_the_example_runs_under_torchrun_and_alone(tmp_path, monkeypatch, capsys):
    """On the demo's data: ddp, then on with fsdp from what it saved; the same in this process."""
    monkeypatch.chdir(tmp_path)

    def alone(*arguments: str) -> Tensor:
        monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--steps", "3", *arguments])
        example().main()
        return printed(capsys.readouterr().out)

    found = two_processes(tmp_path, "--strategy", "ddp", "--save", "ddp")
    assert_close({"output": found}, {"output": alone("--save", "alone")})
    found = two_processes(tmp_path, "--strategy", "fsdp", "--resume", "ddp")
    assert_close({"output": found}, {"output": alone("--resume", "alone")})
    assert load_file("forecaster.safetensors").keys() == load_file("ddp").keys()
