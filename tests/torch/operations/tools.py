"""What is built around a layer: hooks, parametrizations, pruning, parallel wrappers, quantization."""

import copy
import importlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
import torch
import torch.distributed
from equations import Equations
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from operations import Kind, build, draw, near, operation

X = draw(5, 2, 3)


@operation("hooks of modules, tensors and gradients")
def _(kind: Kind) -> None:
    layer, seen = build(kind), []
    layer.register_forward_pre_hook(lambda module, arguments: seen.append("before"))
    layer.register_forward_hook(lambda module, arguments, result: seen.append("after"))
    layer.register_full_backward_pre_hook(lambda module, g: seen.append("backward before"))
    layer.register_full_backward_hook(lambda module, d_in, d_out: seen.append("backward after"))
    layer.weight_hh_l0.register_hook(lambda gradient: gradient * 0)
    layer.bias_ih_l0.register_post_accumulate_grad_hook(lambda parameter: seen.append("accumulated"))
    layer(X.clone().requires_grad_())[0].sum().backward()
    assert sorted(seen) == ["accumulated", "after", "backward after", "backward before", "before"]
    assert not layer.weight_hh_l0.grad.any()


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 2


def computed(kind: Kind, change: Callable[[nn.Module], object]) -> None:
    """A layer one of whose weights is computed has the numbers, and the gradients, of the equations with the same."""
    layer, plain = build(kind), Equations(build(kind))
    steppers = []
    for model in (layer, plain):
        torch.manual_seed(0)
        change(model)
        steppers.append(torch.optim.SGD(model.parameters(), 0.5))
    for _ in range(2):
        losses = []
        for model, stepper in zip((layer, plain), steppers, strict=True):
            stepper.zero_grad()
            losses.append(model(X)[0].square().sum())
            losses[-1].backward()
            stepper.step()
        near(*losses)
    near(layer(X)[0], plain(X)[0])


@operation("`parametrize`")
def _(kind: Kind) -> None:
    computed(kind, lambda model: parametrize.register_parametrization(model, "weight_hh_l0", Doubled()))


@operation("`weight_norm`")
def _(kind: Kind) -> None:
    computed(kind, lambda model: parametrizations.weight_norm(model, "weight_hh_l0"))


@operation("`spectral_norm`")
def _(kind: Kind) -> None:
    computed(kind, lambda model: parametrizations.spectral_norm(model, "weight_hh_l0"))


@operation("`orthogonal`")
def _(kind: Kind) -> None:
    computed(kind, lambda model: parametrizations.orthogonal(model, "weight_hh_l0"))


@operation("`torch.nn.utils.weight_norm`, `spectral_norm` (before parametrizations)")
def _(kind: Kind) -> None:
    computed(kind, lambda model: nn.utils.weight_norm(model, "weight_hh_l0"))
    computed(kind, lambda model: nn.utils.spectral_norm(model, "weight_hh_l0"))


@operation("`prune`")
def _(kind: Kind) -> None:
    computed(kind, lambda model: prune.l1_unstructured(model, "weight_hh_l0", amount=0.5))


@operation("tied weights")
def _(kind: Kind) -> None:
    def tie(model: nn.Module) -> None:
        model.weight_hh_l1 = model.weight_hh_l0

    computed(kind, tie)


@operation("gradients clipped, `parameters_to_vector`, a fused optimizer")
def _(kind: Kind) -> None:
    layer, plain = build(kind), Equations(build(kind))
    for model in (layer, plain):
        stepper = torch.optim.AdamW(model.parameters(), fused=True)
        model(X)[0].square().sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        stepper.step()
    near(*(nn.utils.parameters_to_vector(model.parameters()) for model in (layer, plain)))


@operation("`swa_utils.AveragedModel`")
def _(kind: Kind) -> None:
    layer = build(kind)
    averaged = torch.optim.swa_utils.AveragedModel(layer)
    with torch.no_grad():
        for p in layer.parameters():
            p.mul_(2)
    averaged.update_parameters(layer)
    near(averaged(X)[0], Equations(averaged.module)(X)[0])


