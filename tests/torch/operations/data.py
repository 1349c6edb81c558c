"""What a layer is given: packed, nested and unbatched tensors, dtypes and devices."""

import io
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from equations import Equations
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.testing._internal.two_tensor import TwoTensor

from operations import Kind, build, draw, near, operation

X = draw(5, 3, 3)


def each_alone(layer: nn.Module, x: Tensor, lengths: list[int]) -> Tensor:
    """The output of every row by itself, padded with zeros."""
    found = torch.zeros(*x.shape[:2], 4)
    for n, length in enumerate(lengths):
        found[:length, n] = Equations(layer)(x[:length, n : n + 1])[0][:, 0]
    return found


@operation("`PackedSequence`, sorted or not")
def _(kind: Kind) -> None:
    layer = build(kind)
    for lengths in ([5, 4, 1], [2, 5, 3]):
        packed = pack_padded_sequence(X, torch.tensor(lengths), enforce_sorted=False)
        result, (h_n, _) = layer(packed)
        assert type(result) is PackedSequence
        output, _ = pad_packed_sequence(result)
        expected = each_alone(layer, X, lengths)
        near(output, expected)
        near(h_n[1], torch.stack([expected[length - 1, n] for n, length in enumerate(lengths)]))


@operation("nested tensors, `torch.jagged`", torchs="jagged")
def _(kind: Kind) -> None:
    layer, lengths = build(kind, batch_first=True), [5, 4, 1]
    rows = [X[:length, n] for n, length in enumerate(lengths)]
    output = layer(torch.nested.nested_tensor(rows, layout=torch.jagged))[0]
    padded = output.to_padded_tensor(0.0, output_size=(3, 5, 4))
    near(padded, each_alone(layer, X, lengths).transpose(0, 1))


@operation("unbatched")
def _(kind: Kind) -> None:
    layer = build(kind)
    near(layer(X[:, 0])[0], Equations(layer)(X[:, :1])[0][:, 0])


@operation("`batch_first`, and tensors of any strides")
def _(kind: Kind) -> None:
    layer = build(kind, batch_first=True)
    x = X.repeat_interleave(2, -1)[..., ::2].transpose(0, 1)
    near(layer(x)[0], Equations(layer)(X)[0].transpose(0, 1))


@operation("N = 0")
def _(kind: Kind) -> None:
    output, (h_n, _) = build(kind)(X[:, :0])
    assert output.shape == (5, 0, 4)
    assert h_n.shape == (2, 0, 4)


def in_dtype(kind: Kind, dtype: torch.dtype) -> None:
    layer, x = build(kind, dtype=dtype), X.to(dtype).requires_grad_()
    output = layer(x)[0]
    (dx,) = torch.autograd.grad(output.float().sum() if not dtype.is_complex else output.abs().sum(), x)
    assert output.dtype is dx.dtype is dtype
    wide = {torch.complex64: torch.complex128}.get(dtype, torch.float64)
    reference = Equations(layer).to(wide)
    torch.testing.assert_close(output.to(wide), reference(x.to(wide))[0], atol=2**-6, rtol=0)


@operation("float64")
def _(kind: Kind) -> None:
    in_dtype(kind, torch.float64)


@operation("bfloat16")
def _(kind: Kind) -> None:
    in_dtype(kind, torch.bfloat16)


@operation("float16")
def _(kind: Kind) -> None:
    in_dtype(kind, torch.float16)


@operation("complex64")
def _(kind: Kind) -> None:
    in_dtype(kind, torch.complex64)


@operation("autocast to bfloat16")
def _(kind: Kind) -> None:
    layer = build(kind)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(X)[0]
    assert output.dtype is torch.bfloat16
    output.float().sum().backward()
    assert all(p.grad.dtype is torch.float32 for p in layer.parameters())
    torch.testing.assert_close(output.float(), Equations(layer)(X)[0], atol=2**-6, rtol=0)


@operation("`torch.no_grad`, `torch.inference_mode`")
def _(kind: Kind) -> None:
    layer = build(kind)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            near(layer(X.clone())[0], Equations(layer)(X)[0])


@operation("device `meta`")
def _(kind: Kind) -> None:
    layer = build(kind, device="meta")
    output = layer(X.to("meta"))[0]
    assert output.is_meta
    assert output.shape == (5, 3, 4)


@operation("from `meta` by `to_empty`")
def _(kind: Kind) -> None:
    source, layer = build(kind), build(kind, device="meta").to_empty(device="cpu")
    layer.load_state_dict(source.state_dict())
    near(layer(X)[0], Equations(source)(X)[0])


@operation("`torch.nn.utils.skip_init`", torchs="'device' arg")
def _(kind: Kind) -> None:
    source, layer = build(kind), nn.utils.skip_init(kind, 3, 4, 2)
    layer.load_state_dict(source.state_dict())
    near(layer(X)[0], Equations(source)(X)[0])


@operation("`.double()`, `.half()`, `.to(torch.bfloat16)`")
def _(kind: Kind) -> None:
    for change, dtype in (("double", torch.float64), ("half", torch.float16), ("bfloat16", torch.bfloat16)):
        layer = getattr(build(kind), change)()
        assert layer(X.to(dtype))[0].dtype is dtype


@operation("a subclass of Tensor that adds methods")
def _(kind: Kind) -> None:
    class Named(Tensor):
        pass

    layer = build(kind)
    near(torch.Tensor(layer(X.as_subclass(Named))[0]), Equations(layer)(X)[0])


@operation("CUDA")
def _(kind: Kind) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    layer = build(kind)
    expected = Equations(layer)(X)[0]
    torch.testing.assert_close(layer.cuda()(X.cuda())[0].cpu(), expected, atol=1e-3, rtol=0)


@operation("a wrapper subclass, `__torch_dispatch__`")
def _(kind: Kind) -> None:
    layer = build(kind)
    output = layer(TwoTensor(X, 2 * X))[0]
    near((output.a, output.b), (Equations(layer)(X)[0], Equations(layer)(2 * X)[0]))


@operation("calls in several threads at once")
def _(kind: Kind) -> None:
    layer = build(kind)
    expected = Equations(layer)(X)[0]
    with ThreadPoolExecutor(4) as pool:
        for output in pool.map(lambda _: layer(X)[0], range(16)):
            near(output, expected)


@operation("results: `numpy`, `share_memory_`, `torch.save`, `from_dlpack`")
def _(kind: Kind) -> None:
    layer, file = build(kind), io.BytesIO()
    output = layer(X)[0].detach()
    torch.save(output, file)
    file.seek(0)
    expected = Equations(layer)(X)[0]
    near([torch.from_numpy(output.numpy()), torch.load(file), torch.from_dlpack(output)], [expected] * 3)
    near(output.share_memory_(), expected)


@operation("results: `resize_` to more elements, of a large one", ours="not resizable")
def _(kind: Kind) -> None:
    with torch.no_grad():
        output = kind(3, 64)(draw(400, 64, 3))[0]
    output.resize_(2 * output.numel())
