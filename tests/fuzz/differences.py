"""Where ours and nn.LSTM are known to differ, and why; docs/layer.md has the same list for people ("Differences")."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.testing._comparison import default_tolerances

from tests.fuzz.case import Case
from tests.fuzz.closeness import unlike_by_more_than_rounding
from tests.fuzz.tensors import COMPLEX, STRANGERS


class Difference(NamedTuple):
    """applies: given the case, our outcome and theirs (`judge.Outcome`)."""

    name: str
    applies: Callable[[Case, Any, Any], bool]
    reason: str


def _ours(outcome: Any, *beginnings: str) -> bool:
    return outcome.error is not None and str(outcome.error).startswith(beginnings)


def _both(ours: Any, theirs: Any) -> bool:
    return ours.error is not None and theirs.error is not None


def _only_theirs(ours: Any, theirs: Any) -> bool:
    return ours.error is None and theirs.error is not None


def _parameter_refused(case: Case, ours: Any, theirs: Any) -> bool:
    odd = any(w.shape is not None or w.dtype is not None or w.layout in STRANGERS for w in case.weights.values())
    said = ("parameter ", "Input and parameter tensors")
    return (
        bool(odd or case.attribute or case.constructor) and isinstance(ours.error, RuntimeError) and _ours(ours, *said)
    )


def _parameter_deleted(case: Case, ours: Any, theirs: Any) -> bool:
    said = isinstance(ours.error, AttributeError) or _ours(ours, "expected Tensor as parameter")
    return said and case.attribute.startswith(("del layer.weight", "del layer.bias_", "layer.weight", "layer.bias_"))


def _states_refused(case: Case, ours: Any, theirs: Any) -> bool:
    said = (
        "Expected hidden[",
        "Expected hidden size",
        "For packed input, hx",
        "For batched 3-D",
        "For unbatched 2-D",
        "hidden",
        "Expected 2D hidden",
        "Input batch size",
    )
    loose = case.form in ("packed", "built") or _wrong_states(case) or _sizes_set(case)
    return loose and isinstance(ours.error, RuntimeError) and _ours(ours, *said)


def _wrong_states(case: Case) -> bool:
    return case.h.shape is not None or case.c.shape is not None


def _sizes_set(case: Case) -> bool:
    return bool(case.attribute) or case.constructor.startswith("hidden_size")


def _packed_refused(case: Case, ours: Any, theirs: Any) -> bool:
    said = ("RNN input dtype", "input must have 2 dimensions", "input.size(-1) must be")
    return case.form in ("packed", "built") and _ours(ours, *said)


_FLAGS = r"(layer\.)?(bias|batch_first|bidirectional|training|dropout) ?="


def _attribute_unread(case: Case, ours: Any, theirs: Any) -> bool:
    if not _only_theirs(ours, theirs):
        return False
    if isinstance(theirs.error, AttributeError):
        return case.attribute.startswith("del ") and "object has no attribute" in str(theirs.error)
    flag = re.match(_FLAGS, case.attribute or case.constructor) is not None
    return flag and isinstance(theirs.error, TypeError) and "invalid combination of arguments" in str(theirs.error)


def _dropout_unread(case: Case, ours: Any, theirs: Any) -> bool:
    return _only_theirs(ours, theirs) and "dropout probability" in str(theirs.error)


def _switched(case: Case, ours: Any, theirs: Any) -> bool:
    if case.attribute.startswith("layer.bidirectional ="):
        return _only_theirs(ours, theirs) and "Expected more weights" in str(theirs.error)
    return case.attribute.startswith("layer.bias =") and ours.error is None


def _inference(case: Case, ours: Any, theirs: Any) -> bool:
    return _only_theirs(ours, theirs) and "Inference tensors cannot be saved" in str(theirs.error)


def _faults(case: Case) -> int:
    """How many things are wrong: which of two errors comes first is nobody's promise."""
    odd = [case.x, case.h, case.c, *case.weights.values()]
    wrong = sum(o.shape is not None or o.dtype is not None or o.layout in STRANGERS for o in odd)
    others = (
        (case.mode == "grad" or case.form == "nested") and any(o.layout == "inference" for o in odd),
        not case.hx_is_fine,
        case.packing is not None and bool(case.packing.batch_sizes),
        case.form == "packed" and case.packing is not None and not all(0 < n <= case.T for n in case.packing.lengths),
        case.dtype in COMPLEX and case.dropout > 0 and case.training,  # torch draws no complex masks
        bool(case.attribute),
        bool(case.constructor),
        case.unfit,
        case.T == 0 or (case.N == 0 and "batch_first" in case.attribute),
    )
    return wrong + sum(others)