@operation("`DataParallel`'s replicas")
def _(kind: Kind) -> None:
    """torch's own replicate, its broadcast between devices replaced by copies."""

    def copies(tensors: list[Tensor], devices: list[int], detach: bool = False) -> list[list[Tensor]]:
        return [[t.clone() for t in tensors] for _ in devices]

    replicating, layer = importlib.import_module("torch.nn.parallel.replicate"), build(kind)
    with patch.object(replicating, "_broadcast_coalesced_reshape", copies):
        first, second = replicating.replicate(layer, [0, 1])
    output = torch.cat([first(X[:, :1])[0], second(X[:, 1:])[0]], 1)
    plain = Equations(layer)
    found = torch.autograd.grad(output.square().sum(), list(layer.parameters()))
    near(found, torch.autograd.grad(plain(X)[0].square().sum(), list(plain.parameters())))


@contextmanager
def one_process() -> Iterator[None]:
    with TemporaryDirectory() as folder:
        store = torch.distributed.FileStore(f"{folder}/store", 1)
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        try:
            yield
        finally:
            torch.distributed.destroy_process_group()


def trained(layer: nn.Module, plain: nn.Module) -> None:
    steppers = [torch.optim.SGD(model.parameters(), 0.5) for model in (layer, plain)]
    for _ in range(2):
        losses = []
        for model, stepper in zip((layer, plain), steppers, strict=True):
            stepper.zero_grad()
            losses.append(model(X)[0].square().sum())
            losses[-1].backward()
            stepper.step()
        near(*losses)


@operation("`DistributedDataParallel`, gloo")
def _(kind: Kind) -> None:
    with one_process():
        layer = build(kind)
        plain = Equations(layer)
        trained(nn.parallel.DistributedDataParallel(layer), plain)


@operation("`FullyShardedDataParallel`, gloo")
def _(kind: Kind) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    with one_process():
        layer = build(kind)
        plain = Equations(layer)
        trained(FullyShardedDataParallel(layer, device_id=torch.device("cpu"), use_orig_params=True), plain)


@operation("`fully_shard` (FSDP2), gloo")
def _(kind: Kind) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    with one_process():
        layer = build(kind)
        plain = Equations(layer)
        fully_shard(layer, mesh=init_device_mesh("cpu", (1,)))
        trained(layer, plain)


@operation("Opacus' `ModuleValidator.fix`, then gradients of each sample (`import fastlstm.opacus`)")
def _(kind: Kind) -> None:
    """In the place of an nn.LSTM Opacus has a layer of its own."""
    opacus = pytest.importorskip("opacus")
    importlib.import_module("fastlstm.opacus")
    layer = build(kind)
    plain = Equations(layer)
    fixed = opacus.validators.ModuleValidator.fix_and_validate(layer)
    opacus.GradSampleModule(fixed, batch_first=False)
    output, (h_n, c_n) = fixed(X)
    (output.square().sum() + h_n.sum() + c_n.sum()).backward()
    found = {name: fixed.get_parameter(name).grad_sample for name, _ in layer.named_parameters()}
    each = []
    for n in range(X.shape[1]):
        output, (h_n, c_n) = plain(X[:, n : n + 1])
        loss = output.square().sum() + h_n.sum() + c_n.sum()
        each.append(torch.autograd.grad(loss, list(plain.parameters())))
    near(list(found.values()), [X.shape[1] * torch.stack(of) for of in zip(*each, strict=True)])


@operation("`quantize_dynamic`", ours="passed the layer by")
def _(kind: Kind) -> None:
    model = nn.Sequential(build(kind))
    quantized = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model))
    assert type(quantized[0]) is not type(model[0]), "it passed the layer by"
    torch.testing.assert_close(quantized(X)[0], model(X)[0], rtol=0, atol=0.05)


def events(kind: Kind, train: bool) -> list[str]:
    layer = build(kind)
    with (
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
        torch.set_grad_enabled(train),
    ):
        output = layer(X)[0]
        if train:
            output.sum().backward()
    return [event.key for event in profile.key_averages()]


@operation("`torch.profiler`: a name for forward and for backward, in training")
def _(kind: Kind) -> None:
    names = [name for name in events(kind, True) if re.search("lstm|rnn|recurrence", name.lower())]
    assert any("backward" in name.lower() for name in names)
    assert any("backward" not in name.lower() for name in names)


@operation("`torch.profiler`: a name for a call without gradients")
def _(kind: Kind) -> None:
    assert any("lstm" in name for name in events(kind, False))
