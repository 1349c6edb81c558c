"""ONNX Runtime, inference only."""

from itertools import cycle
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
    session = _session(onnx_model.model(inputs.point, inputs.layer))
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


def steps(inputs: Inputs) -> dict[str, Contender]:
    """Steps of a stream: by `session.run`, arrays in and out, as it is called mostly; and with everything bound."""
    session = _session(onnx_model.step_model(inputs.point, inputs.layer))
    return {"": _run_steps(session, inputs), ", bound": _bound_steps(session, inputs)}


def _run_steps(session: onnxruntime.InferenceSession, inputs: Inputs) -> Contender:
    x = inputs.x.numpy()  # type: ignore[union-attr]  # a tensor: a step is dense
    names = [f"{state}_0" for state in inputs.point.kind.states]
    states = [np.zeros((1, 1, inputs.point.H), np.float32) for _ in names]

    def run() -> Any:
        nonlocal states
        states = session.run(None, {"x": x, **dict(zip(names, states, strict=True))})
        return states

    return Contender(run, lambda returned: _of_states(inputs, returned), work(inputs.point, train=False))


def _bound_steps(session: onnxruntime.InferenceSession, inputs: Inputs) -> Contender:
    """Two sets of states, each the input of one binding and the output of the other: a step copies nothing."""
    kinds = inputs.point.kind.states
    x = onnxruntime.OrtValue.ortvalue_from_numpy(inputs.x.numpy())  # type: ignore[union-attr]  # a tensor: a step is dense
    zeros = np.zeros((1, 1, inputs.point.H), np.float32)
    before, after = ({kind: onnxruntime.OrtValue.ortvalue_from_numpy(zeros.copy()) for kind in kinds} for _ in range(2))
    turns = []
    for come_in, go_out in ((before, after), (after, before)):
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", x)
        for kind in kinds:
            binding.bind_ortvalue_input(f"{kind}_0", come_in[kind])
            binding.bind_ortvalue_output(f"{kind}_n", go_out[kind])
        turns.append((binding, go_out))
    turn = cycle(turns)

    def run() -> Any:
        binding, states = next(turn)
        session.run_with_iobinding(binding)
        return states

    def results(returned: Any) -> Results:
        return _of_states(inputs, [value.numpy() for value in returned.values()])

    return Contender(run, results, work(inputs.point, train=False))


def _of_states(inputs: Inputs, states: list[Any]) -> Results:
    """The last states by name; the first of them is the output."""
    named = dict(zip(["output", *final_states(inputs.point)], [states[0], *states], strict=True))
    return {name: torch.from_numpy(value.copy()) for name, value in named.items()}


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
