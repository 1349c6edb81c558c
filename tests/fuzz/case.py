"""One random call: drawn from (seed, index) alone, and kept as plain values, so that a failing one can be made smaller."""

from dataclasses import dataclass, field, replace
from random import Random

from tests.fuzz import packing
from tests.fuzz.tensors import COMPLEX, INTEGERS, LAYOUTS, STRANGERS, VALUES


@dataclass(frozen=True)
class Odd:
    """A tensor: how it lies in memory, and what is wrong about it. shape: source of the shape in place of the right one."""

    layout: str = "plain"
    dtype: str | None = None  # None: the layer's
    shape: tuple[int, ...] | None = None  # None: the right one
    grad: str = ""  # "", "leaf", or "base": a view of a leaf


@dataclass(frozen=True)
class Case:
    """Every default is the ordinary choice: a smaller case has more of them."""

    seed: int = 0
    layer: str = "LSTM"  # "LSTMCell", "GRU", "GRUCell"
    way: str = "class"  # "class", "enable", "convert"
    form: str = "dense"  # "dense", "packed", "built", "lengths", "nested"
    trace: bool = False
    I: int = 1
    H: int = 1
    P: int = 0
    layers: int = 1
    bias: bool = True
    batch_first: bool = False
    bidirectional: bool = False
    dropout: float = 0.0
    dtype: str = "float32"
    constructor: str = ""  # a wrong argument, as source
    training: bool = True
    mode: str = "no_grad"  # "no_grad", "grad", "inference_mode"
    threads: int = 1
    T: int = 1
    N: int | None = None
    x: Odd = Odd()
    hx: str = ""  # "": none given; "(h, c)", a GRU's "h" and other sources
    h: Odd = Odd()
    c: Odd = Odd()
    lengths: str = ""
    reset: str = ""
    unfit: bool = False  # lengths or reset are wrong
    packing: "packing.Packing | None" = None
    weights: dict[str, Odd] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()
    attribute: str = ""  # a statement on `layer`
    cotangents: str = "randn"
    used: tuple[int, ...] = (0, 1, 2)  # which results gradients come from

    @property
    def is_gru(self) -> bool:
        return self.layer.startswith("GRU")

    @property
    def is_step(self) -> bool:
        return self.layer.endswith("Cell")

    @property
    def results(self) -> tuple[str, ...]:
        """The names of what a call returns."""
        states = ("h_n",) if self.is_gru else ("h_n", "c_n")
        return states if self.is_step else ("output", *states)

    @property
    def hx_is_fine(self) -> bool:
        """As the layer wants it, or none."""
        return self.hx in ("", *(_FINE_GRU_HX if self.is_gru else _FINE_HX))

    @property
    def D(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def out(self) -> int:
        return self.P or self.H

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each, of a layer or of a cell."""
        H, rows, shapes = self.H, (3 if self.is_gru else 4) * self.H, {}
        if self.is_step:
            shapes = {"weight_ih": (rows, self.I), "weight_hh": (rows, H)}
            return shapes | ({"bias_ih": (rows,), "bias_hh": (rows,)} if self.bias else {})
        for k in range(self.layers):
            for suffix in ("", "_reverse")[: self.D]:
                at = f"_l{k}{suffix}"
                shapes[f"weight_ih{at}"] = (rows, self.D * self.out if k else self.I)
                shapes[f"weight_hh{at}"] = (rows, self.out)
                if self.bias:
                    shapes |= {f"bias_ih{at}": (rows,), f"bias_hh{at}": (rows,)}
                if self.P:
                    shapes[f"weight_hr{at}"] = (self.P, H)
        return shapes

    @property
    def x_shape(self) -> tuple[int, ...]:
        if self.is_step:
            return (self.I,) if self.N is None else (self.N, self.I)
        if self.N is None:
            return (self.T, self.I)
        return (self.N, self.T, self.I) if self.batch_first else (self.T, self.N, self.I)

    def state_shape(self, features: int) -> tuple[int, ...]:
        lead = () if self.is_step else (self.D * self.layers,)
        rows = () if self.N is None else (self.N,)
        return (*lead, *rows, features)


_CONSTRUCTOR = (
    "hidden_size={H}.0", "input_size=0", "input_size=-1", "hidden_size=0", "num_layers=0", "num_layers=-1",
    "num_layers=1.0", "proj_size=-1", "proj_size={H}", "proj_size=0.0", "dropout=True", "dropout=2", 'dropout="0.5"',
    'dropout=float("nan")', "dropout=None", "bias=1", "batch_first=1", "bias=None", "bidirectional=1",
    "bidirectional=None", 'bidirectional="yes"', "dtype=torch.int64", "dtype=torch.bool", 'device="meta"', 'device="nowhere"',
    "hidden_size=True", "input_size=True", "num_layers=True", "nonlinearity='relu'", 'hidden_size="4"', "hidden_size=None",
)  # fmt: skip
_ATTRIBUTES = (
    "layer.hidden_size = {H}.0", "layer.hidden_size = {H} + 1", "layer.hidden_size = 0", 'layer.hidden_size = "x"',
    "layer.hidden_size = None", "layer.hidden_size = -1", "layer.hidden_size = 2**62", "layer.hidden_size = 2**70",
    "layer.input_size = {I}.0", "layer.input_size = {I} + 1", "layer.input_size = None", "layer.input_size = -1",
    "layer.input_size = 2**63", "layer.input_size = 0",
    "layer.num_layers = 0", "layer.num_layers = -1", "layer.num_layers = {layers} + 1", "layer.num_layers = 1.0",
    "layer.num_layers = None", "layer.num_layers = 2**40", "layer.num_layers = True",
    "layer.batch_first = 1", "layer.batch_first = 0", 'layer.batch_first = "yes"', "layer.batch_first = None",
    "layer.batch_first = torch.tensor(True)", "layer.batch_first = []",
    "layer.bias = 1", "layer.bias = 0", "layer.bias = None", "layer.bias = not layer.bias",
    "layer.dropout = 2.0", "layer.dropout = -1.0", 'layer.dropout = "0.5"', 'layer.dropout = float("nan")',
    "layer.dropout = None", "layer.dropout = 1", "layer.dropout = True", "layer.dropout = torch.tensor(0.5)",
    "layer.bidirectional = 1", "layer.bidirectional = 0", "layer.bidirectional = None",
    "layer.bidirectional = not layer.bidirectional",
    "layer.proj_size = {H}", "layer.proj_size = 1", "layer.proj_size = -1", "layer.proj_size = 0.0",
    "layer.proj_size = None", 'layer.mode = "GRU"', "layer.mode = None", "layer.training = 1", "layer.training = None",
    'layer.training = "yes"',
    "del layer.hidden_size", "del layer.batch_first", "del layer.dropout", "del layer.bias", "del layer.num_layers",
    "del layer.{w}", "layer.{w} = None", "layer.{w} = torch.nn.Parameter(torch.randn(3))",
    'layer.{w}.data = torch.empty_like(layer.{w}, device="meta")', "layer.{w}.data = layer.{w}.data.double()",
    "layer.{w}.data = layer.{w}.data.half()", "layer.{w}.data = layer.{w}.data[1:]", "layer.{w}.data = layer.{w}.data[None]",
    "layer.{w}.data = torch.randn(())", "layer.{w}.requires_grad_(False)", "layer.requires_grad_(False)",
    "layer.half()", "layer.double()", "layer.bfloat16()", 'layer.to("meta")', "layer.to(torch.complex64)",
    "layer.flatten_parameters()", "layer.{w}.data = layer.{w}.data.t().contiguous().t()",
)  # fmt: skip
_HX = (
    "()", "(h,)", "(h, c, c)", "[h, c]", "(h, None)", "(None, c)", "(None, None)", "h", "torch.stack((h, h))", "((h, c),)",
    '{{"h": h, "c": c}}', "{{0: h, 1: c}}", '"hc"', "3", "iter((h, c))", "(c, h)", "(h, 1.0)", "(h, c.tolist())",
    "(h.numpy(force=True), c)", "Pair(h, c)", "(h, h)", "[h]", "(h, [c])", "False", "(h, c, None)",
)  # fmt: skip
_FINE_HX = ("(h, c)", "(h, c)", "(h, c)", "[h, c]", "Pair(h, c)")
_GRU_HX = (
    "(h, c)",
    "(h,)",
    "[h]",
    "h[None]",
    "h[0]",
    "h.numpy(force=True)",
    "h.tolist()",
    *(hx for hx in _HX if hx != "h"),
)
_FINE_GRU_HX = ("h",)


class _Draw:
    def __init__(self, random: Random) -> None:
        self.random = random

    def often(self, p: float) -> bool:
        return self.random.random() < p

    def size(self, low: int, high: int) -> int:
        """Small ones as often as large ones."""
        return min(high, int(low * ((high + 1) / low) ** self.random.random()))

    def layout(self, wrong: bool) -> str:
        kinds = [("plain", 12), *((kind, 1) for kind in LAYOUTS), *((kind, 0.3) for kind in VALUES)]
        if wrong:
            kinds = [(kind, 1) for kind in STRANGERS] + [("meta", 3)]
        return self.random.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]

    def shape(self, right: tuple[int, ...]) -> tuple[int, ...]:
        """A wrong one."""
        sizes = list(right)
        way = self.random.randrange(8)
        if way == 0:
            return (1, *sizes)
        if way == 1:
            return tuple(sizes[1:])
        if way == 2:
            self.random.shuffle(sizes)
        elif sizes:
            k = self.random.randrange(len(sizes))
            sizes[k] = self.random.choice([0, 1, sizes[k] + 1, max(0, sizes[k] - 1), 2 * sizes[k]])
        return tuple(sizes)

    def odd(self, right: tuple[int, ...], grad: bool, wrong: bool) -> Odd:
        random = self.random
        if not wrong:
            made = Odd(self.layout(False))
        else:
            way = random.randrange(5)
            if way < 2:
                made = Odd(self.layout(False), shape=self.shape(right))
            elif way < 4:
                kinds = ("float64", "float32", "float16", "bfloat16", *COMPLEX, *INTEGERS)
                made = Odd(self.layout(False), dtype=random.choice(kinds))
            else:
                made = Odd(self.layout(True))
        floating = made.dtype is None or made.dtype not in INTEGERS
        differentiable = floating and made.layout not in ("inference", *STRANGERS)
        if grad and differentiable and self.often(0.5):
            made = Odd(made.layout, made.dtype, made.shape, random.choice(["leaf", "leaf", "base"]))
        return made


def draw(seed: int, index: int) -> Case:
    """Case number `index` of this seed."""
    random = Random(f"{seed} {index}")
    draw = _Draw(random)
    wrong = draw.often(0.35)  # something is wrong; elsewhere nothing is
    base = _layer(draw)
    if index % 3 == 2:  # the others' cases are what they were before there was a GRU
        base |= {"layer": "GRUCell" if base.get("layer") else "GRU", "P": 0}
    base["seed"] = random.randrange(10**6)
    case = Case(**base)
    grad = case.mode == "grad" or draw.often(0.2)
    chosen = random.choice(
        ["x", "h", "c", "hx", "constructor", "attribute", "attribute", "weights", "form", "form", "x h"]
    )
    at = chosen.split() if wrong else []
    if case.is_gru:  # whose c stands in a wrong hx alone
        at = ["h" if part == "c" else part for part in at]
    given: dict[str, object] = {}
    x_shape = case.x_shape
    if case.form in ("packed", "built", "nested"):
        given["packing"] = made = packing.draw(random, case.form, case.T, case.N or 0, "form" in at)
        x_shape = (made.rows, case.I)
    given["x"] = draw.odd(x_shape, grad, "x" in at)
    if {"hx", "h", "c"} & set(at) or draw.often(0.6):
        wrong_hx, fine_hx = (_GRU_HX, _FINE_GRU_HX) if case.is_gru else (_HX, _FINE_HX)
        given["hx"] = random.choice(wrong_hx) if "hx" in at else random.choice(fine_hx)
        given["h"] = made_h = draw.odd(case.state_shape(case.out), grad, "h" in at)
        # With states of 1e4 and full gates, nn.GRU's own gradients are right to 1e-10 in float64: 1 - z is a difference near 0.
        if case.is_gru and case.dtype == "float64" and made_h.layout == "huge":
            given["h"] = replace(made_h, layout="plain")
        given["c"] = Odd() if case.is_gru else draw.odd(case.state_shape(case.H), grad, "c" in at)
    if case.form == "lengths":
        given |= packing.draw_segments(random, case.T, case.N, case.batch_first, "form" in at)
    names = list(case.parameters)
    values = {"H": case.H, "I": case.I, "layers": case.layers, "w": random.choice(names)}
    if "constructor" in at:
        given["constructor"] = random.choice(_CONSTRUCTOR).format(**values)
    if "attribute" in at:
        given["attribute"] = random.choice(_ATTRIBUTES).format(**values)
        if case.is_gru:
            given["attribute"] = given["attribute"].replace('mode = "GRU"', 'mode = "LSTM"')
        if case.form in ("lengths", "nested"):  # whose masks the reference does not draw
            given["attribute"] = given["attribute"].replace("torch.tensor(0.5)", "torch.tensor(1.0)")
    if "weights" in at or draw.often(0.25):
        picked = random.sample(names, min(len(names), random.choice([1, 1, 2, 4])))
        given["weights"] = {w: draw.odd(case.parameters[w], False, "weights" in at and w == picked[0]) for w in picked}
    if draw.often(0.1):
        given["frozen"] = tuple(w for w in names if draw.often(0.5))
    if draw.often(0.3):
        given["cotangents"] = random.choice(["sum", "negated", "zero", "strided", "misaligned", "nan"])
        given["used"] = tuple(sorted(random.sample(range(3), random.choice([1, 2, 3]))))
    return Case(**(base | given))  # type: ignore[arg-type]


def _layer(draw: _Draw) -> dict[str, object]:
    random = draw.random
    cell = draw.often(0.15)
    wide = draw.often(0.03)
    H = random.choice([64, 70, 130]) if wide else draw.size(1, 40)
    made: dict[str, object] = {
        "I": random.choice([70, 130]) if wide else draw.size(1, 40),
        "H": H,
        "bias": draw.often(0.8),
        "dtype": random.choices(
            ["float32", "float64", "bfloat16", "float16", "complex64", "complex128"], [70, 12, 7, 5, 2, 1]
        )[0],
        "mode": random.choices(["no_grad", "grad", "inference_mode"], [45, 45, 10])[0],
        "threads": 2 if draw.often(0.03) else 1,
        "training": draw.often(0.6),
        "N": None if draw.often(0.15) else 0 if draw.often(0.04) else draw.size(1, 9),
        "T": draw.size(1, 9) if draw.often(0.98) else 0,
    }
    if cell:
        return made | {"layer": "LSTMCell", "way": random.choice(["class", "class", "enable"])}
    form = random.choices(["dense", "packed", "built", "lengths", "nested"], [50, 12, 12, 20, 6])[0]
    if form in ("packed", "built", "nested") and made["N"] is None:
        made["N"] = draw.size(1, 9)
    ours = form in ("lengths", "nested")
    layers = random.choice([1, 1, 1, 2, 2, 3])
    return made | {
        "form": form,
        "way": random.choice(["class", "class", "convert"] if ours else ["class", "class", "enable", "convert"]),
        "trace": draw.often(0.1),
        "layers": layers,
        "P": random.randrange(1, H) if H > 1 and draw.often(0.2) else 0,
        "batch_first": draw.often(0.4),
        "bidirectional": draw.often(0.35),
        "dropout": random.choice([0.3, 0.9, 1.0]) if layers > 1 and not ours and draw.often(0.25) else 0.0,
    }
