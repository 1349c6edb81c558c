"""Opacus' gradients of each sample, of `fastlstm.opacus.DPLSTM` and `DPGRU`, beside a backward pass for each sample of the
plain layer.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from fastlstm import GRU, LSTM
from tests.conftest import assert_close, states_of

pytest.importorskip("opacus")

from opacus import GradSampleModule
from opacus.layers import DPGRU as OpacusGRU
from opacus.layers import DPLSTM as OpacusLSTM

from fastlstm.opacus import DPGRU, DPLSTM

# torch says it of every first layer that has such a hook, which is how Opacus works.
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
T, N, I, H = 6, 4, 3, 5
PLAIN: dict[Any, Any] = {DPLSTM: LSTM, DPGRU: GRU}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"bias": False, "batch_first": True},
    {"proj_size": 2, "num_layers": 2},
    {"proj_size": 2, "bidirectional": True, "batch_first": True},
]
LAYERS = [(kind, o) for kind in PLAIN for o in OPTIONS if kind is DPLSTM or "proj_size" not in o]
each_kind = pytest.mark.parametrize("kind", PLAIN)
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def pair(kind: Any, dtype: torch.dtype = torch.float64, **options: Any) -> tuple[nn.Module, nn.Module]:
    """The layer that Opacus can train, and the plain one with its weights."""
    private = kind(I, H, dtype=dtype, **options)
    plain = PLAIN[kind](I, H, dtype=dtype, **options)
    plain.load_state_dict(private.state_dict())
    return private, plain


def lead(layer: Any) -> tuple[int, int]:
    return (N, T) if layer.batch_first else (T, N)


def sequences(layer: Any) -> Tensor:
    return torch.randn(*lead(layer), I, dtype=layer.weight_ih_l0.dtype)


def states(layer: Any, *leading: int) -> Any:
    """hx, or with leading dimensions reset_to."""
    chains = layer.num_layers * (2 if layer.bidirectional else 1)
    shape = (*leading, chains) if leading else (chains, N)
    h, c = (torch.randn(*shape, size, dtype=layer.weight_ih_l0.dtype) for size in (layer.proj_size or H, H))
    return h if layer.mode == "GRU" else (h, c)


def dense(layer: Any) -> Arguments:
    return (sequences(layer), states(layer)), {}


def of_lengths(layer: Any) -> Arguments:
    return (sequences(layer), states(layer)), {"lengths": torch.tensor([3, 6, 0, 2])}


def of_mask(layer: Any) -> Arguments:
    own = torch.arange(T) < torch.tensor([3, 6, 1, 2])[:, None]
    return (sequences(layer),), {"mask": own if layer.batch_first else own.t()}


def of_resets(layer: Any) -> Arguments:
    return (sequences(layer), states(layer)), {"reset": torch.rand(lead(layer)) < 0.3}


def of_both(layer: Any) -> Arguments:
    return (sequences(layer), states(layer)), {"reset": torch.rand(lead(layer)) < 0.3, "lengths": [5, 6, 1, 2]}


def from_states(layer: Any) -> Arguments:
    more = {"reset_to": states(layer, *lead(layer))}
    return (sequences(layer), states(layer)), {"reset": torch.rand(lead(layer)) < 0.5, "lengths": [5, 6, 1, 2], **more}


def packed(layer: Any) -> Arguments:
    return (pack_padded_sequence(sequences(layer), torch.tensor([6, 4, 4, 1]), layer.batch_first), states(layer)), {}


def packed_unsorted(layer: Any) -> Arguments:
    own = torch.tensor([3, 6, 1, 2])
    return (pack_padded_sequence(sequences(layer), own, layer.batch_first, False), states(layer)), {}


def nested(layer: Any) -> Arguments:
    values = torch.randn(9, I, dtype=layer.weight_ih_l0.dtype)
    return (torch.nested.nested_tensor_from_jagged(values, torch.tensor([0, 2, 2, 6, 9])), states(layer)), {}


FORMS: list[Callable[[Any], Arguments]] = [
    dense,
    of_lengths,
    of_mask,
    of_resets,
    of_both,
    from_states,
    packed,
    packed_unsorted,
    nested,
]


def losses(layer: Any, results: Any, of: str = "output h_n c_n") -> list[Tensor]:
    """One of each sample, of the named ones of the results."""
    output, last = results
    if isinstance(output, PackedSequence):
        output = pad_packed_sequence(output, layer.batch_first)[0]
    outputs = output.unbind(0 if output.is_nested or layer.batch_first else 1)
    h_n, *c_n = states_of(last)
    named = {"output": outputs, "h_n": h_n.unbind(1), "c_n": c_n[0].unbind(1) if c_n else h_n.unbind(1)}
    all_of = zip(*(named[name] for name in of.split()), strict=True)
    return [torch.stack([((k + 1) * t + 1).pow(2).sum() for k, t in enumerate(own)]).sum() for own in all_of]


def expected(plain: nn.Module, each: list[Tensor]) -> dict[str, Tensor]:
    """By a backward pass a sample."""
    named = {name: p for name, p in plain.named_parameters() if p.requires_grad}
    found = [
        torch.autograd.grad(loss, list(named.values()), retain_graph=True, materialize_grads=True) for loss in each
    ]
    return {f"d{name}": torch.stack(of) for name, of in zip(named, zip(*found, strict=True), strict=True)}


def found_by_opacus(layer: nn.Module) -> dict[str, Tensor]:
    return {f"d{name}": p.grad_sample for name, p in layer.named_parameters() if p.requires_grad}


def leaves(given: Any) -> Any:
    """The same, and every tensor in it wants its gradient."""
    if isinstance(given, PackedSequence):
        return given._replace(data=leaves(given.data))
    return tuple(map(leaves, given)) if isinstance(given, tuple) else given.clone().requires_grad_()


def of_given(given: Any) -> dict[str, Tensor]:
    x, hx = given
    tensors = (x.data if isinstance(x, PackedSequence) else x, *states_of(hx))
    return {name: t.grad for name, t in zip(("dx", "dh_0", "dc_0"), tensors, strict=False)}


def of_parameters(layer: nn.Module) -> dict[str, Tensor | None]:
    return {f"d{name}": p.grad for name, p in layer.named_parameters()}


def hold(kind: Any, form: Any, of: str = "output h_n c_n", watched: bool = False, **options: Any) -> None:
    """Gradients of each sample; those of the sum, and of what the layer was given (watched), are the plain layer's."""
    private, plain = pair(kind, **options)
    given, named = form(plain)
    mine, theirs = (leaves(given) if watched else given for _ in range(2))
    GradSampleModule(private, loss_reduction="sum")
    torch.manual_seed(1)
    results = private(*mine, **named)
    torch.manual_seed(1)
    each = losses(plain, plain(*theirs, **named), of)
    torch.testing.assert_close(losses(plain, results, of), each)
    torch.stack(losses(plain, results, of)).sum().backward()
    assert_close(found_by_opacus(private), expected(plain, each))
    plain.zero_grad()
    torch.stack(each).sum().backward()
    assert_close(of_parameters(private), of_parameters(plain))
    if watched:
        assert_close(of_given(mine), of_given(theirs))


