"""LSTMs in the ONNX files that packages of PyPI bring: as ONNX Runtime computes them within the package's whole model.

The packages themselves are not imported: their files are found beside them.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from silero_vad import load_silero_vad

import fastlstm
from fastlstm import numpy as bare
from tests.tolerances import EXPORTED, OF_8_BITS

SILERO, WHISPER = "silero_vad/data", "faster_whisper/assets/silero_vad_v6.onnx"


def file_of(name: str) -> Path:
    package, _, rest = name.partition("/")
    spec = find_spec(package)
    assert spec is not None, f"no package {package}"
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / rest


def session_of(proto: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # old files have initializers among their inputs, and are told so
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(path: Path, inputs: dict[str, Any], floats: bool) -> tuple[Any, Any, Any]:
    """x of the first LSTM, its states before and y of the last one, in a run of the whole model."""
    proto = onnx.load(path)
    nodes = [node for node in proto.graph.node if "LSTM" in node.op_type]
    first, last = nodes[0], nodes[-1]
    asked = [first.input[0], *first.input[5:7], last.output[0]]
    for name in asked:
        if all(put.name != name for put in proto.graph.output):
            proto.graph.output.append(helper.make_empty_tensor_value_info(name))
    for node in nodes:
        if floats and node.op_type != "LSTM":
            compute_in_floats(proto.graph, node)
    x, h, c, y = session_of(proto).run([*asked], inputs)
    return x, (h, c), y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1)


def compute_in_floats(graph: Any, node: Any) -> None:
    """A DynamicQuantizeLSTM becomes an LSTM with the numbers that its weights stand for, by ONNX's own operators."""
    made = []
    for k, name in ((1, "W"), (2, "R")):
        scale, zero = node.input[6 + 2 * k : 8 + 2 * k]  # one for each direction, which comes to stand last
        whole, turned, moved, real, last = (f"{node.name} {name} {step}" for step in range(5))
        made += [
            helper.make_node("Cast", [node.input[k]], [whole], to=onnx.TensorProto.FLOAT),
            helper.make_node("Transpose", [whole], [turned], perm=[2, 1, 0]),
            helper.make_node("Cast", [zero], [f"{real} zero"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Sub", [turned, f"{real} zero"], [moved]),
            helper.make_node("Mul", [moved, scale], [real]),
            helper.make_node("Transpose", [real], [last], perm=[2, 0, 1]),
        ]
        node.input[k] = last
    for other in reversed(made):
        graph.node.insert(0, other)
    node.op_type, node.domain = "LSTM", ""
    del node.input[7:]


def hold(path: Path, inputs: dict[str, Any], layer: Any, alone: Any, floats: bool = True) -> None:
    x, (h, c), y = run(path, inputs, floats)
    k, N = layer.num_layers, x.shape[1]
    hx = tuple(np.tile(t, (k, 1, 1)) for t in (h, c)) if k > 1 else (h, c)
    assert k == 1 or not (h.any() or c.any()), "states of layers that this test doesn't tell apart"
    assert np.abs(y).max() > 0.1
    assert y.shape[1] == N
    with torch.no_grad():
        found = layer(torch.from_numpy(x), tuple(map(torch.from_numpy, hx)))[0].numpy()
    for output in (found, alone(x, hx)[0]):
        if floats:
            np.testing.assert_allclose(output, y, **EXPORTED)
        assert np.linalg.norm(output - y) <= OF_8_BITS * np.linalg.norm(y)


@pytest.mark.parametrize("name", [f"{SILERO}/silero_vad_16k_sequence.onnx", WHISPER])
def test_voices_in_whole_files(name: str) -> None:
    path = file_of(name)
    random = np.random.default_rng(0)
    windows = next(put for put in onnx.load(path).graph.input if put.name == "input").type.tensor_type.shape.dim
    shape = [dim.dim_value or 20 for dim in windows]
    inputs = {"input": random.standard_normal(shape, np.float32) / 10}
    inputs |= {state: random.standard_normal((1, 1, 128), np.float32) for state in "hc"}
    layer = fastlstm.from_onnx(path)
    assert repr(layer) == "LSTM(128, 128)"
    hold(path, inputs, layer, bare.from_onnx(path))


def test_voices_in_the_branches_of_ifs() -> None:
    """The file has a network for each rate, in branches for one window and for several: their weights are the TorchScript's."""
    layers = fastlstm.onnx_layers(file_of(f"{SILERO}/silero_vad.onnx"))
    assert len(layers) == 2
    detector = load_silero_vad()
    for model in (detector._model, detector._model_8k):
        state = {name.removeprefix("decoder.rnn."): t for name, t in model.state_dict().items() if ".rnn." in name}
        same = [
            all(torch.equal(getattr(layer, f"{name}_l0"), weight) for name, weight in state.items())
            for layer, hx in layers.values()
            if hx is None
        ]
        assert same.count(True) == 1


@pytest.mark.parametrize("name", ["silero_vad_16k_op15", "silero_vad_half", "silero_vad_openvino_16k"])
def test_voices_in_other_files(name: str) -> None:
    path = file_of(f"{SILERO}/{name}.onnx")
    assert repr(fastlstm.from_onnx(path)) == "LSTM(128, 128)"
    assert repr(bare.from_onnx(path)) == "LSTM(128, 128)"


@pytest.mark.parametrize("name", [f"{SILERO}/silero_vad_op18_ifless.onnx", "ddddocr/common_det.onnx"])
def test_files_without_one(name: str) -> None:
    """The first has its LSTM's arithmetic as MatMul, Sigmoid and so on."""
    with pytest.raises(ValueError, match="no LSTM or GRU node"):
        fastlstm.from_onnx(file_of(name))


def picture() -> Any:
    return np.random.default_rng(0).uniform(-1, 1, (1, 1, 64, 160)).astype(np.float32)


def test_characters() -> None:
    path = file_of("ddddocr/common.onnx")
    layer = fastlstm.from_onnx(path)
    assert repr(layer) == "LSTM(512, 512, bidirectional=True)"
    hold(path, {"input1": picture()}, layer, bare.from_onnx(path))


@pytest.mark.parametrize("floats", [True, False])
@pytest.mark.parametrize(
    ("name", "said", "inputs"),
    [
        ("ddddocr/common_old.onnx", "LSTM(512, 512, bidirectional=True)", {"input1": picture()}),
        (
            "dksplit/models/dksplit-int8.onnx",
            "LSTM(384, 384, num_layers=3, bidirectional=True)",
            {"chars": np.random.default_rng(0).integers(1, 27, (3, 20))},
        ),
    ],
)
def test_weights_of_8_bits(name: str, said: str, inputs: dict[str, Any], floats: bool) -> None:
    """ONNX Runtime rounds x and h to 8 bits at every step, too; in floats, it has our numbers."""
    path = file_of(name)
    layer = fastlstm.from_onnx(path)
    assert repr(layer) == said
    hold(path, inputs, layer, bare.from_onnx(path), floats)