def _first_fault(case: Case, ours: Any, theirs: Any) -> bool:
    return _both(ours, theirs) and _faults(case) > 1


def _stranger(case: Case, ours: Any, theirs: Any) -> bool:
    odd = [case.x, case.h, case.c]
    strange = any(o.layout in ("sparse", "mkldnn", "quantized", "strided_nested") for o in odd)
    return strange and isinstance(ours.error, (RuntimeError, ValueError, TypeError))


def _ours_first(case: Case, ours: Any, theirs: Any) -> bool:
    return (
        case.form == "lengths"
        and _both(ours, theirs)
        and _ours(ours, "lengths and reset are for", "lengths: ", "reset: ")
    )


def _complex_nested(case: Case, ours: Any, theirs: Any) -> bool:
    return case.form == "nested" and _ours(ours, "_nested_view_from_jagged does not support")


_SIZES = ("input_size ", "hidden_size ", "num_layers ", "proj_size ", "dropout ")


def _attribute_refused(case: Case, ours: Any, theirs: Any) -> bool:
    said = (*_SIZES, "expected a parameter ", "expected Tensor as", "input has inconsistent input_size")
    return bool(case.attribute or case.constructor) and _ours(ours, *said)


def _number_taken(case: Case, ours: Any, theirs: Any) -> bool:
    changed = case.attribute or case.constructor
    size = any(name in changed for name in ("num_layers", "hidden_size", "input_size", "proj_size"))
    return size and _only_theirs(ours, theirs)


def _states_of_another_dtype(case: Case, ours: Any, theirs: Any) -> bool:
    return _ours(ours, "Input and hidden tensors are not the same dtype")


def _states_of_another_kind(case: Case, ours: Any, theirs: Any) -> bool:
    no_tensor = any(odd.layout in ("list", "numpy", "none", "number", "text") for odd in (case.h, case.c))
    odd = not case.hx_is_fine or no_tensor
    said = ("expected hx to be", "lstm expects two", "lstm_cell expects two", "lstm_cell(): argument 'hx'")
    return (odd and _both(ours, theirs)) or _ours(ours, *said)


def _batch_sizes_refused(case: Case, ours: Any, theirs: Any) -> bool:
    return case.form in ("packed", "built") and _ours(ours, "batch_sizes ")


def _batch_sizes_taken(case: Case, ours: Any, theirs: Any) -> bool:
    return case.form == "built" and _only_theirs(ours, theirs) and "expected scalar type Long" in str(theirs.error)


def left_to_torch(case: Case) -> bool:
    """What makes nn.LSTM itself read and write astray: the reference is spared of some of it, enable() is not."""
    if case.way != "enable":
        return False
    packed = case.packing is not None and (bool(case.packing.batch_sizes) or _wrong_states(case))
    set_later = re.search(r"weight|bias|bidirectional|_size|num_layers", case.attribute) is not None
    return packed or set_later or "zero" in _odd(case) or any(w.shape is not None for w in case.weights.values())


def _elsewhere(case: Case, ours: Any, theirs: Any) -> bool:
    return _ours(ours, "Input and parameter tensors are not at the same device") and theirs.error is None


def _nested_outside(case: Case, ours: Any, theirs: Any) -> bool:
    return case.form == "nested" and _ours(ours, "offsets and lengths of a nested tensor")


def _freed(case: Case, ours: Any, theirs: Any) -> bool:
    return "freed" in _odd(case) and _ours(ours, "a tensor has no memory")


def _inference_kept(case: Case, ours: Any, theirs: Any) -> bool:
    return _ours(ours, "Inference tensors cannot be saved") and theirs.error is None


def _odd(case: Case) -> set[str]:
    return {odd.layout for odd in (case.x, case.h, case.c, *case.weights.values())} | {case.cotangents}


def _overflown(case: Case, ours: Any, theirs: Any) -> bool:
    """Only where ours is what float64 gives."""
    if ours.error is not None or theirs.error is not None or case.dtype != "float16" or "huge" not in _odd(case):
        return False
    return not unlike_by_more_than_rounding(
        case, ours, [name for name, mine in ours.entries.items() if mine is not None]
    )


def _not_a_number(case: Case, ours: Any, theirs: Any) -> bool:
    """Only where one of the two has a number and the other has none: all other elements are the same."""
    if ours.error is not None or theirs.error is not None or _odd(case).isdisjoint(("nan", "infinite")):
        return False
    for name, mine in ours.entries.items():
        other = theirs.entries.get(name)
        if mine is None or other is None:  # of what no result that is used has read
            continue
        if mine.shape != other.shape:
            return False
        both = mine.isfinite() & other.isfinite()
        # At what torch.testing holds for close; gradients in 16 bits are sums of what nn.LSTM has rounded many times.
        rtol, atol = (
            (2**-6, 2**-8) if mine.dtype in (torch.float16, torch.bfloat16) else default_tolerances(mine, other)
        )
        if not torch.allclose(mine[both], other[both], rtol=rtol, atol=atol):
            return False
    return True