@pytest.mark.parametrize(
    ("kind", "options", "form"),
    [
        (kind, options, form)
        for kind, options in LAYERS
        for form in FORMS
        if form is not from_states or not options.get("bidirectional")  # which has no reset_to
    ],
    ids=lambda v: getattr(v, "__name__", str(v)),
)
def test_gradients_of_each_sample(kind, options, form):
    hold(kind, form, **options)


@each_kind
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("of", ["output", "h_n", "c_n", "output h_n c_n"])
@pytest.mark.parametrize("form", [dense, of_lengths, packed_unsorted], ids=lambda form: form.__name__)
def test_through_each_result(kind, of, form, watched):
    hold(kind, form, of, watched, num_layers=2, bidirectional=True)
    hold(kind, form, of, watched)


def test_the_cell_states_of_a_projected_layer_alone():
    hold(DPLSTM, dense, "c_n", proj_size=2)


@each_kind
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_dropout_has_the_masks_of_the_call(kind, form):
    hold(kind, form, num_layers=3, dropout=0.5)


@each_kind
def test_float32_and_16_bits(kind):
    hold(kind, of_lengths, dtype=torch.float32, num_layers=2, bidirectional=True)
    for dtype in (torch.bfloat16, torch.float16):
        private, plain = pair(kind, dtype, num_layers=2)
        GradSampleModule(private, loss_reduction="sum")
        x = sequences(plain)
        private(x)[0].float().pow(2).sum().backward()
        wide = plain.double()
        found = {name: t.double() for name, t in found_by_opacus(private).items()}
        each = [t.pow(2).sum() for t in wide(x.double())[0].unbind(1)]
        assert_close(found, expected(wide, each), dtype)


