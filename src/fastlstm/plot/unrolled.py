"""The network unrolled: every tensor where it stands, with its shape."""

from itertools import pairwise
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fastlstm.shapes import Layer, describe, meaning, shape
from fastlstm.torch.gru import GRU
from fastlstm.torch.lstm import LSTM

# Lengths in the drawing are inches. The font comes with matplotlib, and each of its letters is 0.602 of its size wide: so
# a box is as wide as its text without asking a renderer.
FONT, SIZE = "DejaVu Sans Mono", 8.5
LETTER, LINE = 0.602 * SIZE / 72, 1.5 * SIZE / 72
PAD, GAP, MARGIN = 0.1, 0.55, 0.25
RISE = 0.32  # from a box to the next above it
DATA, STATE = "#1f6fb2", "#b5532a"
LANES = ("#e9f1f9", "#fbf0e4")  # forward, reverse


class _Call(NamedTuple):
    """What is drawn: the layer's shapes, and what a step of the sequence is called and has."""

    layer: Layer
    batch_first: bool
    batch_sizes: list[int] | None  # of a packed sequence

    @property
    def states(self) -> int:
        """How many a step hands on: h and c, or h alone."""
        return 2 if "H_cell" in self.layer.sizes else 1

    def step(self, t: int, features: str) -> str:
        """The shape of one step's tensor, t from 1."""
        if self.batch_sizes is not None:
            return str(shape({**self.layer.sizes, f"N_{t}": self.batch_sizes[t - 1]}, f"N_{t}", features))
        return self.state(features)

    def state(self, features: str) -> str:
        """The shape of the state of one layer and direction."""
        return str(shape(self.layer.sizes, *(["N"] if "N" in self.layer.sizes else []), features))

    def place(self, tensor: str, t: int) -> str:
        """Where step t stands in `tensor`, as Python has it; a packed one has no place for it."""
        return f"{tensor}[:, {t - 1}]" if self.batch_first and "N" in self.layer.sizes else f"{tensor}[{t - 1}]"


def shapes(lstm: LSTM | GRU | nn.LSTM | nn.GRU, x: Tensor | PackedSequence) -> Figure:
    """The network unrolled over the steps of x: layers upward, time to the right, every tensor and parameter with its
    shape in letters and in numbers.

    lstm: an LSTM or a GRU, of fastlstm or torch.nn. x: (L, N, H_in), (N, L, H_in) with batch_first, (L, H_in) or packed; its
    numbers are not read. Of more than three steps the first two and the last are drawn. A direction is a lane, its arrows
    lead where it reads; h_0 (and c_0) enter where it begins.

    TypeError: an argument of another type. ValueError: a shape that the layer would not take.
    """
    call = _call(lstm, x)
    sizes = call.layer.sizes
    T, D = sizes["L"], sizes["D"]
    steps = list(range(1, T + 1)) if T <= 3 else [1, 2, T]
    lanes = [_parameters(call, k, d) for k in range(sizes["num_layers"]) for d in range(D)]
    title = f"{lstm.mode}({lstm.extra_repr()})"
    tensors, letters = _caption(call)

    box = _wide([line for t in steps for line in _lines(call, t)]) + 2 * PAD
    side = _wide([line for lane in lanes for line in lane]) + GAP  # the parameters, left of the steps
    ellipsis = GAP if T > 3 else 0.0
    inner = (len(steps) + 1) * (box + GAP) + box + ellipsis
    width = 2 * (MARGIN + PAD) + max(side + inner, _wide([title]), _wide(tensors) + GAP + _wide(letters))
    start, end = MARGIN + PAD + side + box / 2, width - MARGIN - PAD - box / 2
    apart = (end - start - ellipsis) / (len(steps) + 1)
    at = {t: start + apart * (n + 1) + (ellipsis if T > 3 and t == T else 0) for n, t in enumerate(steps)}

    small, large = 2 * LINE + 2 * PAD, 2 * call.states * LINE + 2 * PAD
    lane_height = len(lanes[0]) * LINE + 2 * PAD if len(lanes[0]) > 5 else large + 4 * PAD
    below = MARGIN + LINE * max(len(tensors), len(letters)) + 3 * PAD
    height = below + small + len(lanes) * lane_height + sizes["num_layers"] * (2 * RISE + small + PAD * (D - 1))
    height += MARGIN + 2.5 * LINE

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    _text(axes, width / 2, height - MARGIN, title, ha="center", weight="bold")
    for lines, left in ((tensors, MARGIN + PAD), (letters, width - MARGIN - PAD - _wide(letters))):
        for n, line in enumerate(lines):
            _text(axes, left, below - 3 * PAD - n * LINE, line)

    y = below
    for t in steps:
        name = f"x_{t}" if call.batch_sizes is not None else f"x_{t} = {call.place('input', t)}"
        _box(axes, at[t], y, box, [name, call.step(t, "H_in")])
    dots = [y + small / 2]
    for k in range(sizes["num_layers"]):
        source = y + small  # the top of what the layer reads
        y = source + RISE
        rows = []
        for d in range(D):
            n = k * D + d
            _lane(axes, (MARGIN, y, width - 2 * MARGIN, lane_height), lanes[n], LANES[d])
            rows.append(y + (lane_height - large) / 2)
            _states(axes, call, n, d, rows[d], box, at, (start, end))
            y += lane_height + PAD
        y += RISE - PAD
        last = k == sizes["num_layers"] - 1
        for t in steps:
            name = f"h_{t} of layer {k}"
            if last:
                name = f"output, step {t}" if call.batch_sizes is not None else call.place("output", t)
            _box(axes, at[t], y, box, [name, call.step(t, "D*H_out")])
            _flow(axes, at[t], box, source, rows, large, y, small)
        dots += [*(row + large / 2 for row in rows), y + small / 2]
    if ellipsis:
        for height in dots:
            _text(axes, (at[2] + at[T]) / 2, height, "\N{MIDLINE HORIZONTAL ELLIPSIS}", ha="center", fontsize=16)
    return figure


