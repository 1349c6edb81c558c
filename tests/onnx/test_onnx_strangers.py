"""Files from a stranger: they can do nothing but be refused, and cost no more than their size."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import fastlstm
from fastlstm import LSTM
from fastlstm import numpy as bare
from tests.onnx.graphs import H, branch, external, model, node, one, stack, weights


def changed(name: str, change: Callable[[Any], object]) -> Any:
    """The model of one node, with a change of one of its initializers."""
    proto = one()
    change(next(tensor for tensor in proto.graph.initializer if tensor.name == name))
    return proto


def of_shape(*dims: int) -> Callable[[Any], None]:
    def change(tensor: Any) -> None:
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return change


def of_type(kind: int) -> Callable[[Any], None]:
    def change(tensor: Any) -> None:
        tensor.data_type = kind

    return change


TENSORS = {
    "a huge shape": (of_shape(1, 2**40, 2**40), "must have .* bytes, got 192"),
    "a shape whose size overflows to what is there": (of_shape(1, 2**62, 2**62), "must have"),
    "a negative shape": (of_shape(-1, 16, -3), "has the shape"),
    "no shape": (of_shape(), "must have 4 bytes"),
    "strings": (of_type(TensorProto.STRING), "of a type that no weights have"),
    "an unknown type": (of_type(99), "of a type that no weights have"),
    "integers": (of_type(TensorProto.INT32), "expected weights of one real dtype, got float32, int32"),
    "doubles": (of_type(TensorProto.DOUBLE), "must have 384 bytes, got 192"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_that_lies(name: str) -> None:
    change, words = TENSORS[name]
    for read in (fastlstm.from_onnx, bare.from_onnx):
        with pytest.raises(ValueError, match=words):
            read(changed("W", change))


PLACES = {
    "a parent": "../secret",
    "a parent in the middle": "folder/../../secret",
    "an absolute path": "{secret}",
    "a link out": "link",
    "a folder of links": "linked/secret",
    "a name with a NUL": "a\0b",
}


@pytest.mark.parametrize("name", PLACES)
def test_nothing_outside_of_the_folder_is_read(name: str, tmp_path: Path) -> None:
    secret, folder = tmp_path / "secret", tmp_path / "model"
    secret.write_bytes(bytes(4096))
    (folder / "folder").mkdir(parents=True)
    (folder / "link").symlink_to(secret)
    (folder / "linked").symlink_to(tmp_path)
    location = PLACES[name].format(secret=secret)
    path = folder / "m.onnx"
    path.write_bytes(changed("W", lambda t: external(t, location=location)).SerializeToString())
    for at in (path, os.path.relpath(path)):
        with pytest.raises(ValueError, match="outside of the model's folder"):
            fastlstm.from_onnx(at)


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ({"location": "none"}, FileNotFoundError, "none"),
        ({"location": "."}, IsADirectoryError, "directory"),
        ({}, IsADirectoryError, "directory"),
        ({"location": "fifo"}, OSError, "not a regular file"),
        ({"location": "data", "offset": "1"}, ValueError, "beyond the end"),
        ({"location": "data", "offset": "-4"}, ValueError, "must have 192 bytes"),
        ({"location": "data", "length": "4"}, ValueError, "must have 192 bytes, got 4"),
        ({"location": "data", "offset": "here"}, ValueError, "no number"),
        ({"location": "data", "offset": "9" * 5000}, ValueError, "no number"),
        ({"location": "data", "offset": "9" * 30}, ValueError, "beyond the end"),
    ],
    ids=str,
)
def test_a_file_of_weights_that_is_none(said: dict[str, str], error: Any, words: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(192))
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "m.onnx").write_bytes(changed("W", lambda t: external(t, **said)).SerializeToString())
    with pytest.raises(error, match=words):
        fastlstm.from_onnx(tmp_path / "m.onnx")


def test_a_path_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no model at all")
    (tmp_path / "empty").write_bytes(b"")
    for name in ("text", "empty"):
        with pytest.raises(ValueError, match=f"{name} is not an ONNX model"):
            fastlstm.from_onnx(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        fastlstm.from_onnx(tmp_path / "none.onnx")
    with pytest.raises(IsADirectoryError):
        fastlstm.from_onnx(tmp_path)
    for wrong in (5, None, LSTM(3, 4)):
        with pytest.raises(TypeError, match=r"expected a path or an onnx\.ModelProto"):
            fastlstm.from_onnx(wrong)
    with pytest.raises(ValueError, match="no LSTM or GRU node"):
        fastlstm.from_onnx(model([helper.make_node("Relu", ["x"], ["y"])], {}))


def chain(length: int) -> Any:
    nodes = [helper.make_node("Identity", [f"w{k}"], [f"w{k + 1}"]) for k in range(length)]
    return model([*nodes, node(inputs=("x", f"w{length}", "R"))], {"w0": weights()["W"], "R": weights()["R"]})


def doubled(times: int, rows: int = 1) -> Any:
    nodes = [helper.make_node("Concat", [f"w{k}"] * 2, [f"w{k + 1}"], axis=0) for k in range(times)]
    return model(
        [*nodes, node(inputs=("x", f"w{times}", "R"))], {"w0": np.ones((rows, 16, 3), np.float32), **weights()}
    )


def shared(count: int) -> Any:
    return model([node(name=f"node{k}", y=f"y{k}") for k in range(count)], weights(), outputs=())


def circle() -> Any:
    nodes = [helper.make_node("Identity", ["a"], ["W"]), helper.make_node("Identity", ["W"], ["a"])]
    return model([*nodes, node()], {name: weights()[name] for name in "RB"})


def nested(depth: int) -> Any:
    graph = branch([node(y="y0")], "y0")
    for k in range(1, depth):
        graph = branch(
            [helper.make_node("If", ["c"], [f"y{k}"], then_branch=graph, else_branch=branch([], "e"))], f"y{k}"
        )
    proto = model([], weights())
    proto.graph.node.extend(graph.node)
    return proto


def ring() -> Any:
    """Two nodes, each of which is said to read the other."""
    arrays = {**weights(), "W2": weights(features=H)["W"], "one": np.array([1])}
    squeezes = [helper.make_node("Squeeze", [f"y{k}", "one"], [f"x{1 - k}"]) for k in (0, 1)]
    layers = [node(inputs=(f"x{k}", "W2", "R", "B"), y=f"y{k}") for k in (0, 1)]
    return model([*squeezes, *layers], arrays, outputs=())


def endless() -> Any:
    """A stack whose lengths are said to be enormous, and whose shape asks for as many numbers."""
    between = [
        helper.make_node("Transpose", ["a"], ["t"], perm=[0, 2, 1, 3]),
        helper.make_node("Cast", ["t"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Reshape", ["t", "wide"], ["b"]),
    ]
    proto = stack("LSTM", 2, between)
    proto.graph.value_info.append(helper.make_tensor_value_info("t", TensorProto.FLOAT, [2**28, 2**20, 2, H]))
    return proto


COSTLY = {
    "a long chain": (lambda: chain(5000), "further than 100 operators"),
    "a circle": (circle, "further than 100 operators"),
    "weights that double": (lambda: doubled(60), "more to compute than a file of its size can need"),
    "nothing that doubles": (lambda: doubled(60, 0), "W and R have the shapes"),
    "a thousand layers of the same weights": (lambda: shared(1000), "more to compute than a file of its size can need"),
    "layers in a ring": (ring, "no LSTM or GRU node"),
    "an operator that is wrong": (
        lambda: model(
            [helper.make_node("Concat", ["a", "b"], ["W"], axis=7), node()], {"a": weights()["W"], "b": weights()["W"]}
        ),
        r"'W' \(Concat\) can't be computed",
    ),
    "activations that are a number": (lambda: one(activations=7), "activations are 7"),
    "a Reshape to nothing": (
        lambda: stack(
            "LSTM",
            2,
            [
                helper.make_node("Transpose", ["a"], ["t"], perm=[0, 2, 1, 3]),
                helper.make_node("Reshape", ["t"], ["b"]),
            ],
            clip=1.0,
        ),
        "clip",
    ),
    "a node without inputs": (lambda: model([helper.make_node("LSTM", [], ["y"])], {}), "W is not a constant"),
    "a node without outputs": (
        lambda: model([helper.make_node("LSTM", ["x"], [])], {}),
        "'LSTM': its W is not a constant",
    ),
    "a Squeeze of nothing": (
        lambda: model([helper.make_node("Squeeze", [], ["x2"]), node(inputs=("x2", "W", "R"), clip=1.0)], weights()),
        "clip",
    ),
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_file_costs_no_more_than_its_size(name: str) -> None:
    make, words = COSTLY[name]
    with pytest.raises(ValueError, match=words):
        fastlstm.onnx_layers(make())


def test_a_stack_of_enormous_lengths_is_two_layers() -> None:
    assert list(fastlstm.onnx_layers(endless())) == ["node", "upper"]


def test_graphs_in_graphs() -> None:
    assert list(fastlstm.onnx_layers(nested(20))) == ["node"]


OURS = {
    "no metadata": ({}, "its metadata has no 'fastlstm'"),
    "no JSON": ({"fastlstm": "{"}, "not JSON"),
    "another size": ({"hidden_size": 5}, "the model says that it is a LSTM"),
    "more layers": ({"num_layers": 10**9}, "the model says that it is a LSTM"),
    "a projection": ({"proj_size": 2}, "expected 5 tensors, found 0"),
}


@pytest.mark.parametrize("name", OURS)
def test_a_file_that_says_it_is_ours(name: str, tmp_path: Path) -> None:
    fastlstm.to_onnx(LSTM(3, 4), tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    said, words = OURS[name]
    if said and "fastlstm" not in said:
        described = json.loads(proto.metadata_props[0].value)
        said = {"fastlstm": json.dumps({**described, "arguments": {**described["arguments"], **said}})}
    helper.set_model_props(proto, said)
    with pytest.raises(ValueError, match=words):
        fastlstm.from_onnx(proto)


@pytest.mark.parametrize("arguments", [{"num_layers": 10**9}, {"hidden_size": 10**15}, {"proj_size": 9}])
def test_a_projection_that_lies(arguments: dict[str, int], tmp_path: Path) -> None:
    fastlstm.to_onnx(LSTM(3, 4, proj_size=2), tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    described = json.loads(proto.metadata_props[0].value)
    helper.set_model_props(
        proto, {"fastlstm": json.dumps({**described, "arguments": {**described["arguments"], **arguments}})}
    )
    for read in (fastlstm.from_onnx, bare.from_onnx):
        with pytest.raises(ValueError, match=r"expected 5000000000 tensors|must have the shape|proj_size"):
            read(proto)


@pytest.mark.parametrize("projected", [False, True])
def test_damaged_files_are_refused_or_read(projected: bool, tmp_path: Path) -> None:
    """A thousand times a few bytes are others, or the end is missing."""
    fastlstm.to_onnx(LSTM(3, 4, 2, proj_size=2 * projected), tmp_path / "m.onnx")
    whole, random = (tmp_path / "m.onnx").read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        content = bytearray(whole[: random.integers(1, len(whole))] if random.random() < 0.2 else whole)
        for _ in range(random.integers(1, 4)):
            content[random.integers(len(content))] = random.integers(256)
        (tmp_path / "m.onnx").write_bytes(content)
        try:
            bare.onnx_layers(tmp_path / "m.onnx")
        except (ValueError, FileNotFoundError, IsADirectoryError):
            refused += 1
    assert refused > 100
