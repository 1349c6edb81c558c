"""A case as Python that one can paste: what makes it, the call, and the backward pass."""

import re
from typing import NamedTuple

from tests.fuzz.case import Case, Odd
from tests.fuzz.packing import Packing
from tests.fuzz.tensors import COMPLEX, FLOATS, STRANGERS, expression

HEADER = "import torch\nimport fastlstm\nfrom torch.nn.utils.rnn import PackedSequence, pack_padded_sequence"
# What a script may name beside torch: printed where it does.
DEFINITIONS = {
    "Odd": "class Odd(torch.Tensor):\n    pass",
    "Pair": 'import collections\nPair = collections.namedtuple("Pair", "h c")',
    "freed": "def freed(t):\n    t.untyped_storage().resize_(0)\n    return t",
}


class Script(NamedTuple):
    """make: variables `layer`, `x`, `h`, `c`; call: makes `result`; backward: from `output`, `h_n` and `c_n`, or ""."""

    make: str
    call: str
    backward: str

    def pasteable(self, case: Case) -> str:
        """As a file that stands alone, on ours."""
        body = "\n".join((self.make, self.call))
        used = [text for word, text in DEFINITIONS.items() if f"{word}(" in body or f"({word})" in body]
        written = [HEADER, *used, f"from fastlstm import {case.layer}", "", body]
        if self.backward:
            written += [*_unpacked(case), self.backward]
        return "\n".join(written)


def _unpacked(case: Case) -> list[str]:
    names, flat = case.results, ", ".join(case.results)
    if case.trace and case.way != "enable":
        unpacked = f"{flat} = result[:{len(names)}]"
    elif case.is_step or case.is_gru:
        unpacked = f"{flat} = result"
    else:
        unpacked = "output, (h_n, c_n) = result"
    data = {
        "packed": ["output = output.data"],
        "built": ["output = output.data"],
        "nested": ["output = output.values()"],
    }
    return [unpacked, *data.get(case.form, [])]


def script(case: Case) -> Script:
    return Script(_make(case), _call(case), _backward(case))


def reference(case: Case) -> Script:
    """The same on nn.LSTM; what that has not got is asked of `expected.by_reference`."""
    # nn.LSTM reads memory that such zeros have not, or refuses them.
    make = _make(case, theirs=True).replace("torch._efficientzerotensor(", "torch.zeros(")
    if case.packing is not None and case.packing.batch_sizes:  # nn.LSTM reads their memory, whatever their strides
        make = make.replace(
            "\nx = Packed", "\nsizes = sizes.contiguous() if isinstance(sizes, torch.Tensor) else sizes\nx = Packed"
        )
    return Script(make, _call(case, theirs=True), _backward(case))


def widened(case: Case) -> Script:
    """The reference for a run in float64, from the same cotangents."""
    made = reference(case)
    return made._replace(backward=made.backward.replace("dtype=t.dtype)", f"dtype=torch.{case.dtype}).to(t.dtype)"))


def _arguments(case: Case) -> str:
    said = f"{case.I}, {case.H}"
    if not case.is_step and case.layers != 1:
        said += f", num_layers={case.layers}"
    if not case.bias:
        said += ", bias=False"
    if not case.is_step:
        for name, value, default in (
            ("batch_first", case.batch_first, False),
            ("bidirectional", case.bidirectional, False),
            ("dropout", case.dropout, 0.0),
            ("proj_size", case.P, 0),
        ):
            if value != default:
                said += f", {name}={value}"
    if case.dtype != "float32":
        said += f", dtype=torch.{case.dtype}"
    if case.constructor:
        name = case.constructor.split("=")[0]
        given = [part for part in said.split(", ") if part.split("=")[0] != name]
        if name == "input_size":
            given[0] = case.constructor
            given[1] = f"hidden_size={case.H}"
        elif name == "hidden_size":
            given[1] = case.constructor
        else:
            given.append(case.constructor)
        said = ", ".join(given)
    return said


def _make(case: Case, theirs: bool = False) -> str:
    lines = [f"torch.manual_seed({case.seed})"]
    if case.threads != 1:
        lines.append(f"torch.set_num_threads({case.threads})")
    name = case.layer if theirs or case.way == "class" else f"torch.nn.{case.layer}"
    lines.append(f"layer = {name}({_arguments(case)})")
    if case.way == "convert" and not theirs:
        lines.append("fastlstm.convert(layer)")
    lines += [f"layer.{w}.data = {_tensor(case, case.weights[w], case.parameters[w])}" for w in case.weights]
    lines += [f"layer.{w}.requires_grad_(False)" for w in case.frozen]
    if not case.training:
        lines.append("layer.eval()")
    lines += _input(case)
    if case.hx:
        lines += _assigned(case, "h", case.h, case.state_shape(case.out))
        if re.search(r"\bc\b", case.hx):
            lines += _assigned(case, "c", case.c, case.state_shape(case.H))
    if case.attribute:
        lines.append(case.attribute)
    return "\n".join(lines)