def _call(lstm: Any, x: Any) -> _Call:
    if not isinstance(lstm, (LSTM, GRU, nn.LSTM, nn.GRU)):
        kinds = "a fastlstm.GRU, a torch.nn.GRU, a fastlstm.LSTM or a torch.nn.LSTM"
        raise TypeError(f"lstm: expected {kinds}, got {type(lstm).__name__}")
    if not isinstance(x, (Tensor, PackedSequence)):
        raise TypeError(f"x: expected a tensor or a PackedSequence, got {type(x).__name__}")
    batch_sizes = x.batch_sizes.tolist() if isinstance(x, PackedSequence) else None
    data: Tensor = x.data if isinstance(x, PackedSequence) else x
    if data.is_nested:
        raise TypeError("x: expected a tensor or a PackedSequence, got a nested tensor: pack or pad it")
    batched = data.dim() == 3 or batch_sizes is not None
    sequence = "(N, L, H_in)" if lstm.batch_first else "(L, N, H_in)"
    if data.dim() not in ((2,) if batch_sizes is not None else (2, 3)) or data.shape[-1] != lstm.input_size:
        raise ValueError(
            f"x: expected {sequence}, or (L, H_in) unbatched, H_in = {lstm.input_size}, got {list(data.shape)}"
        )
    if batch_sizes is not None:
        T, N = len(batch_sizes), batch_sizes[0]
    elif batched:
        N, T = data.shape[:2] if lstm.batch_first else (data.shape[1], data.shape[0])
    else:
        T, N = len(data), 1
    layer = describe(
        lstm.input_size,
        lstm.hidden_size,
        lstm.num_layers,
        batch=N,
        length=T,
        bidirectional=lstm.bidirectional,
        proj_size=lstm.proj_size,
        batch_first=lstm.batch_first,
        unbatched=not batched,
        bias=lstm.bias,
        rows=None if batch_sizes is None else len(data),
        cell=lstm.mode,
    )
    return _Call(layer, lstm.batch_first, batch_sizes)


def _parameters(call: _Call, layer: int, direction: int) -> list[str]:
    """The lane's name, then each of its parameters."""
    suffix = f"_l{layer}" + ("_reverse" if direction else "")
    name = f"layer {layer}" + (f", {('forward', 'reverse')[direction]}" if call.layer.sizes["D"] == 2 else "")
    own = [p for p in call.layer.parameters if p.name.endswith(suffix)]
    return [name, *(line for p in own for line in (p.name, f"  {p.shape}"))]


def _lines(call: _Call, t: int) -> list[str]:
    """The longest lines of the boxes of step t."""
    states = ("H_out", "H_cell")[: call.states]
    return [
        *(call.step(t, features) for features in ("H_in", *states, "D*H_out")),
        *map(call.state, states),
        f"x_{t} = {call.place('input', t)}",
        f"h_{t} of layer {call.layer.sizes['num_layers'] - 1}",
    ]


