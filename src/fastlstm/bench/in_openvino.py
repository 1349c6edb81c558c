"""OpenVINO, inference only: the same ONNX model as ONNX Runtime's."""

from typing import Any

import openvino
import torch

from fastlstm.bench import onnx_model
from fastlstm.bench.contender import Contender, Inputs, Results, final_states
from fastlstm.bench.points import work


def contender(inputs: Inputs, train: bool) -> Contender:
    """Compiled for one request at a time with as many threads as torch, the input bound once."""
    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",  # or it computes in bfloat16 where the processor has units for that
    }
    model = core.read_model(onnx_model.model(inputs.point, inputs.layer))
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    x = inputs.x.numpy()  # type: ignore[union-attr]  # a tensor: only dense points come here
    request.set_input_tensor(openvino.Tensor(x))  # a copy, made once

    names = ["output", *final_states(inputs.point)]

    def results(returned: Any) -> Results:
        return {name: torch.from_numpy(request.get_tensor(name).data.copy()) for name in names}

    return Contender(request.infer, results, work(inputs.point, train))
