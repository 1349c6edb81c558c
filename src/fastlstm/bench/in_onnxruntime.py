"""ONNX Runtime, inference only."""

from typing import Any

import numpy as np
import onnxruntime
import torch

from fastlstm.bench import onnx_model
from fastlstm.bench.contender import Contender, Inputs, Results, final_states
from fastlstm.bench.points import work


def contender(inputs: Inputs, train: bool) -> Contender:
    """A session with as many threads as torch, its input and outputs bound once: a call copies nothing.

    On one step of one row that is a third faster than `session.run`, on large sizes the same. Its workers spin for 30 ms after
    a call, waiting for the next one, and may: with `session.force_spinning_stop` a burst of one step of H 256 takes 2.6 times
    as long, of 100 steps of one row of H 64 1.5 times. The pause between bursts is long enough for the spinning to end.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    model = onnx_model.model(inputs.point, inputs.layer)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    # An OrtValue keeps the array that it borrows its memory from; the binding keeps neither.
    x = inputs.x.numpy()  # type: ignore[union-attr]  # a tensor: only dense points come here
    borrowed = {"x": onnxruntime.OrtValue.ortvalue_from_numpy(x)}
    binding.bind_ortvalue_input("x", borrowed["x"])
    for output in session.get_outputs():
        borrowed[output.name] = onnxruntime.OrtValue.ortvalue_from_numpy(np.empty(output.shape, np.float32))
        binding.bind_ortvalue_output(output.name, borrowed[output.name])

    names = ["output", *final_states(inputs.point)]

    def results(returned: Any) -> Results:
        return {name: torch.from_numpy(borrowed[name].numpy().copy()) for name in names}

    return Contender(lambda: session.run_with_iobinding(binding), results, work(inputs.point, train))
