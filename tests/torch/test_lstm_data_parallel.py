"""DataParallel's replicate, DistributedDataParallel and FSDP2's fully_shard around a layer, in one process, on gloo."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed
from around import X, build, gradients, pair
from conftest import assert_close
from equations import Equations
from torch import Tensor, nn


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
