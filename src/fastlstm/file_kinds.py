"""What a file seems to be that is no safetensors, by its first bytes, and the way from it to a layer. Nothing more is read."""

from contextlib import suppress

from fastlstm.files import held

_FIRST = 128  # bytes: the name of a zip's first file is among them
_OF_TORCH = "a file of torch: load it there (torch.load), and write its layer by fastlstm.save"
_OF_NUMPY = "arrays of NumPy: fastlstm.numpy.LSTM.from_state(numpy.load(path)) takes them from an .npz by torch's names"
_OF_ONNX = "an ONNX model: fastlstm.from_onnx reads it"
_OF_HDF5 = "HDF5: fastlstm.numpy.LSTM.from_state takes its arrays, as torch names and lays them out"
_ONNX_FIELDS = b"\x12\x1a\x22\x2a\x32\x3a\x42"  # of a model: what stands after its version


def seen(path: str) -> str:
    """A part of a sentence, `; it looks like ...`, or nothing where it looks like none of these."""
    first = b""
    with suppress(OSError), held(path) as name, open(name, "rb") as file:
        first = file.read(_FIRST)
    kind = _kind(first)
    return f"; it looks like {kind}" if kind else ""


def _kind(first: bytes) -> str:
    if first.startswith(b"PK\x03\x04"):
        inside = first[30:][: int.from_bytes(first[26:28], "little")]
        if inside.partition(b"/")[2].startswith(b"data"):
            return _OF_TORCH
        return _OF_NUMPY if inside.endswith(b".npy") else ""
    if (
        first[:1] == b"\x80" and first[1:2] in b"\x02\x03\x04\x05" and len(first) > 1
    ):  # a pickle, as torch.save once wrote
        return _OF_TORCH
    if first.startswith(b"\x93NUMPY"):
        return _OF_NUMPY
    if first.startswith(b"\x89HDF\r\n\x1a\n"):
        return _OF_HDF5
    if len(first) > 2 and first[0] == 8 and first[1] < 32 and first[2] in _ONNX_FIELDS:
        return _OF_ONNX
    return ""
