"""The sample calls that torch tests its own modules with (ModuleInfo), through torch's class and ours.

They come with the installed torch: what another version adds is tested, and counted here.
"""

import re
import sys
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import fastlstm
from tests.conftest import Evaluation, assert_close, outcome
from tests.torch.kept import counting

SAMPLES = {"LSTM": 32, "GRU": 32, "LSTMCell": 2, "GRUCell": 2}  # of each dtype and mode, in torch 2.13
ERRORS = {"LSTM": 14, "GRU": 14, "LSTMCell": 4, "GRUCell": 6}

each_module = pytest.mark.parametrize("name", SAMPLES)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
each_mode = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


@pytest.fixture(scope="module")
def infos() -> dict[str, Any]:
    """Torch's ModuleInfo by name. To import it freezes torch.backends and wraps every call of TorchScript: other tests are
    to have neither.
    """
    with pytest.MonkeyPatch.context() as kept:
        flags = torch.backends.flags_frozen.__globals__  # the name torch.backends is an object around the module
        kept.setitem(flags, "__allow_nonbracketed_mutation_flag", True)
        for kind in (torch._C.ScriptFunction, torch._C.ScriptMethod):
            kept.setattr(kind, "__call__", kind.__call__)
        module_db = import_module("torch.testing._internal.common_modules").module_db
    return {info.name.removeprefix("nn."): info for info in module_db}


def drawn(info: Any, of: str, dtype: torch.dtype, training: bool) -> list[Any]:
    """The right calls or the wrong ones; a GRU's right ones with packed sequences, which others don't have."""
    found = getattr(info, of)(
        info, device="cpu", dtype=dtype, requires_grad=False, training=training, with_packed_sequence=True
    )
    return list(found)


def made(home: Any, name: str, sample: Any, **options: Any) -> Any:
    return getattr(home, name)(*sample.constructor_input.args, **{**sample.constructor_input.kwargs, **options})


def leaf(value: Any, dtype: torch.dtype) -> Any:
    """An argument with leaves for tensors, in a dtype; what a PackedSequence has beside its data has no gradient."""
    if isinstance(value, PackedSequence):
        return value._replace(data=leaf(value.data, dtype))
    if isinstance(value, Tensor):
        return value.detach().to(dtype, copy=True).requires_grad_()
    return tuple(leaf(part, dtype) for part in value)


def leaves(value: Any) -> list[Tensor]:
    if isinstance(value, PackedSequence):
        return [value.data]
    return [value] if isinstance(value, Tensor) else [found for part in value for found in leaves(part)]


def evaluate(module: nn.Module, sample: Any, dtype: torch.dtype) -> Evaluation:
    """A sample's call in a dtype, forward and backward: outputs, gradients of its arguments and of every parameter."""
    assert not sample.forward_input.kwargs
    args = leaf(sample.forward_input.args, dtype)
    module.zero_grad(set_to_none=True)
    returned = module(*args)
    results = leaves(returned)
    names = ("h_n", "c_n") if "Cell" in type(module).__name__ else ("output", "h_n", "c_n")
    generator = torch.Generator().manual_seed(1)
    torch.autograd.backward(results, [torch.randn(value.shape, generator=generator).to(dtype) for value in results])
    found: Evaluation = {name: value.detach() for name, value in zip(names, results, strict=False)}
    found |= {f"dargument {k}": given.grad for k, given in enumerate(leaves(args))}
    found |= {f"d{name}": parameter.grad for name, parameter in module.named_parameters()}
    assert all(value is not None and value.dtype == dtype for value in found.values())
    return found


@each_mode
@each_dtype
@each_module
def test_a_sample_has_the_results_and_gradients_of_torchs_module(name, dtype, training, infos, monkeypatch):
    runs = counting(monkeypatch)
    calls = drawn(infos[name], "module_inputs_func", dtype, training)
    assert len(calls) == SAMPLES[name]
    for number, sample in enumerate(calls):
        theirs = made(nn, name, sample, dtype=dtype).train(training)
        ours = made(fastlstm, name, sample, dtype=dtype).train(training)
        ours.load_state_dict(theirs.state_dict())
        runs.clear()
        found = evaluate(ours, sample, dtype)
        assert runs, "not on the engine"
        shapes = {key: value.shape for key, value in evaluate(theirs, sample, dtype).items()}
        assert {key: value.shape for key, value in found.items()} == shapes
        expected = evaluate(theirs.double(), sample, torch.float64)  # what the table's tolerances are from
        assert_close(found, expected, dtype, hint=f"sample {number}")


def raised(home: Any, name: str, error: Any) -> tuple[type[BaseException] | None, str]:
    """What a wrong sample raises where torch says that it does: as it is made, or called."""
    sample = error.module_error_input
    if error.error_on.name == "CONSTRUCTION_ERROR":
        return outcome(lambda: made(home, name, sample))
    module = made(home, name, sample)
    return outcome(lambda: module(*sample.forward_input.args, **sample.forward_input.kwargs))


@each_dtype
@each_module
def test_a_wrong_sample_raises_what_torchs_module_raises(name, dtype, infos):
    wrong = drawn(infos[name], "module_error_inputs_func", dtype, training=True)
    assert len(wrong) == ERRORS[name]
    for error in wrong:
        kind, message = raised(fastlstm, name, error)
        their_kind, their_message = raised(nn, name, error)
        assert their_kind is error.error_type
        assert re.search(error.error_regex, their_message)
        assert kind is their_kind, f"{message!r}, expected {their_message!r}"
        assert message.startswith(their_message), f"{message!r} does not start with {their_message!r}"


def test_the_import_of_torchs_samples_leaves_the_process_as_it_was(infos):
    torchs = sys.modules["torch.testing._internal.common_utils"]
    assert torch._C.ScriptFunction.__call__ is torchs.func_call is not torchs.prof_func_call
    assert torch._C.ScriptMethod.__call__ is torchs.meth_call is not torchs.prof_meth_call
    assert not torch.backends.flags_frozen()
