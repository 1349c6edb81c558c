"""From arrays by torch's names to a layer: what its constructor's arguments were, read off the shapes."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize, safe_open

from fastlstm import file_kinds
from fastlstm.cells import CELLS, Cell
from fastlstm.files import held
from fastlstm.weights import Sizes, named_shapes

Array = NDArray[Any]


def sizes_of(cell: Cell, is_cell: bool, shapes: Mapping[str, tuple[int, ...]]) -> Sizes:
    """From the shapes of parameters by name; others are passed by. ValueError: they are no such layer's."""
    first = "" if is_cell else "_l0"
    kind = f"{cell.name}Cell" if is_cell else cell.name
    for name in (f"weight_ih{first}", f"weight_hh{first}"):
        if name not in shapes:
            raise ValueError(f"expected the parameters of a {kind}: there is no {name}")
        if len(shapes[name]) != 2:
            raise ValueError(f"expected {name} to have 2 dimensions, got {len(shapes[name])}")
    (rows, I), gates = shapes[f"weight_ih{first}"], len(cell.gates)
    H = rows // gates
    projection = shapes.get("weight_hr_l0", ()) if cell.name == "LSTM" and not is_cell else ()
    P = projection[0] if projection else 0
    columns = shapes[f"weight_hh{first}"][1]
    if rows % gates or H < 1 or I < 1 or columns != (P or H):
        other = [c.name for c in CELLS if rows == len(c.gates) * columns]
        said = f", such as a {other[0]} has" if other and other[0] != cell.name else ""
        raise ValueError(
            f"expected the parameters of a {kind}: weight_ih{first} ({gates}*H, I) and weight_hh{first} ({gates}*H, H_out), "
            f"got {tuple(shapes[f'weight_ih{first}'])} and {tuple(shapes[f'weight_hh{first}'])}{said}"
        )
    layers = 1
    while not is_cell and f"weight_ih_l{layers}" in shapes:
        layers += 1
    D = 2 if not is_cell and "weight_ih_l0_reverse" in shapes else 1
    sizes = Sizes(I, H, P, layers, D, f"bias_ih{first}" in shapes, is_cell, cell)
    for name, shape in named_shapes(sizes).items():
        if name not in shapes:
            raise ValueError(f"expected the parameters of a {kind}: there is no {name}")
        if tuple(shapes[name]) != shape:
            raise ValueError(f"{name} must have the shape {shape}, got {tuple(shapes[name])}")
    return sizes


def with_prefix(names: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Those whose names begin so, without it. ValueError: there are none; it says which prefixes layers have."""
    found = {name.removeprefix(prefix): value for name, value in names.items() if name.startswith(prefix)}
    if any(name in found for name in ("weight_hh_l0", "weight_hh")):
        return found
    known = sorted(
        {
            name.removesuffix(ending)
            for name in names
            for ending in ("weight_hh_l0", "weight_hh")
            if name.endswith(ending)
        }
    )
    said = f"it has layers under {', '.join(map(repr, known))}" if known else "it has no recurrent layer"
    raise ValueError(f"no parameters of a layer under the prefix {prefix!r}: {said}")


def read(path: str | bytes | os.PathLike[Any], prefix: str) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays of a safetensors file under a prefix, 16 bits as float32, and the file's metadata. Nothing is executed.

    Errors as `fastlstm.numpy.LSTM.load` says.
    """
    try:
        with held(os.fsdecode(path)) as name, safe_open(name, framework="np") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118  # no mapping
            chosen = with_prefix(slices, prefix)
            dtypes = {found.get_dtype() for found in chosen.values()}
            if "BF16" not in dtypes:  # NumPy has none
                return {key: file.get_tensor(prefix + key) for key in chosen}, file.metadata() or {}
            metadata = file.metadata() or {}
            with open(name, "rb") as whole:
                raw = dict(deserialize(whole.read()))  # type: ignore[no-untyped-call]
            return {key: _widened(raw[prefix + key]) for key in chosen}, metadata
    except SafetensorError as error:
        raise ValueError(f"no safetensors file: {error}{file_kinds.seen(os.fsdecode(path))}") from error


def _widened(raw: Mapping[str, Any]) -> Array:
    """A tensor's bytes as an array; bfloat16 is the upper half of a float32."""
    kinds = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32, "F64": np.float64}
    if raw["dtype"] not in kinds:
        raise ValueError(f"expected parameters of float16, bfloat16, float32 or float64, got {raw['dtype']}")
    array = np.frombuffer(raw["data"], kinds[raw["dtype"]]).reshape(raw["shape"])
    if raw["dtype"] == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array
