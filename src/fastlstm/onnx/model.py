"""A model as bytes, and its tensors as arrays: no size is believed beyond the bytes that are there."""

import math
import os
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from fastlstm.files import held

Array = NDArray[Any]

_DTYPES: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.FLOAT: np.dtype("<f4"),
    onnx.TensorProto.DOUBLE: np.dtype("<f8"),
    onnx.TensorProto.FLOAT16: np.dtype("<f2"),
    onnx.TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    onnx.TensorProto.INT8: np.dtype("i1"),
    onnx.TensorProto.UINT8: np.dtype("u1"),
    onnx.TensorProto.INT32: np.dtype("<i4"),
    onnx.TensorProto.INT64: np.dtype("<i8"),
}


class Model(NamedTuple):
    """folders: where external data may lie: none for a model that is in memory."""

    proto: Any
    folders: tuple[str, ...]


def opened(model: Any) -> Model:
    """Of a path or an onnx.ModelProto. Errors as `from_onnx` says."""
    if isinstance(model, onnx.ModelProto):
        return Model(model, ())
    if not isinstance(model, (str, bytes, os.PathLike)):
        raise TypeError(f"expected a path or an onnx.ModelProto, got {type(model).__name__}")
    path = os.fsdecode(model)
    with held(path) as name, open(name, "rb") as file:
        content = file.read()
    try:
        proto = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ValueError(f"{path} is not an ONNX model: {error}") from error
    if not proto.HasField("graph"):
        raise ValueError(f"{path} is not an ONNX model: it has no graph")
    # A link, as the cache of a hub has them, stands for its target: their data is beside either.
    folders = dict.fromkeys(os.path.dirname(os.path.realpath(end)) for end in (os.path.join(_folder(path), "_"), path))
    return Model(proto, tuple(folders))


def _folder(path: str) -> str:
    return os.path.dirname(path) or os.curdir


def array_of(model: Model, tensor: Any) -> Array:
    """Of a TensorProto. ValueError: it is of another type, or has another number of bytes than its shape says."""
    if tensor.data_type not in _DTYPES:
        raise ValueError(f"tensor {tensor.name!r} is of a type that no weights have ({tensor.data_type})")
    dtype, shape = _DTYPES[tensor.data_type], tuple(tensor.dims)
    if any(length < 0 for length in shape):
        raise ValueError(f"tensor {tensor.name!r} has the shape {shape}")
    expected = math.prod(shape) * dtype.itemsize
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raw = _external(model, tensor, expected)
    elif tensor.HasField("raw_data"):
        raw = tensor.raw_data
    else:  # numbers one by one: as many as there are, so that this takes no more than the file does
        raw = _listed(tensor, dtype)
    if len(raw) != expected:
        raise ValueError(f"tensor {tensor.name!r} of shape {shape} must have {expected} bytes, got {len(raw)}")
    return np.frombuffer(raw, dtype).reshape(shape)


def _listed(tensor: Any, dtype: np.dtype[Any]) -> bytes:
    bits = dtype.itemsize == 2  # 16-bit reals stand as integers
    field = {"<f4": "float_data", "<f8": "double_data", "<i8": "int64_data"}.get(dtype.str, "int32_data")
    numbers = np.array(getattr(tensor, field), np.int64 if field.startswith("int") else dtype)
    return numbers.astype(np.uint16 if bits else dtype).tobytes()


def _external(model: Model, tensor: Any, expected: int) -> bytes:
    """What a file in the model's folder has for a tensor. OSError: it can't be read."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    location = said.get("location", "")
    if not isinstance(location, str):
        raise ValueError(f"tensor {tensor.name!r} is in a file whose name is not UTF-8")
    if not model.folders:
        raise ValueError(f"tensor {tensor.name!r} is in the file {location!r} beside the model: give the model's path")
    try:
        offset, length = int(said.get("offset", "0")), int(said.get("length", str(expected)))
    except ValueError:
        raise ValueError(f"tensor {tensor.name!r} has an offset or a length that is no number") from None
    if length != expected or offset < 0:
        raise ValueError(
            f"tensor {tensor.name!r} of shape {tuple(tensor.dims)} must have {expected} bytes, got {length}"
        )
    real = os.path.realpath(os.path.join(model.folders[0], location)) if "\0" not in location else ""
    inside = not os.path.isabs(location) and any(os.path.commonpath([real, at]) == at for at in model.folders if real)
    if not inside:
        raise ValueError(f"tensor {tensor.name!r} is outside of the model's folder: {location!r}")
    with held(real) as name, open(name, "rb") as file:
        if offset + expected > os.fstat(file.fileno()).st_size:
            raise ValueError(f"tensor {tensor.name!r} goes beyond the end of {location!r}")
        file.seek(offset)
        return file.read(expected)
