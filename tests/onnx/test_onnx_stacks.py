"""Which nodes are a layer of their own: names, twins in branches, and nodes that are the layers of one module."""

from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper

import fastlstm
from fastlstm import GRU, LSTM
from fastlstm import numpy as bare
from tests.onnx.beside_onnxruntime import beside, frames, hold, run
from tests.onnx.graphs import branch, constant, model, node, stack, weights
from tests.tolerances import EXPORTED


def test_several_layers_are_asked_for_by_name() -> None:
    arrays = weights() | {f"{name}2": array for name, array in weights("GRU", seed=1).items()}
    nodes = [node(), node("GRU", ("x", "W2", "R2", "B2"), name="", y="z")]
    proto = model(nodes, arrays, outputs=("y", "z"))
    assert type(hold(proto, "node")) is LSTM
    assert type(fastlstm.from_onnx(proto, "z")) is GRU
    assert list(fastlstm.onnx_layers(proto)) == list(bare.onnx_layers(proto)) == ["node", "z"]
    with pytest.raises(ValueError, match="2 layers: expected the name of one of 'node', 'z'"):
        fastlstm.from_onnx(proto)
    with pytest.raises(ValueError, match="no layer 'y': expected one of 'node', 'z'"):
        fastlstm.from_onnx(proto, "y")


def test_nodes_of_one_name_are_told_apart() -> None:
    arrays = weights() | {f"{name}2": array for name, array in weights(seed=1).items()}
    proto = model([node(), node(inputs=("x", "W2", "R2", "B2"), y="z")], arrays, outputs=("y", "z"))
    assert list(fastlstm.onnx_layers(proto)) == ["node", "node (1)"]


def test_branches_with_the_same_weights_have_one_layer() -> None:
    then = branch([node(name="then", y="a")], "a")
    inner = branch([node(name="inner", y="c", inputs=("x", "W", "R", "B"))], "c")
    nested = helper.make_node("If", ["really"], ["d"], then_branch=inner, else_branch=then)
    proto = model(
        [helper.make_node("If", ["really"], ["y"], then_branch=then, else_branch=branch([nested], "d"))],
        {**weights(), "really": np.array(True)},
    )
    assert list(fastlstm.onnx_layers(proto)) == ["then"]
    hold(proto)


@pytest.mark.parametrize("D", [1, 2])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_stack_is_one_layer(kind: str, D: int) -> None:
    proto = stack(kind, D)
    layer, x = fastlstm.from_onnx(proto), frames()
    assert layer.num_layers == 2
    np.testing.assert_allclose(
        layer(torch.from_numpy(x))[0].detach().numpy(), beside(run(proto, x, ["y"])[0]), **EXPORTED
    )


@pytest.mark.parametrize(("order", "layers"), [((0, 1), 2), ((1, 0), 1)])
def test_a_shape_that_is_computed_says_whether_it_is_a_stack(order: tuple[int, int], layers: int) -> None:
    """As torch's exporter flattens the directions of nodes whose sizes are open."""
    pieces = [constant(f"k{k}", np.array([k])) for k in range(5)]
    for k in range(4):
        pieces.append(helper.make_node("Slice", ["sizes", f"k{k}", f"k{k + 1}"], [f"size{k}"]))
    between = [
        helper.make_node("Transpose", ["a"], ["t"], perm=[0, 2, 1, 3]),
        helper.make_node("Shape", ["t"], ["sizes"]),
        *pieces,
        helper.make_node("Mul", ["size2", "size3"], ["both"]),
        helper.make_node("Concat", [*(f"size{k}" for k in order), "both"], ["new"], axis=0),
        helper.make_node("Reshape", ["t", "new"], ["b"]),
    ]
    found = fastlstm.onnx_layers(stack("LSTM", 2, between))
    assert found["node"].layer.num_layers == layers


@pytest.mark.parametrize(
    "proto",
    [
        stack("LSTM", 1, outputs=("y", "b")),
        stack("LSTM", 1, outputs=("y", "a")),
        stack("LSTM", 1, [helper.make_node("Squeeze", ["a", "one"], ["s"]), helper.make_node("Relu", ["s"], ["b"])]),
        stack(
            "LSTM",
            2,
            [
                helper.make_node("Transpose", ["a"], ["t"], perm=[2, 0, 1, 3]),
                helper.make_node("Reshape", ["t", "shape"], ["b"]),
            ],
        ),
        stack("LSTM", 1, [helper.make_node("Squeeze", ["a"], ["b"])]),
    ],
    ids=["output", "output of the node", "relu", "another order", "squeezed of what is 1"],
)
def test_nodes_that_others_read_or_change_are_two_layers(proto: Any) -> None:
    assert list(fastlstm.onnx_layers(proto)) == ["node", "upper"]
