"""Checkpoints: safetensors, with the constructor's arguments as JSON in the metadata. No pickle, nothing executed.

The metadata key "fastlstm" holds {"format": 1, "class": one of LSTM, LSTMCell, GRU, GRUCell, "arguments": {...}}; the tensors are
the parameters under torch's names.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from fastlstm import file_kinds
from fastlstm.cells import BY_NAME
from fastlstm.files import KEY, held, replace
from fastlstm.weights import Sizes, count_arrays, named_shapes

_ARGUMENTS: dict[str, dict[str, type]] = {
    "LSTM": {
        "input_size": int,
        "hidden_size": int,
        "num_layers": int,
        "bias": bool,
        "batch_first": bool,
        "dropout": float,
        "bidirectional": bool,
        "proj_size": int,
    },
    "LSTMCell": {"input_size": int, "hidden_size": int, "bias": bool},
}
_ARGUMENTS["GRU"] = {name: kind for name, kind in _ARGUMENTS["LSTM"].items() if name != "proj_size"}
_ARGUMENTS["GRUCell"] = _ARGUMENTS["LSTMCell"]
_OF_OTHERS = "; a layer takes a state_dict that others saved by load_state_dict(safetensors.torch.load_file(path))"
_DTYPES = {"F16", "BF16", "F32", "F64"}


def save(lstm: Any, path: str | bytes | os.PathLike[Any]) -> None:
    """Writes an LSTM, LSTMCell, GRU or GRUCell, of fastlstm or torch.nn, to `path`, for `load` and the NumPy runtime.

    The file is replaced whole, or not at all: a process that is killed, or finds the disk full, leaves what was there.
    Parameters that are computed (parametrize, weight_norm, pruning) are written as the values they have now. Raises
    TypeError for any other module, ValueError for a dtype that is not float16, bfloat16, float32 or float64, for several
    dtypes and for parameters that are sharded over processes; OSError where something stands at `path` that is neither a
    regular file nor a link to one (IsADirectoryError: a folder), FileNotFoundError where the folder does not exist, and
    another OSError where it can't be written.
    """
    from safetensors.torch import save as serialized

    kind, arguments, tensors = content(lstm)
    if len({tensor.untyped_storage().data_ptr() for tensor in tensors.values()}) < len(tensors):
        # Tied weights, or views of one flat tensor: safetensors refuses two names for one storage.
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    if any(not t.is_floating_point() for t in tensors.values()):
        raise ValueError("a checkpoint holds float16, bfloat16, float32 or float64 parameters")
    dtypes = {str(t.dtype) for t in tensors.values()}
    if len(dtypes) > 1:
        raise ValueError(f"a checkpoint holds parameters of one dtype, got {', '.join(sorted(dtypes))}")
    metadata = {KEY: json.dumps({"format": 1, "class": kind, "arguments": arguments})}
    replace(str(Path(os.fsdecode(path))), serialized(tensors, metadata))


def content(module: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The class, the constructor's arguments and the tensors of a module of torch. Errors as `save` says."""
    kind = kind_of(type(module))
    arguments = {name: as_type(getattr(module, name)) for name, as_type in _ARGUMENTS[kind].items()}
    values = {name: getattr(module, name) for name in named_shapes(sizes_of(kind, arguments))}
    for name, value in values.items():
        if hasattr(value, "full_tensor"):  # a DTensor, such as fully_shard makes
            raise ValueError(
                f"a checkpoint holds whole parameters, but {name} is sharded over processes: gather them with "
                "torch.distributed.checkpoint.state_dict.get_model_state_dict, and save a layer that has loaded them"
            )
    return kind, arguments, {name: value.detach().cpu().contiguous() for name, value in values.items()}


def kind_of(module: type) -> str:
    for base in module.__mro__:  # a subclass, such as parametrize makes, is saved as what it is a subclass of
        if base.__name__ in _ARGUMENTS and base.__module__.startswith(("fastlstm.", "torch.nn.modules.")):
            return base.__name__
    raise TypeError(f"expected an LSTM or LSTMCell, a GRU or GRUCell of fastlstm or torch.nn, got {module.__name__}")


