"""Odd tensors, as Python expressions: every way to hold the same numbers that a caller may come up with."""

import math
from collections.abc import Sequence

FLOATS = ("float32", "float64", "float16", "bfloat16")
COMPLEX = ("complex64", "complex128")
INTEGERS = ("int64", "int32", "int16", "int8", "uint8", "bool")

BYTES = {"float64": 8, "complex64": 8, "complex128": 16, "int64": 8, "float16": 2, "bfloat16": 2, "int16": 2}
BYTES |= {"int8": 1, "uint8": 1, "bool": 1}

LAYOUTS = (
    "strided",
    "sliced",
    "transposed",
    "reversed",
    "expanded",
    "expanded_last",
    "overlapping",
    "stretched",
    "negated",
    "imaginary",
    "imaginary_rows",
    "misaligned",
    "zero",
    "subclass",
    "parameter",
    "inference",
)
"""Other layouts and kinds of an ordinary tensor: nn.LSTM takes them all."""

VALUES = ("nan", "infinite", "huge", "tiny", "zeros")
STRANGERS = (
    "meta",
    "sparse",
    "mkldnn",
    "quantized",
    "numpy",
    "list",
    "none",
    "number",
    "text",
    "strided_nested",
    "freed",
)
"""What is no dense tensor with memory of its own on the CPU."""


def fill(shape: Sequence[int], dtype: str) -> str:
    """Numbers drawn from torch's generator."""
    if dtype in FLOATS or dtype in COMPLEX:
        of = "" if dtype == "float32" else f", dtype=torch.{dtype}"
        return f"torch.randn({tuple(shape)}{of})"
    low, high = (0, 2) if dtype in ("bool", "uint8") else (-2, 3)
    return f"torch.randint({low}, {high}, {tuple(shape)}, dtype=torch.{dtype})"


def expression(kind: str, shape: Sequence[int], dtype: str) -> str:
    """A tensor of this shape and dtype, laid out in memory as `kind` says; or, of a stranger, what is no such tensor."""
    shape = tuple(shape)
    real = dtype in FLOATS
    if kind in ("negated", "imaginary", "imaginary_rows") and dtype not in ("float32", "float64", "float16"):
        kind = "negated" if dtype == "bfloat16" else "conjugated" if dtype in COMPLEX else "plain"
    if kind in VALUES and not real:
        kind = "plain"
    if not shape or 0 in shape:
        kind = (
            kind if kind in ("meta", "zero", "parameter", "inference", "subclass", "negated", *STRANGERS) else "plain"
        )
    plain = fill(shape, dtype)
    made = _layout(kind, shape, dtype) or _special(kind, shape, dtype, plain) or _stranger(kind, shape, dtype, plain)
    return made or plain


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))


def _layout(kind: str, shape: tuple[int, ...], dtype: str) -> str | None:
    if not shape:
        return None
    *lead, last = shape
    first, *rest = shape
    letters = tuple(range(len(shape)))
    match kind:
        case "strided":
            return f"{fill((*lead, 2 * last), dtype)}[..., ::2]"
        case "sliced":
            return f"{fill((first + 2, *rest), dtype)}[1:-1]"
        case "transposed" if len(shape) > 1:
            return f"{fill((shape[1], shape[0], *shape[2:]), dtype)}.transpose(0, 1)"
        case "reversed":
            return f"{fill(shape[::-1], dtype)}.permute({letters[::-1]})"
        case "expanded":
            return f"{fill((1, *rest), dtype)}.expand({shape})"
        case "expanded_last":
            return f"{fill((*lead, 1), dtype)}.expand({shape})"
        case "overlapping":
            return f"{fill((sum(shape),), dtype)}.as_strided({shape}, {(1,) * len(shape)})"
        case "stretched":  # strides of dimensions of one element mean nothing
            strides = tuple(7 if size == 1 else stride for size, stride in zip(shape, _strides(shape), strict=True))
            return f"{fill(shape, dtype)}.as_strided({shape}, {strides})"
        case "negated":
            return f"torch._neg_view({fill(shape, dtype)})"
        case "imaginary" | "imaginary_rows":
            wide = {"float32": "complex64", "float64": "complex128", "float16": "complex32"}[dtype]
            drawn = fill(shape, "complex64")
            cast = "" if wide == "complex64" else f".to(torch.{wide})"
            view = f"{drawn}{cast}.conj().imag"
            return view if kind == "imaginary" else f"{view}.as_strided({shape}, {_strides(shape)})"
        case "conjugated":
            return f"{fill(shape, dtype)}.conj()"
        case "misaligned" if dtype != "complex128":  # torch itself reads those with aligned instructions
            n = math.prod(shape)
            raw = f"bytes(1) + bytes({fill((n,), dtype)}.view(torch.uint8).tolist())"
            return f"torch.frombuffer(bytearray({raw}), dtype=torch.{dtype}, offset=1, count={n}).reshape({shape})"
    return None


def _special(kind: str, shape: tuple[int, ...], dtype: str, plain: str) -> str | None:
    match kind:
        case "zero":
            return f"torch._efficientzerotensor({shape}, dtype=torch.{dtype})"
        case "subclass":
            return f"{plain}.as_subclass(Odd)"
        case "parameter":
            return f"torch.nn.Parameter({plain}, requires_grad=False)"
        case "inference":
            return f"torch.inference_mode()(lambda: {plain})()"
        case "nan" | "infinite" | "huge":
            value = {"nan": "nan", "infinite": "inf", "huge": "1e4"}[kind]
            return f'{plain}.masked_fill(torch.rand({shape}) < 0.1, float("{value}"))'
        case "tiny":
            return f"{plain} * 1e-40"
        case "zeros":
            return f"{plain} * 0"
    return None


def _stranger(kind: str, shape: tuple[int, ...], dtype: str, plain: str) -> str | None:
    match kind:
        case "meta":
            return f'torch.empty({shape}, dtype=torch.{dtype}, device="meta")'
        case "sparse":
            return f"{plain}.to_sparse()"
        case "mkldnn":
            return f"{fill(shape, 'float32')}.to_mkldnn()"
        case "quantized":
            return f"torch.quantize_per_tensor({fill(shape, 'float32')}, 0.1, 0, torch.qint8)"
        case "numpy":
            return f"{fill(shape, 'float32')}.numpy()"
        case "list":
            return f"{fill(shape, 'float32')}.tolist()"
        case "none":
            return "None"
        case "number":
            return "3.0"
        case "text":
            return '"x"'
        case "strided_nested":
            return f"torch.nested.nested_tensor([{plain}, {plain}])"
        case "freed":
            return f"freed({plain})"
    return None
