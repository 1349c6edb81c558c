"""Every LSTM and GRU of a file, whatever graph in it they are in."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, NamedTuple, TypeVar

from fastlstm import checkpoint
from fastlstm.cells import BY_NAME
from fastlstm.files import KEY
from fastlstm.onnx import nodes, stacks
from fastlstm.onnx.constants import Constants, Scope, scopes
from fastlstm.onnx.model import Model, array_of, opened
from fastlstm.onnx.nodes import Layer

Module = TypeVar("Module")


def chosen(model: Any, name: str | None) -> Layer:
    """The layer of that name, or the only one. Errors as `from_onnx` says."""
    table = _table(opened(model))
    names = ", ".join(map(repr, table))
    if name is None:
        if len(table) > 1:
            raise ValueError(f"the model has {len(table)} layers: expected the name of one of {names}")
        name = next(iter(table))
    if name not in table:
        raise ValueError(f"the model has no layer {name!r}: expected one of {names}")
    found = table[name]
    if isinstance(found, ValueError):
        raise found
    if found.hx is not None:
        raise ValueError(
            f"the model gives the layer {name!r} initial states that are not zeros: onnx_layers(model)[{name!r}] has both"
        )
    return found


def every(model: Any, made: Callable[[Layer], Module]) -> dict[str, Module]:
    """All of them, by name, each as `made` makes it. Errors as `onnx_layers` says."""
    found: dict[str, Module] = {}
    for name, layer in _table(opened(model)).items():
        if isinstance(layer, ValueError):
            raise layer
        found[name] = made(layer)
    return found


class _Refused(NamedTuple):
    """A node that is no such layer as ours."""

    name: str
    why: ValueError


def _table(model: Model) -> dict[str, Layer | ValueError]:
    """By name, in the order of the file: the layer, or why it can't be one. ValueError: there is none, or the file is broken."""
    ours = None
    if model.proto.producer_name == KEY:
        ours = checkpoint.described({entry.key: entry.value for entry in model.proto.metadata_props})
        if ours[1].get("proj_size", 0):
            return _projected(model, *ours)
    table: dict[str, Layer | ValueError] = {}
    seen: set[bytes] = set()
    for found in _stacks(list(scopes(model))):
        key = _key(found) if isinstance(found, Layer) else b""
        if key in seen:
            continue
        if key:
            seen.add(key)
        name = found.name if found.name not in table else f"{found.name} ({len(table)})"
        table[name] = found if isinstance(found, Layer) else found.why
    if not table:
        inside = any(nodes.is_recurrent(node) for function in model.proto.functions for node in function.node)
        hint = " but in functions: onnx.inliner.inline_local_functions(model) makes a graph of them" if inside else ""
        raise ValueError(f"the model has no LSTM or GRU node{hint}")
    return table if ours is None else {name: _as_saved(found, *ours) for name, found in table.items()}


def _stacks(known: Sequence[Scope]) -> Iterator[Layer | _Refused]:
    """What the nodes are, where several are the layers of one module that module."""
    readers = stacks.readers(known)
    read = {
        id(node): (node, scope, _read(node, scope))
        for scope in known
        for node in scope.nodes
        if nodes.is_recurrent(node)
    }
    above: dict[int, int] = {}
    for key, (node, scope, upper) in read.items():
        maker = stacks.before(node, scope, readers) if isinstance(upper, Layer) else None
        lower = None if maker is None else read[id(maker)][2]
        if isinstance(lower, Layer) and isinstance(upper, Layer) and stacks.fit(lower, upper):
            above[id(maker)] = key
    uppers = set(above.values())
    for key in read:
        if key in uppers:
            continue
        chain = [key]
        while chain[-1] in above:
            chain.append(above[chain[-1]])
        found = [read[key][2] for key in chain]
        layers = [layer for layer in found if isinstance(layer, Layer)]
        yield stacks.stacked(layers) if len(layers) > 1 else found[0]


def _read(node: Any, scope: Scope) -> Layer | _Refused:
    try:
        return nodes.read(node, scope)
    except ValueError as error:
        return _Refused(nodes.name_of(node), error)


def _key(layer: Layer) -> bytes:
    """The same for nodes with the same weights, as the branches of an If have them."""
    digest = sha256(repr((layer.cell.name, sorted(layer.arguments.items()), layer.hx is None)).encode())
    for array in (*layer.arrays.values(), *(layer.hx or ())):
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return digest.digest()


def _as_saved(found: Layer | ValueError, kind: str, arguments: dict[str, Any]) -> Layer | ValueError:
    """With the arguments of the layer that `to_onnx` wrote, which its nodes don't tell."""
    if isinstance(found, ValueError):
        return found
    told = {**found.arguments, "batch_first": arguments.get("batch_first"), "dropout": arguments.get("dropout")}
    if kind != found.cell.name or told != arguments:
        raise ValueError(
            f"the model says that it is a {kind} with {arguments}, but has a {found.cell.name} with {told}"
        )
    return replace(found, arguments=arguments)


def _projected(model: Model, kind: str, arguments: dict[str, Any]) -> dict[str, Layer | ValueError]:
    """An LSTM with a projection, as `to_onnx` writes it: ONNX has no node of it; the weights have torch's names."""
    own = ("weight_ih_l", "weight_hh_l", "weight_hr_l", "bias_ih_l", "bias_hh_l")
    scope = Scope(Constants(model), model.proto.graph)
    arrays = {name: array_of(model, tensor) for name, tensor in scope.initializers.items() if name.startswith(own)}
    checkpoint.check(kind, arguments, {name: array.shape for name, array in arrays.items()})
    name = f"{kind.lower()}_l0"
    return {name: Layer(name, BY_NAME[kind], arguments, arrays)}