def read(path: str | bytes | os.PathLike[Any], framework: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The class, the constructor's arguments and the tensors of a checkpoint, those of `framework`: 'pt' or 'np'.

    Raises FileNotFoundError, another OSError where there is no regular file but something else (IsADirectoryError: a
    folder), or ValueError where the file is no checkpoint of ours or contradicts itself. The header alone is read to find
    that out: no size in it is believed before the tensors in the file have been seen to match.
    """
    path = os.fsdecode(path)
    try:
        with held(path) as name, safe_open(name, framework=framework) as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise ValueError(f"its metadata has no {KEY!r}{_OF_OTHERS}")
            kind, arguments = described(metadata)
            names = list(file.keys())
            slices = {name: file.get_slice(name) for name in names}
            check(kind, arguments, {name: tuple(found.get_shape()) for name, found in slices.items()})
            dtypes = {found.get_dtype() for found in slices.values()}
            if len(dtypes) != 1 or not dtypes <= _DTYPES:
                raise ValueError(f"the tensors must have one dtype of {sorted(_DTYPES)}, got {sorted(dtypes)}")
            return kind, arguments, {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}{file_kinds.seen(path)}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not a fastlstm checkpoint: {error}") from error


def described(metadata: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """The class and the constructor's arguments, from a file's metadata. ValueError: they are not of our making."""
    if KEY not in metadata:
        raise ValueError(f"its metadata has no {KEY!r}")
    try:
        description = json.loads(metadata[KEY])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its metadata is not JSON: {error}") from error
    if not isinstance(description, dict) or set(description) != {"format", "class", "arguments"}:
        raise ValueError("its metadata must have format, class and arguments, and nothing else")
    if description["format"] != 1:
        raise ValueError(f"format {description['format']!r} is not one that this version reads (1)")
    kind, arguments = description["class"], description["arguments"]
    if not isinstance(kind, str) or kind not in _ARGUMENTS:
        raise ValueError(f"class must be one of {', '.join(_ARGUMENTS)}, got {kind!r}")
    types = _ARGUMENTS[kind]
    if not isinstance(arguments, dict) or set(arguments) != set(types):
        raise ValueError(f"the arguments of {kind} must be {', '.join(types)}, and nothing else")
    for name, expected in types.items():
        if type(arguments[name]) is not expected:
            raise ValueError(f"{name} must be of type {expected.__name__}, got {type(arguments[name]).__name__}")
    return kind, arguments


def check(kind: str, arguments: Mapping[str, Any], found: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError unless the tensors, by their shapes, are just those that the arguments call for."""
    for name in ("input_size", "hidden_size", "num_layers"):
        if arguments.get(name, 1) < 1:
            raise ValueError(f"{name} must be greater than zero, got {arguments[name]}")
    if not 0 <= arguments.get("proj_size", 0) < arguments["hidden_size"]:
        raise ValueError(f"proj_size must be at least 0 and smaller than hidden_size, got {arguments['proj_size']}")
    if not 0 <= arguments.get("dropout", 0) <= 1:
        raise ValueError(f"dropout must be a number in range [0, 1], got {arguments['dropout']}")
    # Counted before anything is listed: a billion layers would fill the memory with their names alone.
    cells = arguments.get("num_layers", 1) * (2 if arguments.get("bidirectional", False) else 1)
    expected = cells * count_arrays(arguments.get("proj_size", 0), arguments["bias"])
    if len(found) != expected:
        raise ValueError(f"expected {expected} tensors, found {len(found)}")
    for name, shape in named_shapes(sizes_of(kind, arguments)).items():
        if name not in found:
            raise ValueError(f"it has no tensor {name}")
        if found[name] != shape:
            raise ValueError(f"{name} must have the shape {shape}, got {found[name]}")


def sizes_of(kind: str, arguments: Mapping[str, Any]) -> Sizes:
    return Sizes(
        arguments["input_size"],
        arguments["hidden_size"],
        arguments.get("proj_size", 0),
        arguments.get("num_layers", 1),
        2 if arguments.get("bidirectional", False) else 1,
        arguments["bias"],
        kind.endswith("Cell"),
        BY_NAME[kind.removesuffix("Cell")],
    )
