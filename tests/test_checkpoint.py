"""Checkpoints: what comes back is what was saved, and a file from a stranger can do nothing but be refused."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrizations, prune

import fastlstm
from fastlstm import LSTM, LSTMCell, checkpoint
from fastlstm import numpy as bare

MODULES = {
    "plain": lambda kind: kind.LSTM(3, 4),
    "all options": lambda kind: kind.LSTM(
        3, 5, 2, bias=False, batch_first=True, dropout=0.25, bidirectional=True, proj_size=2
    ),
    "double": lambda kind: kind.LSTM(3, 4, dtype=torch.float64),
    "bfloat16": lambda kind: kind.LSTM(3, 4, dtype=torch.bfloat16),
    "float16": lambda kind: kind.LSTM(3, 4, dtype=torch.float16),
    "cell": lambda kind: kind.LSTMCell(3, 4),
    "cell without bias": lambda kind: kind.LSTMCell(3, 4, bias=False),
}


@pytest.mark.parametrize("kind", [fastlstm, nn], ids=["fastlstm", "torch.nn"])
@pytest.mark.parametrize("name", MODULES)
def test_a_module_comes_back_as_it_was_saved(name, kind, tmp_path):
    saved = MODULES[name](kind)
    fastlstm.save(saved, tmp_path / "model.safetensors")
    before = torch.get_rng_state()
    loaded = fastlstm.load(tmp_path / "model.safetensors")
    assert torch.equal(before, torch.get_rng_state()), "loading drew random numbers"
    assert type(loaded) is (LSTMCell if "cell" in name else LSTM)
    assert repr(loaded) == repr(saved)
    assert list(loaded.state_dict()) == list(saved.state_dict())
    for key, tensor in saved.state_dict().items():
        assert loaded.state_dict()[key].dtype == tensor.dtype
        assert torch.equal(loaded.state_dict()[key], tensor)
    assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in loaded.parameters())
    x = torch.randn(2, 3, dtype=next(saved.parameters()).dtype)
    for p in loaded.eval()(x)[0], loaded.train()(x)[0]:
        assert p.isfinite().all()


def test_tied_and_computed_parameters_are_saved_as_values(tmp_path):
    tied = LSTM(4, 4)
    tied.weight_hh_l0 = tied.weight_ih_l0
    pruned = LSTM(3, 4)
    prune.l1_unstructured(pruned, "weight_hh_l0", 0.5)
    normed = LSTM(3, 4)
    parametrizations.weight_norm(normed, "weight_ih_l0")
    for module in (tied, pruned, normed):
        fastlstm.save(module, tmp_path / "model.safetensors")
        loaded = fastlstm.load(tmp_path / "model.safetensors")
        x = torch.randn(2, 1, module.input_size)
        assert torch.equal(loaded(x)[0], module(x)[0])


def test_a_subclass_is_saved_as_the_layer_it_is(tmp_path):
    class Named(nn.LSTM):
        pass

    fastlstm.save(Named(3, 4, bidirectional=1), tmp_path / "model.safetensors")
    assert repr(fastlstm.load(tmp_path / "model.safetensors")) == "LSTM(3, 4, bidirectional=True)"


def test_the_numpy_side_reads_it_without_torch_tensors(tmp_path):
    lstm = LSTM(3, 4)
    fastlstm.save(lstm, tmp_path / "model.safetensors")
    kind, arguments, tensors = checkpoint.read(tmp_path / "model.safetensors", "np")
    assert kind == "LSTM"
    assert arguments["hidden_size"] == 4
    for name, array in tensors.items():
        assert (array == getattr(lstm, name).detach().numpy()).all()


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        checkpoint.save(LSTM(3, 4), tmp_path / "no folder" / "lstm.safetensors")


def test_only_layers_and_cells_are_saved(tmp_path):
    for module in (nn.RNN(3, 4), nn.Linear(3, 4), nn.RNNCell(3, 4), nn.Sequential(LSTM(3, 4)), type("LSTM", (), {})()):
        with pytest.raises(TypeError, match="expected an LSTM or LSTMCell"):
            fastlstm.save(module, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="float16, bfloat16, float32 or float64"):
        fastlstm.save(LSTM(3, 4, dtype=torch.complex64), tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


# Below, files from a stranger.

GOOD: dict[str, Any] = {
    "format": 1,
    "class": "LSTM",
    "arguments": {
        "input_size": 3,
        "hidden_size": 4,
        "num_layers": 1,
        "bias": True,
        "batch_first": False,
        "dropout": 0.0,
        "bidirectional": False,
        "proj_size": 0,
    },
}
SHAPES: dict[str, tuple[int, ...]] = {
    "weight_ih_l0": (16, 3),
    "weight_hh_l0": (16, 4),
    "bias_ih_l0": (16,),
    "bias_hh_l0": (16,),
}


def write(path: Path, description: object, shapes: dict[str, tuple[int, ...]], dtype: str = "F32") -> Path:
    """A safetensors file written by hand: a length, a JSON header, zeros. dtype "mixed": the biases are F64, the rest F32."""
    header: dict[str, Any] = {}
    if description is not None:
        text = description if isinstance(description, str) else json.dumps(description)
        header["__metadata__"] = {"fastlstm": text}
    offset = 0
    for name, shape in shapes.items():
        count = 1
        for length in shape:
            count *= length
        own = dtype if dtype != "mixed" else "F64" if "bias" in name else "F32"
        size = count * {"F32": 4, "F64": 8, "I32": 4}[own]
        header[name] = {"dtype": own, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + bytes(offset))
    return path


def changed(**arguments: object) -> dict[str, Any]:
    return {**GOOD, "arguments": {**GOOD["arguments"], **arguments}}


DESCRIPTIONS = {
    "no metadata": (None, "no 'fastlstm'"),
    "no JSON": ("{", "not JSON"),
    "deep JSON": ("[" * 100_000, "not JSON"),
    "a long number": ("9" * 5000, "not JSON"),
    "a list": ([GOOD], "format, class and arguments"),
    "another key": ({**GOOD, "hook": "os.system"}, "format, class and arguments"),
    "another format": ({**GOOD, "format": 2}, "format 2"),
    "another class": ({**GOOD, "class": "os.system"}, "class must be one of"),
    "a class that is none": ({**GOOD, "class": ["LSTM"]}, "class must be one of"),
    "arguments of another class": ({**GOOD, "class": "LSTMCell"}, "arguments of LSTMCell"),
    "another argument": (changed(device="meta"), "arguments of LSTM"),
    "no arguments": ({**GOOD, "arguments": None}, "arguments of LSTM"),
    "a size that is a string": (changed(hidden_size="4"), "hidden_size must be of type int"),
    "a size that is a float": (changed(hidden_size=4.0), "hidden_size must be of type int"),
    "a size that is a bool": (changed(num_layers=True), "num_layers must be of type int"),
    "an input of no features": (changed(input_size=0), "input_size must be greater than zero"),
    "a size below one": (changed(hidden_size=-4), "hidden_size must be greater than zero"),
    "no layers": (changed(num_layers=0), "num_layers must be greater than zero"),
    "a billion layers": (changed(num_layers=10**9), "expected 4000000000 tensors, found 4"),
    "a huge size": (changed(hidden_size=10**15), "weight_ih_l0 must have the shape"),
    "a size past every integer": (changed(input_size=10**40), "weight_ih_l0 must have the shape"),
    "a projection too wide": (changed(proj_size=4), "proj_size must be"),
    "a negative projection": (changed(proj_size=-1), "proj_size must be"),
    "NaN dropout": (changed(dropout=float("nan")), "dropout must be a number"),
    "dropout above one": (changed(dropout=2.0), "dropout must be a number"),
    "two directions, tensors of one": (changed(bidirectional=True), "expected 8 tensors, found 4"),
    "no bias, but tensors of one": (changed(bias=False), "expected 2 tensors, found 4"),
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_wrong_description_is_refused(name, tmp_path):
    description, words = DESCRIPTIONS[name]
    with pytest.raises(ValueError, match=words) as refusal:
        fastlstm.load(write(tmp_path / "model.safetensors", description, SHAPES))
    assert "model.safetensors is not a fastlstm checkpoint" in str(refusal.value)


TENSORS = {
    "one missing": ({k: v for k, v in SHAPES.items() if k != "bias_hh_l0"}, "F32", "expected 4 tensors, found 3"),
    "one too many": ({**SHAPES, "bias_hh_l1": (16,)}, "F32", "expected 4 tensors, found 5"),
    "another name": (
        {**{k: v for k, v in SHAPES.items() if k != "bias_hh_l0"}, "b": (16,)},
        "F32",
        "no tensor bias_hh_l0",
    ),
    "a wrong shape": ({**SHAPES, "weight_hh_l0": (16, 5)}, "F32", r"weight_hh_l0 must have the shape \(16, 4\)"),
    "a transposed shape": ({**SHAPES, "weight_hh_l0": (4, 16)}, "F32", r"weight_hh_l0 must have the shape \(16, 4\)"),
    "integers": (SHAPES, "I32", "one dtype of"),
    "two dtypes": (SHAPES, "mixed", r"one dtype of .*, got \['F32', 'F64'\]"),
    "none": ({}, "F32", "expected 4 tensors, found 0"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_wrong_tensors_are_refused(name, tmp_path):
    shapes, dtype, words = TENSORS[name]
    with pytest.raises(ValueError, match=words):
        fastlstm.load(write(tmp_path / "model.safetensors", GOOD, shapes, dtype))


def test_the_file_written_by_hand_is_a_good_one(tmp_path):
    assert repr(fastlstm.load(write(tmp_path / "model.safetensors", GOOD, SHAPES))) == "LSTM(3, 4)"


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    path = write(tmp_path / "model.safetensors", GOOD, SHAPES)
    whole = path.read_bytes()
    for content in (b"", whole[:20], whole[:-4], whole + b"more", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a safetensors file"):
            fastlstm.load(path)
    with pytest.raises(FileNotFoundError):
        fastlstm.load(tmp_path / "absent")


def pickled(path: Path) -> None:
    torch.save(LSTM(3, 4).state_dict(), path, _use_new_zipfile_serialization=False)


def of_numpy(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **{name: t.numpy() for name, t in LSTM(3, 4).state_dict().items()})


OTHERS = {
    "torch.save": (lambda path: torch.save(LSTM(3, 4).state_dict(), path), "a file of torch: load it there"),
    "torch.save of old": (pickled, "a file of torch: load it there"),
    "torch.jit.save": (lambda path: torch.jit.save(torch.jit.script(nn.LSTM(3, 4)), path), "a file of torch"),
    "npz": (of_numpy, r"arrays of NumPy: fastlstm.numpy.LSTM.from_state\(numpy.load\(path\)\)"),
    "npy": (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr'"), "arrays of NumPy"),
    "onnx": (lambda path: fastlstm.to_onnx(LSTM(3, 4), path), "an ONNX model: fastlstm.from_onnx reads it"),
    "h5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40)), "HDF5: "),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_kind_is_named_with_the_way_from_it(name, tmp_path):
    make, words = OTHERS[name]
    make(tmp_path / "model")
    for read in (fastlstm.load, bare.load):
        with pytest.raises(ValueError, match=f"safetensors file: .*; it looks like {words}"):
            read(tmp_path / "model")


def test_a_file_that_looks_like_nothing_known_is_not_guessed_at(tmp_path):
    for content in (
        b"",
        b"\x80",
        b"\x80\x09",
        b"PK\x03\x04",
        b"PK\x03\x04" + bytes(40),
        b"\x08",
        b"\x08\x08\x00",
    ):
        (tmp_path / "model").write_bytes(content)
        with pytest.raises(ValueError, match="is not a safetensors file") as refusal:
            fastlstm.load(tmp_path / "model")
        assert "it looks like" not in str(refusal.value)


def test_arrays_of_an_npz_go_the_way_that_the_error_names(tmp_path):
    of_numpy(tmp_path / "model")
    assert repr(bare.LSTM.from_state(np.load(tmp_path / "model"))) == "LSTM(3, 4)"


def test_a_state_dict_in_safetensors_is_told_of_load_state_dict(tmp_path):
    lstm = LSTM(3, 4)
    save_file(lstm.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"load_state_dict\(safetensors.torch.load_file\(path\)\)"):
        fastlstm.load(tmp_path / "model.safetensors")
    LSTM(3, 4).load_state_dict(load_file(tmp_path / "model.safetensors"))


def test_a_loaded_layer_is_no_view_of_its_file(tmp_path):
    file, other = tmp_path / "model.safetensors", tmp_path / "other.safetensors"
    fastlstm.save(LSTM(3, 4), file)
    fastlstm.save(LSTM(3, 4), other)
    loaded, x = fastlstm.load(file), torch.randn(2, 3)
    before = loaded(x)[0]
    file.write_bytes(other.read_bytes())  # in place
    assert torch.equal(loaded(x)[0], before)
    file.write_bytes(b"")
    assert torch.equal(loaded(x)[0], before)


def test_a_checkpoint_has_the_mode_that_a_file_has_here(tmp_path):
    (tmp_path / "plain").touch()
    fastlstm.save(LSTM(3, 4), tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "new").chmod(0o640)
    (tmp_path / "link").symlink_to(tmp_path / "new")
    fastlstm.save(LSTM(3, 5), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640
    assert fastlstm.load(tmp_path / "new").hidden_size == 5


def test_what_can_not_be_written_leaves_nothing(tmp_path, monkeypatch):
    mixed = LSTM(3, 4)
    mixed.weight_hh_l0 = nn.Parameter(torch.randn(16, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"one dtype, got torch\.float32, torch\.float64"):
        fastlstm.save(mixed, tmp_path / "model.safetensors")
    with pytest.raises(IsADirectoryError):
        fastlstm.save(LSTM(3, 4), tmp_path)

    def fails(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(OSError, match="no space left"):
        fastlstm.save(LSTM(3, 4), tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())