def _tensor(case: Case, odd: Odd, right: tuple[int, ...]) -> str:
    return expression(odd.layout, right if odd.shape is None else odd.shape, odd.dtype or case.dtype)


def _assigned(case: Case, name: str, odd: Odd, right: tuple[int, ...]) -> list[str]:
    source, dtype = _tensor(case, odd, right), odd.dtype or case.dtype
    if not odd.grad or odd.layout in STRANGERS or dtype not in FLOATS + COMPLEX:
        return [f"{name} = {source}"]
    if odd.grad == "leaf":
        return [f"{name} = ({source}).requires_grad_()"]
    shape = right if odd.shape is None else odd.shape
    base = expression("plain", shape, dtype)
    if odd.layout == "negated":
        return [f"{name}_base = {base}.requires_grad_()", f"{name} = torch._neg_view({name}_base)"]
    if odd.layout == "expanded" and shape and 0 not in shape:
        return [f"{name}_base = {base}[:1].requires_grad_()", f"{name} = {name}_base.expand({shape})"]
    if len(shape) > 1:
        turned = (shape[1], shape[0], *shape[2:])
        return [
            f"{name}_base = {expression('plain', turned, dtype)}.requires_grad_()",
            f"{name} = {name}_base.transpose(0, 1)",
        ]
    return [f"{name}_base = {base}.requires_grad_()", f"{name} = {name}_base * 2"]


def _input(case: Case) -> list[str]:
    packing = case.packing
    if packing is None:
        lines = _assigned(case, "x", case.x, case.x_shape)
    elif case.form == "packed":
        lines = _packed(case, packing)
    elif case.form == "built":
        lines = _assigned(case, "data", case.x, (packing.rows, case.I))
        lines.append(f"sizes = {packing.batch_sizes}")
        lines.append(f"x = PackedSequence(data, sizes, {packing.sorted_indices}, {packing.unsorted_indices})")
    else:
        lines = _assigned(case, "data", case.x, (packing.rows, case.I))
        edges = [sum(packing.lengths[:n]) for n in range(len(packing.lengths) + 1)]
        lines.append(f"x = torch.nested.nested_tensor_from_jagged(data, torch.tensor({edges}))")
    if case.lengths:
        lines.append(f"lengths = {case.lengths}")
    if case.reset:
        lines.append(f"reset = {case.reset}")
    return lines


def _packed(case: Case, packing: Packing) -> list[str]:
    T, N = case.T, len(packing.lengths)
    shape = (N, T, case.I) if case.batch_first else (T, N, case.I)
    lines = _assigned(case, "padded", case.x if case.x.shape is None else Odd(case.x.layout), shape)
    said = f"batch_first={case.batch_first}, enforce_sorted={packing.enforce_sorted}"
    return [*lines, f"x = pack_padded_sequence(padded, torch.tensor({list(packing.lengths)}), {said})"]


def _call(case: Case, theirs: bool = False) -> str:
    given = ["x"]
    if case.hx:
        given.append(case.hx.replace("{{", "{").replace("}}", "}"))
    given += [f"{name}={name}" for name in ("lengths", "reset") if getattr(case, name)]
    name = "layer.trace" if case.trace and not theirs and case.way != "enable" else "layer"
    if theirs and case.form in ("lengths", "nested"):
        name, given = "by_reference", ["layer", *given]
    lines = [f"torch.manual_seed({case.seed + 1})"]
    indent, call = "", f"result = {name}({', '.join(given)})"
    if case.way == "enable" and not theirs:
        lines.append("with fastlstm.enabled():")
        indent += "    "
    if case.mode != "grad":
        lines.append(f"{indent}with torch.{case.mode}():")
        indent += "    "
    return "\n".join([*lines, indent + call])


_COTANGENTS = {
    "randn": "torch.randn(t.shape, dtype=t.dtype)",
    "negated": "torch._neg_view(torch.randn(t.shape, dtype=t.dtype))",
    "zero": "torch._efficientzerotensor(t.shape, dtype=t.dtype)",
    "strided": "torch.randn((*t.shape, 2), dtype=t.dtype)[..., 0]",
    "misaligned": "torch.randn(t.numel() + 1, dtype=t.dtype)[1:].reshape(t.shape)",
    "sum": "torch.ones((), dtype=t.dtype).expand(t.shape)",
    "nan": 'torch.full(t.shape, float("nan"), dtype=t.dtype)',
}


def _backward(case: Case) -> str:
    if case.mode != "grad":
        return ""
    names = case.results
    used = [names[k] for k in case.used if k < len(names)] or ["h_n"]
    results = ", ".join(used)
    return "\n".join(
        [
            f"torch.manual_seed({case.seed + 2})",
            f"pairs = [(t, {_COTANGENTS[case.cotangents]}) for t in ({results},)]",
            "pairs = [(t, dt) for t, dt in pairs if t.requires_grad]",
            "torch.autograd.backward([t for t, _ in pairs], [dt for _, dt in pairs])",
        ]
    )
