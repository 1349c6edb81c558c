"""The native engine. Arrays go in and come out as they are: torch's tensors, or what has the buffer protocol, such as NumPy's.

An array is taken as it lies in memory where it is plain, of the CPU, dense and aligned as its elements are; what a call takes are
arrays of one dtype, float32, float64, bfloat16 or float16 (the last two added up in float32 and rounded), whose sizes belong
together. Where one is not so, None comes back, and nothing was done. New arrays are of the kind of the input. The letters:
T (time), N (batch), I (input), H (hidden), P (projected), D (directions).
"""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

_Rows = tuple[int, list[int], list[int], list[int], list[int], list[int]]

class Layer:
    """A layer's sizes, and the names of its weights in the order of `parameters()`.

    is_cell: LSTMCell's, whose input is (N, I) or (I) and whose states are (N, H) or (H).
    checkpoint_every: 0, or of how many steps, rounded up to whole blocks, `forward` keeps the last state alone, and `backward`
    computes the others again.
    """

    def __init__(
        self,
        I: int,
        H: int,
        P: int = 0,
        layers: int = 1,
        D: int = 1,
        bias: bool = True,
        is_cell: bool = False,
        names: tuple[str, ...] = (),
        cell: str = "LSTM",
        checkpoint_every: int = 0,
    ) -> None: ...
    def saved_reals(self, dtype: str) -> int:
        """How many reals (float32 or float64) a row leaves for `backward`; what a call leaves is linear in its rows. ValueError:
        no such dtype.
        """

    def decisions(self, T: int, N: int, dtype: str, training: bool, threads: int) -> list[tuple[str, str]]:
        """What the engine decides for a dense call, and how, in words. ValueError, RuntimeError: it takes no such call."""

    def multiplies_bfloat16(self) -> bool:
        """Whether a bfloat16 call of several steps multiplies such numbers as they are, and not in float32."""

class Kept:
    """What `forward` left for `backward`."""

    def rows(self) -> list[int] | _Rows | None:
        """As `rows` says, of the call's own batch."""

    @property
    def T(self) -> int:
        """How many steps its longest row has; of a ragged batch, its longest segment."""

    @property
    def reals(self) -> int:
        """How many reals it holds."""

def forward(
    layer: Layer,
    weights: Mapping[str, Any] | Sequence[Any] | PackedWeights,  # by the layer's names, or in their order
    input: Any,  # (T, N, I), (N, T, I) with batch_first, (T, I); (rows, I) with batch_sizes or offsets; of a cell (N, I), (I)
    hx: Any,  # (h_0, c_0), or None: zeros
    threads: int,
    batch_first: Any = False,
    lengths: Any = None,  # int64 (N), one number where the input is (T, I): how many steps a row has
    reset: Any = None,  # bool, of the sizes of input but its features: the row starts anew at that step
    batch_sizes: Any = None,  # int64 (T): a packed batch
    offsets: Any = None,  # int64 (N + 1): where the rows of a jagged batch start; `lengths`, or up to the next one
    masks: Sequence[
        Any
    ] = (),  # none, or factors on the output of each layer but the last: (T, N, ..), of others in input's order
    keep: Any = False,  # True, or an array of reals: leave for `backward` what it needs, there
    out: Sequence[Any] | None = None,  # output, h_n, c_n to write to
) -> Any:
    """output, (h_n, c_n) and, where it is to keep, what was kept: checked, allocated and run in one crossing. A row without
    a step ends in its initial state; output is 0 where a row has no step. The output of a cell is its h_n. RuntimeError: sizes
    beyond counting.
    """

def backward(
    kept: Kept,
    inputs: Sequence[Any],  # x, h_0, c_0 (None: zeros), then the weights in their order, as forward had them
    masks: Sequence[Any],
    gradients: Sequence[Any],  # of output, h_n, c_n; then, all or none, of what `trace` returns; None: zeros
    wanted: Sequence[bool],  # of `inputs`
    threads: int,
    out: Sequence[Any] | None = None,  # to write to
) -> list[Any] | None:
    """The gradients of `inputs`, None where not wanted."""

def trace(
    layer: Layer,
    weights: Mapping[str, Any] | Sequence[Any] | PackedWeights,
    input: Any,
    hx: Any,
    threads: int,
    batch_first: Any = False,
    lengths: Any = None,
    reset: Any = None,
    batch_sizes: Any = None,
    offsets: Any = None,
    masks: Sequence[Any] = (),
) -> tuple[Any, tuple[Any, Any], Kept, list[Any]] | None:
    """`forward`, which keeps, and all that it computed on its way: for each layer and direction c, i, f, g, o, like output but
    (.., H), then the outputs of the layers but the last; 0 where a row has no step.
    """

def kept(
    layer: Layer, input: Any, saved: Any, batch_first: Any, lengths: Any, reset: Any, batch_sizes: Any, offsets: Any
) -> Kept | None:
    """What a forward left in the array `saved`, for a backward that comes without it."""

def rows(
    layer: Layer, x_shape: Sequence[int], batch_first: Any, lengths: Any, reset: Any, offsets: Any
) -> list[int] | _Rows | None:
    """None: the batch is dense; a list: batch_sizes of a packed one. Of a ragged one N and the packed batch of its segments:
    batch_sizes, and for each of its rows where it stands in x, in h_0 and in h_n (-1: nowhere), and in a mask.
    """

