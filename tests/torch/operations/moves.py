"""A layer copied, saved, loaded, and sent to other processes."""

import copy
import io
import pickle
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from equations import Equations
from torch import nn

import fastlstm
from operations import Kind, build, draw, near, operation

X = draw(5, 2, 3)


def same(again: nn.Module, layer: nn.Module) -> None:
    assert type(again) is type(layer)
    near(again(X), Equations(layer)(X))


@operation("`copy.deepcopy`, `copy.copy`")
def _(kind: Kind) -> None:
    layer = build(kind)
    same(copy.deepcopy(layer), layer)
    same(copy.copy(layer), layer)


@operation("`pickle`, `torch.save` of the module")
def _(kind: Kind) -> None:
    layer, file = build(kind), io.BytesIO()
    same(pickle.loads(pickle.dumps(layer)), layer)
    torch.save(layer, file)
    file.seek(0)
    same(torch.load(file, weights_only=False), layer)


@operation("`torch.load(weights_only=True)` of the module, its class allowed")
def _(kind: Kind) -> None:
    layer, file = build(kind), io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    with torch.serialization.safe_globals([kind]):
        same(torch.load(file, weights_only=True), layer)


@operation("`torch.package`")
def _(kind: Kind) -> None:
    layer = build(kind)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.zip"
        with torch.package.PackageExporter(path) as exporter:
            exporter.extern(["fastlstm.**", "torch.**"])
            exporter.save_pickle("model", "model.pkl", layer)
        same(torch.package.PackageImporter(path).load_pickle("model", "model.pkl"), layer)


@operation("`state_dict` to the other class and back")
def _(kind: Kind) -> None:
    other = fastlstm.LSTM if kind is nn.LSTM else nn.LSTM
    layer, between, back = build(kind), other(3, 4, 2), kind(3, 4, 2)
    assert list(layer.state_dict()) == list(between.state_dict())
    between.load_state_dict(layer.state_dict())
    back.load_state_dict(between.state_dict())
    same(back, layer)


@operation("`load_state_dict(assign=True)`")
def _(kind: Kind) -> None:
    layer, other = build(kind), kind(3, 4, 2)
    other.load_state_dict({name: 2 * w for name, w in layer.state_dict().items()}, assign=True)
    near(other(X)[0], Equations(other)(X)[0])
    assert torch.equal(other.weight_ih_l0, 2 * layer.weight_ih_l0)


@operation("`torch.__future__.set_swap_module_params_on_conversion`")
def _(kind: Kind) -> None:
    layer = build(kind)
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        layer.double()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    near(layer(X.double())[0], Equations(layer)(X.double())[0])


def train_shared(layer: nn.Module) -> None:
    """In another process."""
    torch.set_num_threads(1)
    with torch.no_grad():
        layer.weight_ih_l0.mul_(2)
    output = layer(X)[0]
    output.sum().backward()
    near(output, Equations(layer)(X)[0])


@operation("`share_memory`, and a process of `torch.multiprocessing`")
def _(kind: Kind) -> None:
    layer = build(kind).share_memory()
    before = layer.weight_ih_l0.detach().clone()
    process = torch.multiprocessing.get_context("spawn").Process(target=train_shared, args=(layer,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert torch.equal(layer.weight_ih_l0, 2 * before)
    near(layer(X)[0], Equations(layer)(X)[0])


@operation("a forked process, after calls in this one")
def _(kind: Kind) -> None:
    layer = build(kind)
    layer(X)[0].sum().backward()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        process = torch.multiprocessing.get_context("fork").Process(target=train_shared, args=(layer,))
        process.start()
    process.join(60)
    assert process.exitcode == 0


@operation("a subclass whose forward calls its parent's")
def _(kind: Kind) -> None:
    class Twice(kind):  # type: ignore[misc,valid-type]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            output, state = super().forward(x)
            return super().forward(x, state)[0] + output

    torch.manual_seed(0)
    layer = Twice(3, 4, 2)
    plain = Equations(layer)
    near(layer(X), plain(torch.cat([X, X]))[0][5:] + plain(X)[0])


@operation("`isinstance(layer, nn.LSTM)`", ours="is none")
def _(kind: Kind) -> None:
    assert isinstance(build(kind), nn.LSTM), "it is none"


@operation("`nn.LSTM`'s helpers: `check_forward_args`, `_flat_weights`, ..")
def _(kind: Kind) -> None:
    layer, state = build(kind), torch.zeros(2, 2, 4)
    layer.check_forward_args(X, (state, state), None)
    layer.check_input(X, None)
    layer.check_hidden_size(state, layer.get_expected_hidden_size(X, None))
    assert layer.get_expected_cell_size(X, None) == (2, 2, 4)
    assert layer.permute_hidden((state, state), None) == (state, state)
    assert all(ours is own for ours, own in zip(layer._flat_weights, layer.parameters(), strict=True))
    assert len(layer.all_weights) == 2
    layer.flatten_parameters()
