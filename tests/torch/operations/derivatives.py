"""Gradients, of any order and in any mode."""

from typing import Any

import torch
from equations import Equations
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from operations import Kind, build, draw, near, operation, output_of, weights_of


def gradients(layer: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    output, (h_n, c_n) = layer(x)
    return list(torch.autograd.grad(output.sin().sum() + h_n.cos().sum() + c_n.sum(), [x, *layer.parameters()]))


def second_gradients(layer: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    (dx,) = torch.autograd.grad(layer(x)[0].sin().sum(), x, create_graph=True)
    return list(torch.autograd.grad(dx.square().sum(), [x, *layer.parameters()]))


@operation("training")
def _(kind: Kind) -> None:
    layer, x = build(kind), draw(5, 2, 3)
    near(gradients(layer, x), gradients(Equations(layer), x))


@operation("training, bidirectional with proj_size")
def _(kind: Kind) -> None:
    layer, x = build(kind, bidirectional=True, proj_size=2), draw(5, 2, 3)
    wide = build(kind, bidirectional=True, proj_size=2, dtype=torch.float64)
    wide.load_state_dict(layer.state_dict())
    near(gradients(layer, x), gradients(wide, x.double()), torch.float32)


@operation("double backward")
def _(kind: Kind) -> None:
    layer, x = build(kind), draw(5, 2, 3)
    near(second_gradients(layer, x), second_gradients(Equations(layer), x))


@operation("double backward in float64")
def _(kind: Kind) -> None:
    layer, x = build(kind, dtype=torch.float64), draw(5, 2, 3, dtype=torch.float64)
    near(second_gradients(layer, x), second_gradients(Equations(layer), x))


@operation("`torch.autograd.gradcheck` and `gradgradcheck`")
def _(kind: Kind) -> None:
    layer, x = build(kind, dtype=torch.float64), draw(3, 1, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x)[0], x)
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], x)


@operation("forward-mode derivatives: `torch.func.jvp`", torchs="forward AD")
def _(kind: Kind) -> None:
    layer, x, direction = build(kind), draw(5, 2, 3), draw(2, 5, 3).transpose(0, 1)
    weights = weights_of(layer)
    found, expected = (
        torch.func.jvp(lambda x, m=model: output_of(m)(weights, x), (x,), (direction,))
        for model in (layer, Equations(layer))
    )
    near(found, expected)


@operation("forward-mode derivatives: `torch.autograd.forward_ad`", torchs="forward AD")
def _(kind: Kind) -> None:
    layer, x, direction = build(kind), draw(5, 2, 3), draw(2, 5, 3).transpose(0, 1)
    found = []
    for model in (layer, Equations(layer)):
        with forward_ad.dual_level():
            found.append(forward_ad.unpack_dual(model(forward_ad.make_dual(x, direction))[0]).tangent)
    near(*found)


@operation("`torch.func.grad`, `torch.func.vjp`")
def _(kind: Kind) -> None:
    layer, x = build(kind), draw(5, 2, 3)
    weights, found = weights_of(layer), []
    for model in (layer, Equations(layer)):
        output = output_of(model)
        slope = torch.func.grad(lambda w, output=output: output(w, x).square().sum())(weights)
        _, back = torch.func.vjp(lambda x, output=output: output(weights, x), x)
        found.append((slope, back(draw(5, 2, 4))))
    near(*found)


@operation("`torch.func.vmap` over inputs", torchs="Batching rule not implemented")
def _(kind: Kind) -> None:
    layer, xs = build(kind), draw(7, 5, 2, 3)
    with torch.no_grad():
        near(torch.func.vmap(lambda x: layer(x)[0])(xs), torch.stack([Equations(layer)(x)[0] for x in xs]))


@operation("`torch.func.vmap` over parameters (`stack_module_state`)", torchs="Batching rule not implemented")
def _(kind: Kind) -> None:
    layers, x = [build(kind, dtype=torch.float32) for _ in range(3)], draw(5, 2, 3)
    for scale, layer in enumerate(layers):
        nn.init.normal_(layer.weight_hh_l0, std=scale)
    stacked, _ = torch.func.stack_module_state(layers)
    found = torch.func.vmap(lambda weights: output_of(layers[0])(weights, x))(stacked)
    near(found, torch.stack([Equations(layer)(x)[0] for layer in layers]))


@operation("gradients of each sample: `vmap(grad(loss))`")
def _(kind: Kind) -> None:
    layer, xs = build(kind), draw(7, 5, 1, 3)
    weights, found = weights_of(layer), []
    output, expected = output_of(layer), output_of(Equations(layer))
    found = torch.func.vmap(torch.func.grad(lambda w, x: output(w, x).square().sum()), (None, 0))(weights, xs)
    each = [torch.func.grad(lambda w, x=x: expected(w, x).square().sum())(weights) for x in xs]
    near(found, {name: torch.stack([g[name] for g in each]) for name in weights})


