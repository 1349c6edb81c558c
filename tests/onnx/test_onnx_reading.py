"""from_onnx: layers of files that others wrote, beside ONNX's own expectations and ONNX Runtime."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, inliner, numpy_helper
from torch import nn

import fastlstm
from fastlstm import numpy as bare
from tests.conftest import states_of
from tests.onnx.beside_onnxruntime import beside, frames, hold, run
from tests.onnx.graphs import H, I, branch, constant, model, node, one, weights
from tests.tolerances import EXPORTED, OF_8_BITS

quiet = pytest.mark.filterwarnings("ignore")  # the exporters' own


@quiet
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"bias": False, "batch_first": True}], ids=str)
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("sizes", ["open", "fixed"])  # fixed, the shape of what lies between two layers is asked for
def test_torch_s_older_exporter_writes_what_comes_back_whole(
    kind: str, sizes: str, options: dict[str, Any], tmp_path: Path
) -> None:
    theirs = getattr(nn, kind)(3, 4, 2, **options).eval()
    named = {"input_names": ["x"], "dynamic_axes": {"x": [0, 1]} if sizes == "open" else {}}
    torch.onnx.export(theirs, (torch.randn(5, 2, 3),), tmp_path / "m.onnx", dynamo=False, **named)
    back = fastlstm.from_onnx(tmp_path / "m.onnx").state_dict()
    assert list(back) == list(theirs.state_dict())
    assert all(torch.equal(back[name], weight) for name, weight in theirs.state_dict().items())


@quiet
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_layer_between_transposes_is_the_node_s_own_and_told_of_the_batch_is_the_model_s(
    kind: str, tmp_path: Path
) -> None:
    theirs, x = getattr(nn, kind)(3, 4, 2, bidirectional=True, batch_first=True).eval(), torch.randn(2, 5, 3)
    torch.onnx.export(theirs, (x,), tmp_path / "m.onnx", dynamo=False)
    layer = fastlstm.from_onnx(tmp_path / "m.onnx")
    assert not layer.batch_first
    expected = theirs(x)[0]
    torch.testing.assert_close(layer(x.transpose(0, 1))[0].transpose(0, 1), expected, **EXPORTED)
    layer.batch_first = True
    torch.testing.assert_close(layer(x)[0], expected, **EXPORTED)


def cases(kind: str) -> list[Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():  # of tests of other operators, which are all made
        warnings.simplefilter("ignore")
        return [case for case in collect_testcases(kind) if case.name.startswith(f"test_{kind.lower()}_")]


REFUSED = {"with_peepholes": r"peepholes \(P\)", "reverse": "direction is 'reverse'"}


@pytest.mark.parametrize("case", cases("LSTM") + cases("GRU"), ids=lambda case: case.name)
def test_onnx_s_own_tests(case: Any) -> None:
    proto, ((inputs, outputs), *_) = case.model, case.data_sets
    graph = onnx.ModelProto.FromString(proto.SerializeToString()).graph
    x, *given = inputs
    names = [put.name for put in graph.input]
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in zip(names[1:], given, strict=True))
    whole = helper.make_model(graph, opset_imports=proto.opset_import)
    kind, _, what = case.name.removeprefix("test_").partition("_")
    if kind == "gru" or what in REFUSED:  # ONNX's tests have its default, which torch has never had
        with pytest.raises(ValueError, match=REFUSED.get(what, "linear_before_reset is 0")):
            fastlstm.from_onnx(whole)
        return
    layer = bare.from_onnx(whole)
    output, (h_n, _) = layer(x)
    made = dict(zip((put.name for put in graph.output), outputs, strict=True))
    if "Y" in made:
        expected = made["Y"].reshape(output.shape) if layer.batch_first else beside(made["Y"])
        np.testing.assert_allclose(output, expected, **EXPORTED)
    y_h = made["Y_h"].swapaxes(0, 1) if layer.batch_first else made["Y_h"]
    np.testing.assert_allclose(h_n, y_h, **EXPORTED)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("D", [1, 2])
def test_a_node(kind: str, D: int) -> None:
    layer = hold(one(kind, D))
    assert repr(layer) == f"{kind}(3, 4{', bidirectional=True' if D == 2 else ''})"


def test_attributes_that_say_what_is_so_anyway() -> None:
    hold(one(activations=["Sigmoid", "Tanh", "tanh"], input_forget=0, layout=0))
    hold(one("GRU", 2, activations=["Sigmoid", "Tanh"] * 2))
    assert fastlstm.from_onnx(model([node(inputs=("x", "W", "R"), hidden_size=None)], weights())).bias is False


def test_layout_1_is_batch_first() -> None:
    layer = fastlstm.from_onnx(one(layout=1, D=2))
    assert layer.batch_first
    assert torch.equal(
        layer(torch.ones(2, 5, 3))[0].swapaxes(0, 1), fastlstm.from_onnx(one(D=2))(torch.ones(5, 2, 3))[0]
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"clip": 1.0}, "the attribute clip"),
        ({"input_forget": 1}, "input_forget is 1"),
        ({"direction": "reverse"}, "direction is 'reverse'"),
        ({"activations": ["Sigmoid", "Tanh", "Relu"]}, "activations are sigmoid, tanh, relu"),
        ({"kind": "GRU", "linear_before_reset": 0}, "linear_before_reset is 0"),
        ({"kind": "GRU", "linear_before_reset": None}, "linear_before_reset is 0"),
        ({"layout": 2}, "layout is 2"),
        ({"hidden_size": 5}, "hidden_size is 5"),
        ({"inputs": ("x", "W", "R", "B", "", "", "", "P")}, r"peepholes \(P\)"),
        ({"inputs": ("x", "x", "R")}, "W is not a constant"),
        ({"inputs": ("x", "W")}, "R is not a constant"),
        ({"inputs": ("x", "W", "R", "R")}, "B has the shape"),
        ({"inputs": ("x", "W", "W")}, "R has the shape"),
        ({"inputs": ("x", "B", "R")}, "W and R have the shapes"),
        ({"direction": "bidirectional"}, "W and R have the shapes"),
        ({"inputs": ["x"] * 20}, "20 inputs"),
    ],
    ids=str,
)
def test_what_no_layer_of_ours_has_is_refused_by_name(options: dict[str, Any], words: str) -> None:
    kind = options.pop("kind", "LSTM")
    proto = model([node(kind, **options)], {**weights(kind), "P": np.ones((1, 3 * H), np.float32)})
    for read in (fastlstm.from_onnx, fastlstm.onnx_layers, bare.from_onnx, bare.onnx_layers):
        with pytest.raises(ValueError, match=f"{kind} node 'node': .*{words}"):
            read(proto)


def test_a_node_that_is_refused_leaves_the_others() -> None:
    nodes = [node(name="good"), node(name="bad", y="z", clip=1.0)]
    proto = model(nodes, weights(), outputs=("y", "z"))
    hold(proto, "good")
    with pytest.raises(ValueError, match="clip"):
        fastlstm.from_onnx(proto, "bad")


def test_the_body_of_a_loop() -> None:
    graph = helper.make_graph(
        [node(y="inside"), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("k", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("inside", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["times", ""], ["all"], body=graph)
    first = helper.make_node("Squeeze", ["all", "axes"], ["y"])
    arrays = {**weights(), "times": np.array(1), "axes": np.array([0])}
    hold(model([loop, first], arrays))


def test_a_value_of_the_body_hides_that_of_the_graph_around_it() -> None:
    other = weights(seed=1)
    inside = branch([constant("W", other["W"]), node(y="a")], "a")
    nodes = [helper.make_node("If", ["really"], ["y"], then_branch=inside, else_branch=inside)]
    proto = model(nodes, {**{k: v for k, v in weights().items() if k != "W"}, "really": np.array(True)})
    layer = fastlstm.from_onnx(proto)
    again = fastlstm.from_onnx(model([node()], {**weights(), "W": other["W"]}))
    assert torch.equal(layer.weight_ih_l0, again.weight_ih_l0)


def test_weights_that_operators_make() -> None:
    """As torch's exporter has them of an LSTMCell, whose gates are in another order: Unsqueeze(Concat(Slice)), a scope out."""
    arrays = weights()
    gates = np.split(arrays["W"][0], 4)
    pieces = []
    nodes = [constant("weight", np.concatenate([gates[3], gates[0], gates[1], gates[2]]))]
    for k, start in enumerate((H, 2 * H, 3 * H, 0)):
        bounds = {"from": [start], "to": [start + H], "axis": [0]}
        nodes += [constant(f"{name}{k}", np.array(value)) for name, value in bounds.items()]
        nodes.append(helper.make_node("Slice", ["weight", *(f"{name}{k}" for name in bounds)], [f"piece{k}"]))
        pieces.append(f"piece{k}")
    nodes += [
        helper.make_node("Concat", pieces, ["rows"], axis=0),
        helper.make_node("Constant", [], ["axes"], value_ints=[0]),
        helper.make_node("Transpose", ["R_turned"], ["R_wide"], perm=[0, 2, 1]),
        helper.make_node("Cast", ["R_wide"], ["R"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["B_flat", "B_shape"], ["B"]),
    ]
    inside = branch([helper.make_node("Unsqueeze", ["rows", "axes"], ["W"]), node(y="a")], "a")
    nodes.append(helper.make_node("If", ["really"], ["y"], then_branch=inside, else_branch=inside))
    given = {
        "R_turned": arrays["R"].swapaxes(1, 2).astype(np.float64),
        "B_flat": arrays["B"].reshape(-1),
        "B_shape": np.array([1, -1]),
        "really": np.array(True),
    }
    layer = hold(model(nodes, given))
    assert torch.equal(layer.weight_ih_l0, fastlstm.from_onnx(one()).weight_ih_l0)


@pytest.mark.parametrize("opset", [9, 12])
def test_older_opsets(opset: int) -> None:
    arrays = weights()
    nodes = [
        helper.make_node("Unsqueeze", ["W_flat"], ["W_three"], axes=[0]),
        helper.make_node("Slice", ["W_three"], ["W"], starts=[0], ends=[9], axes=[0])
        if opset < 10
        else helper.make_node("Identity", ["W_three"], ["W"]),
        helper.make_node("Squeeze", ["R_four"], ["R"], axes=[1]),
        node(),
    ]
    given = {"W_flat": arrays["W"][0], "R_four": arrays["R"][:, None], "B": arrays["B"]}
    hold(model(nodes, given, opset=opset))


def test_states_that_the_file_fixes() -> None:
    states = {
        f"initial_{s}": np.random.default_rng(k).standard_normal((1, 2, H), np.float32) for k, s in enumerate("hc")
    }
    inputs = ("x", "W", "R", "B", "", "initial_h", "initial_c")
    proto, x = model([node(inputs=inputs)], {**weights(), **states}), frames()
    expected = beside(run(proto, x)[0])
    layer, hx = fastlstm.onnx_layers(proto)["node"]
    np.testing.assert_allclose(layer(torch.from_numpy(x), hx)[0].detach().numpy(), expected, **EXPORTED)
    alone, hx = bare.onnx_layers(proto)["node"]
    np.testing.assert_allclose(alone(x, hx)[0], expected, **EXPORTED)
    with pytest.raises(ValueError, match="initial states that are not zeros: onnx_layers"):
        fastlstm.from_onnx(proto)
    zeros = {name: np.zeros_like(array) for name, array in states.items()}
    hold(model([node(inputs=inputs)], {**weights(), **zeros}))
    with pytest.raises(ValueError, match="initial states have the shapes"):
        fastlstm.onnx_layers(model([node(inputs=inputs)], {**weights(), **states, "initial_c": states["initial_c"][0]}))


def test_states_of_a_gru_and_states_half_given() -> None:
    h = np.ones((1, 2, H), np.float32)
    proto = model([node("GRU", ("x", "W", "R", "B", "", "h"))], {**weights("GRU"), "h": h})
    layer, hx = fastlstm.onnx_layers(proto)["node"]
    x = frames()
    np.testing.assert_allclose(layer(torch.from_numpy(x), hx)[0].detach().numpy(), beside(run(proto, x)[0]), **EXPORTED)
    half = model([node(inputs=("x", "W", "R", "B", "", "h"))], {**weights(), "h": h})
    _, hx = fastlstm.onnx_layers(half)["node"]
    assert torch.equal(hx[0], torch.ones(1, 2, H))
    assert torch.equal(hx[1], torch.zeros(1, 2, H))
    given = model([node(inputs=("x", "W", "R", "B", "", "h", "x"))], {**weights(), "h": h})
    assert fastlstm.onnx_layers(given)["node"].hx is None  # one is an input: both are the caller's to give


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_quantized_weights_are_the_numbers_they_stand_for(per_channel: bool, dtype: Any) -> None:
    random, D = np.random.default_rng(0), 2
    arrays: dict[str, Any] = {"B": weights(D=D)["B"]}
    real: dict[str, Any] = {"B": arrays["B"]}
    for name, features in (("W", I), ("R", H)):
        whole = random.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, (D, features, 4 * H), dtype, True)
        scale = random.uniform(0.005, 0.02, (D, 4 * H) if per_channel else D).astype(np.float32)
        zero = np.full(scale.shape, 0 if dtype is np.int8 else 128, dtype)
        arrays |= {name: whole, f"{name}_scale": scale, f"{name}_zero": zero}
        spread = (D, 1, -1)
        numbers = (whole.astype(np.float32) - zero.astype(np.float32).reshape(spread)) * scale.reshape(spread)
        real[name] = numbers.swapaxes(1, 2)
    inputs = ["x", "W", "R", "B", "", "", "", "", "W_scale", "W_zero", "R_scale", "R_zero"]
    options = {"domain": "com.microsoft", "direction": "bidirectional"}
    proto = model([node("DynamicQuantizeLSTM", inputs, **options)], arrays)
    layer = fastlstm.from_onnx(proto)
    same = fastlstm.from_onnx(model([node(direction="bidirectional")], real))
    for name, weight in same.state_dict().items():
        assert torch.equal(layer.state_dict()[name], weight), name
    x = frames()
    theirs = beside(run(proto, x)[0])  # x and h are rounded to 8 bits at every step
    ours = layer(torch.from_numpy(x))[0].detach().numpy()
    assert np.linalg.norm(ours - theirs) <= OF_8_BITS * np.linalg.norm(theirs)
    broken = model([node("DynamicQuantizeLSTM", inputs, **options)], {**arrays, "W_scale": arrays["W_scale"][:1]})
    with pytest.raises(ValueError, match="W is not quantized as ONNX Runtime does it"):
        fastlstm.from_onnx(broken)