def _caption(call: _Call) -> tuple[list[str], list[str]]:
    """What the whole tensors are, and what the letters mean: two columns of lines."""
    layer = call.layer
    shapes = [str(tensor.shape) for tensor in layer.tensors]
    wide = max(map(len, shapes))
    tensors = [f"{t.name:<6}  {s:<{wide}}  {t.meaning}" for t, s in zip(layer.tensors, shapes, strict=True)]
    states = "h and c" if call.states == 2 else "h"
    tensors.append(f"arrows: up through the layers (blue), {states} from step to step (brown)")
    wide = max(map(len, layer.sizes))
    letters = [f"{letter:>{wide}} = {size:<5} {meaning(layer, letter)}" for letter, size in layer.sizes.items()]
    if call.batch_sizes is not None:
        letters.append(f"{'N_t':>{wide}}   {'':<5} sequences that have a step t")
    return tensors, letters


def _wide(lines: list[str]) -> float:
    return LETTER * max(map(len, lines))


def _text(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    axes.text(x, y, text, **{"family": FONT, "fontsize": SIZE, "va": "center", "color": "#222222", **style})


def _box(axes: Axes, x: float, y: float, width: float, lines: list[str]) -> None:
    """x: its middle, y: its bottom. Lines are names and shapes in turn."""
    height = len(lines) * LINE + 2 * PAD
    corner, face = (x - width / 2, y), "white"
    shape = "round,pad=0,rounding_size=0.06"
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=shape, facecolor=face, edgecolor="#555555", zorder=3))
    for n, line in enumerate(lines):
        weight = "bold" if n % 2 == 0 else "normal"
        _text(axes, x, y + height - PAD - (n + 0.5) * LINE, line, ha="center", weight=weight, zorder=4)


def _lane(axes: Axes, frame: tuple[float, float, float, float], lines: list[str], color: str) -> None:
    """The band of one layer and direction, with its parameters at its left."""
    x, y, width, height = frame
    shape = "round,pad=0,rounding_size=0.1"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape, facecolor=color, edgecolor="none", zorder=0))
    top = y + (height + (len(lines) - 1) * LINE) / 2
    for n, line in enumerate(lines):
        _text(axes, x + PAD, top - n * LINE, line, weight="bold" if n == 0 else "normal")


def _arrow(axes: Axes, points: list[tuple[float, float]], color: str) -> None:
    """Through the points, its head at the last."""
    xs, ys = zip(*points[:-1], strict=True)
    axes.plot(xs, ys, color=color, linewidth=1.3, zorder=2, solid_capstyle="butt")
    style = {"arrowstyle": "-|>", "color": color, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", points[-1], points[-2], arrowprops=style, zorder=2)


def _states(
    axes: Axes, call: _Call, n: int, d: int, y: float, box: float, at: dict[int, float], ends: tuple[float, float]
) -> None:
    """The boxes of lane n: where its states come from, each step, where they are left; arrows in reading order."""
    middle = y + call.states * LINE + PAD
    states = [("h", "H_out"), ("c", "H_cell")][: call.states]
    start, end = ends if d == 0 else ends[::-1]
    for x, which in ((start, f"0[{n}]"), (end, f"n[{n}]")):
        _box(axes, x, y, box, [line for h, width in states for line in (f"{h}_{which}", call.state(width))])
    for t, x in at.items():
        _box(axes, x, y, box, [line for h, width in states for line in (f"{h}_{t}", call.step(t, width))])
    sign = 1 if d == 0 else -1
    steps = list(at)[::sign]
    for (before, left), (after, right) in pairwise([(steps[0], start), *((t, at[t]) for t in steps), (steps[-1], end)]):
        a, b = left + sign * box / 2, right - sign * box / 2
        if abs(after - before) > 1:  # there are dots for the steps between
            _arrow(axes, [(a, middle), ((a + b) / 2 - sign * 0.15, middle)], STATE)
            a = (a + b) / 2 + sign * 0.15
        _arrow(axes, [(a, middle), (b, middle)], STATE)


def _flow(
    axes: Axes, x: float, box: float, source: float, rows: list[float], large: float, target: float, small: float
) -> None:
    """One step's way up through a layer: into every direction, and out of it. With two, the other's lane is passed
    beside the boxes.
    """
    _arrow(axes, [(x, source), (x, rows[0])], DATA)
    _arrow(axes, [(x, rows[-1] + large), (x, target)], DATA)
    if len(rows) == 2:
        low, high = 0.35 * small, 0.8 * large
        left, right = x - box / 2, x + box / 2
        _arrow(
            axes,
            [(left, source - low), (left - 0.15, source - low), (left - 0.15, rows[1] + 0.2), (left, rows[1] + 0.2)],
            DATA,
        )
        _arrow(
            axes,
            [
                (right, rows[0] + high),
                (right + 0.15, rows[0] + high),
                (right + 0.15, target + low),
                (right, target + low),
            ],
            DATA,
        )
