"""What ONNX Runtime makes of a model, and both faces beside it."""

from typing import Any

import numpy as np
import onnxruntime
import torch

import fastlstm
from fastlstm import numpy as bare
from tests.onnx.graphs import I
from tests.tolerances import EXPORTED


def run(proto: Any, x: Any, outputs: Any = None, **more: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(outputs, {"x": x, **more})


def frames(L: int = 5, N: int = 2, features: int = I) -> Any:
    return np.random.default_rng(7).standard_normal((L, N, features), np.float32)


def beside(y: Any) -> Any:
    """(L, D, N, H), as a node has it, as (L, N, D*H)."""
    return y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1)


def hold(proto: Any, name: str | None = None) -> Any:
    """Both faces have ONNX Runtime's y. The layer."""
    x = frames()
    expected = beside(run(proto, x, ["y"])[0])
    layer, alone = fastlstm.from_onnx(proto, name), bare.from_onnx(proto, name)
    np.testing.assert_allclose(layer(torch.from_numpy(x))[0].detach().numpy(), expected, **EXPORTED)
    np.testing.assert_allclose(alone(x)[0], expected, **EXPORTED)
    return layer