@pytest.mark.parametrize("kind", [np.float64, np.float16, "bfloat16"], ids=str)
def test_other_dtypes(kind: Any) -> None:
    import ml_dtypes

    dtype = ml_dtypes.bfloat16 if kind == "bfloat16" else kind
    arrays = {name: array.astype(dtype) for name, array in weights().items()}
    layer = fastlstm.from_onnx(model([node()], arrays))
    name = np.dtype(dtype).name
    assert all(str(p.dtype) == f"torch.{name}" for p in layer.parameters())
    alone = bare.from_onnx(model([node()], arrays))
    assert alone.dtype == (np.float64 if name == "float64" else np.float32)
    assert np.array_equal(alone.weights["weight_ih_l0"], layer.weight_ih_l0.detach().to(torch.float64).numpy())
    listed = helper.make_tensor(
        "W", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), arrays["W"].shape, arrays["W"].ravel()
    )
    again = fastlstm.from_onnx(model([node()], {**arrays, "W": listed}))
    assert torch.equal(again.weight_ih_l0, layer.weight_ih_l0)


def test_weights_beside_the_file(tmp_path: Path) -> None:
    onnx.save(one(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert (tmp_path / "m.data").stat().st_size > 0
    layer, whole = fastlstm.from_onnx(tmp_path / "m.onnx"), fastlstm.from_onnx(one())
    assert torch.equal(layer.weight_hh_l0, whole.weight_hh_l0)
    with pytest.raises(ValueError, match="beside the model: give the model's path"):
        fastlstm.from_onnx(onnx.load(tmp_path / "m.onnx", load_external_data=False))
    (tmp_path / "blobs").mkdir()  # as the cache of a hub has them: links in one folder to files in another
    for name in ("m.onnx", "m.data"):
        (tmp_path / name).rename(tmp_path / "blobs" / f"1234{name}")
    (tmp_path / "snapshot").mkdir()
    for name in ("m.onnx", "m.data"):
        (tmp_path / "snapshot" / name).symlink_to(tmp_path / "blobs" / f"1234{name}")
    linked = fastlstm.from_onnx(tmp_path / "snapshot" / "m.onnx")
    assert torch.equal(linked.weight_hh_l0, whole.weight_hh_l0)


def test_functions_are_asked_to_be_inlined() -> None:
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("own", "Layer", ["x", "W", "R", "B"], ["y"], [node()], opsets)
    proto = model([helper.make_node("Layer", ["x", "W", "R", "B"], ["y"], domain="own")], weights())
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("own", 1))
    with pytest.raises(ValueError, match=r"in functions: onnx\.inliner\.inline_local_functions\(model\)"):
        fastlstm.from_onnx(proto)
    hold(inliner.inline_local_functions(proto))


def test_the_states_and_lengths_of_a_call_are_the_caller_s() -> None:
    proto = one(inputs=("x", "W", "R", "B", "lengths", "h", "c"))
    for name, kind, shape in (
        ("lengths", TensorProto.INT32, ["N"]),
        *((s, TensorProto.FLOAT, [1, "N", H]) for s in "hc"),
    ):
        proto.graph.input.append(helper.make_tensor_value_info(name, kind, shape))
    layer, x, states = fastlstm.from_onnx(proto), frames(), [np.ones((1, 2, H), np.float32)] * 2
    lengths = np.array([5, 2], np.int32)
    expected = beside(run(proto, x, h=states[0], c=states[1], lengths=lengths)[0])
    output, last = layer(torch.from_numpy(x), tuple(map(torch.from_numpy, states)), lengths=lengths)
    np.testing.assert_allclose(output.detach().numpy(), expected, **EXPORTED)
    assert len(states_of(last)) == 2


def test_a_layer_that_was_read_learns() -> None:
    layer = fastlstm.from_onnx(one())
    layer(torch.randn(5, 2, 3))[0].sum().backward()
    assert all(p.grad is not None and p.is_leaf for p in layer.parameters())
