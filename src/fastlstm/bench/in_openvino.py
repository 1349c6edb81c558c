"""OpenVINO, inference only: the same ONNX model as ONNX Runtime's."""

from itertools import cycle
from typing import Any

import numpy as np
import openvino
import torch

from fastlstm.bench import onnx_model
from fastlstm.bench.contender import Contender, Inputs, Results, final_states
from fastlstm.bench.points import work


def contender(inputs: Inputs, train: bool) -> Contender:
    """Compiled for one request at a time with as many threads as torch, the input bound once."""
    request = _compiled(onnx_model.model(inputs.point, inputs.layer)).create_infer_request()
    x = inputs.x.numpy()  # type: ignore[union-attr]  # a tensor: only dense points come here
    request.set_input_tensor(openvino.Tensor(x))  # a copy, made once

    names = ["output", *final_states(inputs.point)]

    def results(returned: Any) -> Results:
        return {name: torch.from_numpy(request.get_tensor(name).data.copy()) for name in names}

    return Contender(request.infer, results, work(inputs.point, train))


def steps(inputs: Inputs) -> dict[str, Contender]:
    """Steps of a stream: two requests, the memory of whose states is each other's, so that a step copies nothing."""
    point = inputs.point
    kinds = point.kind.states
    compiled = _compiled(onnx_model.step_model(point, inputs.layer))
    x = openvino.Tensor(inputs.x.numpy())  # type: ignore[union-attr]  # a tensor: a step is dense
    before, after = ({kind: openvino.Tensor(np.zeros((1, 1, point.H), np.float32)) for kind in kinds} for _ in range(2))
    requests = []
    for come_in, go_out in ((before, after), (after, before)):
        request = compiled.create_infer_request()
        request.set_tensor("x", x)
        for kind in kinds:
            request.set_tensor(f"{kind}_0", come_in[kind])
            request.set_tensor(f"{kind}_n", go_out[kind])
        requests.append(request)
    turn = cycle(requests)

    def run() -> Any:
        request = next(turn)
        request.infer()
        return request

    def results(returned: Any) -> Results:
        names = final_states(point)
        values = {name: torch.from_numpy(returned.get_tensor(name).data.copy()) for name in names}
        return {"output": values[names[0]], **values}

    return {"": Contender(run, results, work(point, train=False))}


def _compiled(model: bytes) -> Any:
    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",  # or it computes in bfloat16 where the processor has units for that
    }
    return core.compile_model(core.read_model(model), "CPU", settings)