@operation("`torch.func.jacrev`")
def _(kind: Kind) -> None:
    layer, x = build(kind), draw(3, 1, 3)
    near(*(torch.func.jacrev(lambda x, m=model: m(x)[0])(x) for model in (layer, Equations(layer))))


@operation("`torch.func.jacfwd`", torchs="forward AD")
def _(kind: Kind) -> None:
    layer, x = build(kind), draw(3, 1, 3)
    near(*(torch.func.jacfwd(lambda x, m=model: m(x)[0])(x) for model in (layer, Equations(layer))))


@operation("`torch.func.hessian`", torchs="forward AD")
def _(kind: Kind) -> None:
    layer, x = build(kind), draw(3, 1, 3)
    near(*(torch.func.hessian(lambda x, m=model: m(x)[0].sin().sum())(x) for model in (layer, Equations(layer))))


@operation("`torch.autograd.functional.jacobian`, `hessian`, in float64")
def _(kind: Kind) -> None:
    layer, x, found = build(kind, dtype=torch.float64), draw(3, 1, 3, dtype=torch.float64), []
    for model in (layer, Equations(layer)):
        jacobian = torch.autograd.functional.jacobian(lambda x, m=model: m(x)[0], x)
        found.append((jacobian, torch.autograd.functional.hessian(lambda x, m=model: m(x)[0].sin().sum(), x)))
    near(*found)


@operation("`torch.func.functional_call`")
def _(kind: Kind) -> None:
    layer, x = build(kind), draw(5, 2, 3)
    weights = {name: 2 * w for name, w in weights_of(layer).items()}
    near(output_of(layer)(weights, x), output_of(Equations(layer))(weights, x))


@operation("activation checkpointing, `use_reentrant` True and False")
def _(kind: Kind) -> None:
    for reentrant in (True, False):
        layer, plain, x = build(kind), Equations(build(kind)), draw(5, 2, 3).requires_grad_()
        checkpoint(layer, x, use_reentrant=reentrant)[0].sin().sum().backward()
        plain(x)[0].sin().sum().backward()
        near([p.grad for p in layer.parameters()], [p.grad for p in plain.parameters()])


@operation("`saved_tensors_hooks`, `save_on_cpu`")
def _(kind: Kind) -> None:
    layer, x, seen = build(kind), draw(5, 2, 3), []
    expected = gradients(Equations(layer), x)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t) or t.clone(), lambda t: t):
        near(gradients(layer, x), expected)
    assert seen
    with torch.autograd.graph.save_on_cpu():
        near(gradients(layer, x), expected)


@operation("`is_grads_batched`: many backward passes in one")
def _(kind: Kind) -> None:
    layer, x, found = build(kind), draw(5, 2, 3), []
    for model in (layer, Equations(layer)):
        leaf = x.clone().requires_grad_()
        found.append(torch.autograd.grad(model(leaf)[0], leaf, draw(3, 5, 2, 4), is_grads_batched=True))
    near(*found)


@operation("`detect_anomaly`, `use_deterministic_algorithms`")
def _(kind: Kind) -> None:
    layer, x = build(kind), draw(5, 2, 3)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.autograd.detect_anomaly():
            near(gradients(layer, x), gradients(Equations(layer), x))
    finally:
        torch.use_deterministic_algorithms(False)


@operation("results changed in place before backward", torchs="modified by an inplace operation")
def _(kind: Kind) -> None:
    layer, x = build(kind), draw(5, 2, 3)
    output = layer(x)[0]
    output.mul_(2)
    found = torch.autograd.grad(output.sum(), list(layer.parameters()))
    plain = Equations(layer)
    near(found, torch.autograd.grad((2 * plain(x)[0]).sum(), list(plain.parameters())))


@operation("backward twice, `retain_graph`")
def _(kind: Kind) -> None:
    layer, plain, x = build(kind), Equations(build(kind)), draw(5, 2, 3)
    for model in (layer, plain):
        loss = model(x)[0].sin().sum()
        loss.backward(retain_graph=True)
        loss.backward()
    near([p.grad for p in layer.parameters()], [p.grad for p in plain.parameters()])


@operation("some weights frozen")
def _(kind: Kind) -> None:
    layer = build(kind)
    layer.weight_hh_l0.requires_grad_(False)
    plain, x = Equations(layer), draw(5, 2, 3)
    for model in (layer, plain):
        model(x)[0].sin().sum().backward()
    assert layer.weight_hh_l0.grad is None
    trained = [[p.grad for p in model.parameters() if p.requires_grad] for model in (layer, plain)]
    near(*trained)


@operation("selective activation checkpointing")
def _(kind: Kind) -> None:
    layer, plain, x = build(kind), Equations(build(kind)), draw(5, 2, 3)

    def contexts() -> Any:
        return create_selective_checkpoint_contexts(lambda *_, **__: CheckpointPolicy.PREFER_RECOMPUTE)

    checkpoint(layer, x, use_reentrant=False, context_fn=contexts)[0].sin().sum().backward()
    plain(x)[0].sin().sum().backward()
    near([p.grad for p in layer.parameters()], [p.grad for p in plain.parameters()])