class PackedWeights:
    """A layer's weights in the order in which steps read them: copies, which calls and streams share. A call of a single step
    reads the weights themselves, which must not change. dtype: float32 or float64.

    TypeError: they are not dense arrays of it, of the layer's sizes.
    """

    def __init__(self, layer: Layer, weights: Mapping[str, Any] | Sequence[Any], dtype: str) -> None: ...

class Stream:
    """A layer step by step, `batch` sequences side by side, from zero states; of one thread at a time.

    ValueError: a layer of two directions.
    """

    def __init__(self, weights: PackedWeights, batch: int) -> None: ...
    def step(self, x: Any, out: Any = None) -> Any:
        """x (N, I), or (I) of one sequence -> (N, P or H) or (P or H), in `out`, or a new array of x's kind. None, and nothing
        done: an array is not dense, or of another dtype or size.
        """

    def block(self, x: Any, out: Any = None) -> Any:
        """x (T, N, I), or (T, I) of one sequence, likewise."""

    def reset(self, row: int = -1) -> None:
        """One sequence, or all, from zero states again. IndexError: there is no such row."""

    def get_state(self, into: tuple[Any, ...]) -> bool:
        """h and an LSTM's c, (layers, N, ..), written to arrays. False, and nothing done: they are not such."""

    def set_state(self, states: tuple[Any, ...]) -> bool:
        """Likewise, read."""

    def copy(self) -> Stream:
        """Another one, in the same state."""

class Chain:
    """One layer in one direction, whose sums are given, and the linear passes that its derivatives are made of: see
    `native/include/fastlstm/chain.h`. Arrays of float32 or float64, dense, (rows, features), a row a step of a sequence: T of N,
    or as batch_sizes say. H: hidden; S: sums of a unit, 4; G: gates of the weights. States of an LSTM are h and c, of a GRU h: it
    has no c, and where c would be among the results there is none. slopes: (rows, (S + 2 or, of a GRU, 1) * H), or a tuple
    (gates (rows, S * H), c or h (rows, H), c_0 or h_0 (N, H)) of steps that `forward` computed.

    None comes back, and nothing was done, where an array is another. ValueError, RuntimeError: no such sizes.
    """

    def __init__(
        self, cell: str, T: int, N: int, H: int, batch_sizes: list[int] | None, reverse: bool, threads: int
    ) -> None: ...
    def forward(self, w_hh: Any, a: Any, h_0: Any, c_0: Any) -> list[Any] | None:
        """a (rows, S * H) -> h, c (rows, H), gates (rows, S * H)."""

    def of_input(self, weights: Any, x: Any, h_0: Any, c_0: Any) -> list[Any] | None:
        """The same from x (rows, I). weights: w_ih, w_hh, b_ih, b_hh, the last two or None."""

    def tangent(self, slopes: Any, w_hh: Any, a: Any, h_0: Any, c_0: Any, e_h: Any, e_c: Any) -> list[Any] | None:
        """Tangents of h, c (rows, H) and the sums, or, with slopes of steps, the gates."""

    def adjoint(self, slopes: Any, w_hh: Any, dh: Any, dc: Any, ds: Any) -> list[Any] | None:
        """Gradients of a (rows, S * H), h_0, c_0 (N, H); then what reaches h and c (rows, H) in all. ds: of the sums, or, with
        slopes of steps, of the gates; dh, dc, ds: or None.
        """

    def second(
        self, steps: Any, w_hh: Any, all_dh: Any, all_dc: Any, da: Any, dh_0: Any, dc_0: Any
    ) -> list[Any] | None:
        """From gradients of an adjoint's da, dh_0 and dc_0: those of dh, dc (rows, H), and of the tuple `steps`."""

    def dual(
        self,
        weights: Sequence[Any],  # w_ih, w_hh, b_ih, b_hh, the last two or None
        weights_t: Sequence[Any] | None,
        x: Any,  # (rows, I)
        x_t: Any,
        h_0: Any,
        h_0_t: Any,
        c_0: Any,
        c_0_t: Any,
    ) -> list[Any] | None:
        """h (rows, H), c_n (N, H), then their tangents. What ends in _t is a tangent, or None."""

def isa() -> str:
    """The instruction set in use ('generic', 'avx2', 'avx512', 'avx512_bf16', 'amx', 'neon')."""

def isas() -> list[str]:
    """Every instruction set this build has and this processor can run, slowest first."""

def let_teams_run() -> int:
    """For tests: the next call takes the threads it asks for, however long ago the last team was, and however slow. Returns how
    many teams of several threads there have been.
    """

def use_isa(name: str) -> None:
    """Force one, as FASTLSTM_ISA does; ValueError where the host or the build lacks it."""

def use_openmp(gomp_parallel: int, omp_get_thread_num: int, omp_get_num_threads: int) -> None:
    """Run parallel work on the caller's OpenMP runtime (torch's own libgomp), given three function addresses."""

def empty(sizes: list[int], dtype: str) -> Any:
    """A new tensor, without numbers: a large one in the engine's memory, which the system need not give anew. ValueError: torch
    is not known (`use_torch`), or no such dtype.
    """

def use_torch(torch: ModuleType) -> bool:
    """Take and make tensors of this torch; False, and it takes a Python call for each of their sizes, where this has no DLPack
    exchange table.
    """