def _ragged_refused(case: Case, ours: Any, theirs: Any) -> bool:
    """Only where the shape that is named is another than the one that was expected."""
    said = re.match(r"(?:reset|lengths): expected .*?= (\(.*?\)), got (?:shape )?(\(.*\))$", str(ours.error))
    return ours.error is not None and said is not None and said[1] != said[2]


LISTED = (
    Difference(
        "a parameter of another shape or dtype is refused",
        _parameter_refused,
        "torch's kernels read it by the sizes it should have, also beyond its memory",
    ),
    Difference(
        "a deleted parameter is refused",
        _parameter_deleted,
        "nn.LSTM keeps a list of its weights beside the attributes",
    ),
    Difference(
        "states of another shape are refused, by name",
        _states_refused,
        "nn.LSTM takes states of other sizes for packed input, or says which index of which operation failed",
    ),
    Difference(
        "packed data of another dtype or shape is refused, by name",
        _packed_refused,
        "nn.LSTM checks neither, and takes it or has its matrix product complain",
    ),
    Difference(
        "an attribute that the call does not need is not read",
        _attribute_unread,
        "nn.LSTM hands all of them on, and the flags must be of type bool",
    ),
    Difference("a dropout that is not used is not judged", _dropout_unread, "as in training with one layer"),
    Difference(
        "bias or bidirectional changed after construction",
        _switched,
        "nn.LSTM then takes its list of weights for a list of others, or counts too many",
    ),
    Difference(
        "a size set later that no layer can have is refused, by name",
        _attribute_refused,
        "nn.LSTM reads it in some calls, and outside its arrays in others",
    ),
    Difference(
        "a size that is 2.0 or True is 2 or 1, a proj_size below 0 none",
        _number_taken,
        "nn.LSTM hands it on to where it must be an int",
    ),
    Difference(
        "states of another dtype are refused",
        _states_of_another_dtype,
        "nn.LSTM promotes them in some calls and refuses them in others",
    ),
    Difference(
        "hx that is no pair of tensors is refused, mostly by another type",
        _states_of_another_kind,
        "a TypeError; of three states nn.LSTMCell drops the last where the call is unbatched",
    ),
    Difference(
        "batch_sizes that are no lengths are refused", _batch_sizes_refused, "nn.LSTM reads other rows, or none"
    ),
    Difference("batch_sizes may be integers of any kind", _batch_sizes_taken, "nn.LSTM wants int64"),
    Difference(
        "under enable() what the engine does not take is torch's to read",
        lambda case, ours, theirs: left_to_torch(case),
        "zeros without memory, strided batch_sizes, parameters, and states of packed input, of another shape than the layer's"
        " sizes: from outside them, other bits each time",
    ),
    Difference(
        "tensors of several devices are refused", _elsewhere, "nn.LSTM reads no more of packed input than it needs"
    ),
    Difference("rows of a nested tensor outside its values are refused", _nested_outside, "torch does not look"),
    Difference("memory that was freed is refused", _freed, "nn.LSTM reads it, or does not where there is no row"),
    Difference("weights made in inference_mode, with gradients", _inference_kept, "nn.LSTM keeps fewer of its inputs"),
    Difference("resets and lengths of another shape are refused", _ragged_refused, "nn.LSTM has neither"),
    Difference(
        "a state or a gradient that is absent is no factor of NaN or infinity",
        _not_a_number,
        "nn.LSTM multiplies by zeros, which gives NaN; or leaves out what ours multiplies",
    ),
    Difference(
        "float16 has no infinities midway", _overflown, "sums are of float32; nn.LSTM rounds them where they pass 65504"
    ),
    Difference("inference tensors are taken where nothing of them is kept", _inference, "nn.LSTM keeps more"),
    Difference("other layouts are refused", _stranger, "sparse, mkldnn, quantized, nested without torch.jagged"),
    Difference("which of two faults is named", _first_fault, "the order of checks is nobody's promise"),
    Difference("lengths with what is no tensor", _ours_first, "an error of the argument that nn.LSTM has not got"),
    Difference("gradients of complex nested tensors", _complex_nested, "torch has no such nested tensors"),
)


def find(case: Case, ours: Any, theirs: Any) -> str:
    """The name of the listed difference that this is; "": none."""
    for difference in LISTED:
        if difference.applies(case, ours, theirs):
            return difference.name
    return ""