@each_kind
def test_unbatched_is_one_sample(kind):
    private, plain = pair(kind, num_layers=2)
    GradSampleModule(private)
    x = torch.randn(T, I, dtype=torch.float64)
    private(x)[0].pow(2).sum().backward()
    assert_close(found_by_opacus(private), expected(plain, [plain(x)[0].pow(2).sum()]))


@each_kind
@pytest.mark.parametrize("form", [dense, of_lengths, packed], ids=lambda form: form.__name__)
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("opacus_first", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_wherever_the_batch_is_and_however_losses_are_reduced(kind, form, first, opacus_first, reduction):
    private, plain = pair(kind, batch_first=first)
    given, named = form(plain)
    GradSampleModule(private, batch_first=opacus_first, loss_reduction=reduction)
    getattr(torch.stack(losses(plain, private(*given, **named))), reduction)().backward()
    assert_close(found_by_opacus(private), expected(plain, losses(plain, plain(*given, **named))))


@pytest.mark.parametrize(("kind", "other"), [(DPLSTM, OpacusLSTM), (DPGRU, OpacusGRU)])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(("form", "of"), [(dense, "output h_n c_n"), (packed, "output")])
def test_beside_opacus_own_layers(kind, other, first, form, of):
    """Of a packed batch theirs puts h_n and c_n into float32."""
    private, _ = pair(kind, num_layers=2, bidirectional=True, batch_first=first)
    (x, hx), _ = form(private)
    theirs = other(I, H, 2, bidirectional=True, batch_first=first).double()
    theirs.load_state_dict(private.state_dict())
    for layer in (private, theirs):
        GradSampleModule(layer, batch_first=first)
        torch.stack(losses(private, layer(x, hx), of)).mean().backward()
    of_theirs = found_by_opacus(theirs)
    found = found_by_opacus(private)
    assert_close(found, {name: of_theirs[name] for name in found})


class Twice(nn.Module):
    """An encoder and a decoder that are one layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, first: Tensor, second: Tensor) -> Any:
        _, last = self.layer(first)
        output, last = self.layer(second, last)
        again, _ = self.layer(first, last)
        return torch.cat([output, again]), last


@each_kind
def test_a_layer_that_is_called_several_times(kind):
    private, plain = pair(kind, num_layers=2)
    first, second = sequences(plain), sequences(plain)[:2]
    GradSampleModule(Twice(private))
    torch.stack(losses(plain, Twice(private)(first, second))).mean().backward()
    assert_close(found_by_opacus(private), expected(plain, losses(plain, Twice(plain)(first, second))))


@each_kind
def test_gradients_add_up_over_batches(kind):
    private, plain = pair(kind)
    GradSampleModule(private)
    batches = [sequences(plain) for _ in range(2)]
    for x in batches:
        torch.stack(losses(plain, private(x))).mean().backward()
    for k, x in enumerate(batches):
        of_batch = {name: of_batches[k] for name, of_batches in found_by_opacus(private).items()}
        assert_close(of_batch, expected(plain, losses(plain, plain(x))))


@each_kind
def test_frozen_and_tied_weights(kind):
    private, plain = pair(kind, num_layers=2)
    for layer in (private, plain):
        layer.weight_hh_l0.requires_grad_(False)
        layer.bias_ih_l1.requires_grad_(False)
        layer.bias_hh_l0 = layer.bias_ih_l0
    GradSampleModule(private)
    x = sequences(plain)
    torch.stack(losses(plain, private(x))).mean().backward()
    assert_close(found_by_opacus(private), expected(plain, losses(plain, plain(x))))
    assert not hasattr(private.weight_hh_l0, "grad_sample")


@each_kind
@pytest.mark.parametrize("form", ["dense", "lengths", "packed"])
def test_samples_without_a_step_and_no_samples(kind, form):
    private, plain = pair(kind, num_layers=2, bidirectional=True)
    GradSampleModule(private)
    x = torch.randn(T, 0, I, dtype=torch.float64)
    named = {"lengths": torch.zeros(0, dtype=torch.int64)} if form == "lengths" else {}
    given = PackedSequence(x[0], torch.tensor([0])) if form == "packed" else x
    output, last = private(given, **named)
    sum(t.sum() for t in (getattr(output, "data", output), *states_of(last))).backward()
    assert all(t.shape[0] == 0 for t in found_by_opacus(private).values())
    if form == "lengths":
        for p in private.parameters():
            p.grad_sample = None
        x, hx = sequences(plain), states(plain)
        torch.stack(losses(plain, private(x, hx, lengths=[0] * N))).mean().backward()
        assert_close(found_by_opacus(private), {f"d{n}": p.new_zeros(N, *p.shape) for n, p in plain.named_parameters()})
