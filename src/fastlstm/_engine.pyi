"""The native engine's Python face. `native/include/fastlstm/engine.h` is the contract.

`forward` and `backward` take addresses: every array is C-contiguous (`tensor.data_ptr()`, `array.ctypes.data`), 0 means
"absent", and shapes are not checked: `fastlstm.torch.functional` does, before it calls. `infer` takes torch tensors, and
checks them.
"""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:  # the engine knows no torch
    from torch import Tensor

class Problem:
    """The sizes of one call, in the alphabet of the project, and how many rows each step has.

    Rows are stored step after step: a dense batch has T * N rows; a packed one has `sum(batch_sizes)`.
    P = 0 means no projection. `dtype`, of every array: 'float32', 'float64', or 'bfloat16' and 'float16', which are added up in
    float32 and rounded. `batch_sizes` (non-increasing, the first is N) is for a packed batch only.
    """

    @overload
    def __init__(
        self,
        T: int,
        N: int,
        I: int,
        H: int,
        P: int = 0,
        layers: int = 1,
        directions: int = 1,
        dtype: str = "float32",
        batch_sizes: Sequence[int] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        segments: Segments,
        step: int,
        row: int,
        starts: int,
        places: int,
        I: int,
        H: int,
        P: int,
        layers: int,
        directions: int,
        dtype: str,
    ) -> None:
        """The packed batch that segments make, its arrays those of the caller: step t of row n is row t * step + n * row of
        the `places` rows of x and output or, given the address of N int64 `starts`, t * step + starts[n]. What no step goes
        to is not written by `forward` and `backward`, nor are gradients of what no step reads; by the others it is zeros.
        """

    def clear(self, to: int, features: int) -> None:
        """Zeros in those of the `places` rows at an address that have no step: none without segments."""

    @property
    def rows(self) -> int: ...
    @property
    def places(self) -> int:
        """Rows of x and output: `rows`, or with segments what they were given."""
    @property
    def states(self) -> int:
        """Rows of h_0 and c_0 in all layers and directions."""
    @property
    def multiplies_bfloat16(self) -> bool:
        """Whether a bfloat16 call of these sizes multiplies such numbers as they are, and not in float32."""
    @property
    def saved_reals(self) -> int:
        """How many reals (float32 or float64) `forward` writes to `saved` for `backward` to read; linear in `rows`."""
    @property
    def saved_bytes(self) -> int: ...

class Workspace:
    """Uninitialised memory from a bounded pool that outlives calls: a fresh page costs as much as the arithmetic on it."""

    def __init__(self, bytes: int) -> None: ...
    @property
    def address(self) -> int: ...

class Segments:
    """The stretches of a batch of N rows of up to T steps that nothing crosses, as the sequences of a packed batch.

    Where its rows stand, int64, -1: nowhere, is for who cannot give it to a `Problem`.

    lengths: address of N int64, or 0: T each. reset: address of bool, step t of row n at `t * step + n * row`, or 0: none.
    ValueError: a length is not from 0 to T. The methods write to the address `to`, int64 unless they say otherwise.
    """

    def __init__(self, T: int, N: int, lengths: int, reset: int, step: int, row: int) -> None: ...
    @property
    def whole(self) -> bool:
        """Whether every row is one segment of T steps."""
    @property
    def empty(self) -> bool:
        """Whether any row has no step."""
    @property
    def steps(self) -> int:
        """Of all rows together: the rows of the packed batch."""
    @property
    def count(self) -> int:
        """How many segments there are: the N of the packed batch."""
    @property
    def T(self) -> int:
        """The length of the longest: the T of the packed batch."""
    def batch_sizes(self, to: int) -> None:
        """(T): of the packed batch."""
    def places(self, step: int, row: int, starts: int, to: int) -> None:
        """(steps): where step t of row n stands, t * step + n * row, or, given N starts, t * step + starts[n]."""
    def initial(self, layers: int, directions: int, to: int) -> None:
        """(layers * directions * count): the row of h_0, (layers * directions * N, ..), a segment starts from; -1: zeros."""
    def final(self, layers: int, directions: int, to: int) -> None:
        """(layers * directions * count): the row of h_n, (layers * directions * N, ..), a segment's last state is; -1: none."""

def forward(
    problem: Problem,
    x: int,  # (rows, I)
    h_0: int,  # (layers * D, N, P or H), 0: zeros
    c_0: int,  # (layers * D, N, H), 0: zeros
    weights: Sequence[int],  # five a (layer, direction): w_ih, w_hh, b_ih, b_hh, w_hr; 0 for an absent bias or w_hr
    masks: Sequence[int],  # empty, or layers - 1 addresses: (rows, D * (P or H)) factors on a layer's output; 0: none
    output: int,  # (rows, D * (P or H)), written
    h_n: int,  # like h_0, written
    c_n: int,  # like c_0, written
    saved: int,  # saved_reals reals, written; 0 at inference
    threads: int,
) -> None: ...
def backward(
    problem: Problem,
    x: int,
    h_0: int,
    c_0: int,
    weights: Sequence[int],
    masks: Sequence[int],
    saved: int,  # as forward wrote it
    doutput: int,  # gradients of output, h_n, c_n; 0: zeros
    dh_n: int,
    dc_n: int,
    dx: int,  # gradients asked for, written (not added to); 0: not wanted
    dh_0: int,
    dc_0: int,
    dweights: Sequence[int],  # the order of `weights`; 0: not wanted
    threads: int,
    dsteps: Sequence[int] = (),  # gradients of what `trace` reads, in its order; 0: zeros; or empty, both: none
    dhidden: Sequence[int] = (),
) -> None: ...
def dense(
    problem: Problem,
    state: Sequence[int],  # what stands before the features in the shapes of h_n and c_n
    inputs: Sequence[
        Tensor | None
    ],  # x, h_0, c_0 (None: zeros), then the parameters in their order; of shapes that fit
    saved: int,  # address of saved_reals reals, written; 0 at inference
    threads: int,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """output, h_n, c_n: `forward`, for torch tensors, in one crossing. None, nothing done, where one is not plain, dense and of
    the problem's sizes.
    """

def dense_backward(
    problem: Problem,
    inputs: Sequence[Tensor | None],  # as `dense` took them
    saved: int,
    gradients: Sequence[Tensor | None],  # of output, h_n, c_n; None: zeros
    wanted: Sequence[bool],  # of `inputs`
    threads: int,
) -> list[Tensor | None] | None:
    """The gradients of `inputs`, None where not wanted: `backward`, likewise."""

def trace(
    problem: Problem,
    saved: int,  # as forward wrote it
    steps: Sequence[int],  # five a (layer, direction), (rows, H), written: c, i, f, g, o
    hidden: Sequence[int],  # layers - 1, (rows, D * (P or H)), written: the outputs of the layers but the last
    threads: int,
) -> None: ...
def decisions(problem: Problem, training: bool, threads: int) -> list[tuple[str, str]]:
    """What the engine decides for a call of these sizes, and how, in words."""

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

def use_torch(torch: ModuleType) -> bool:
    """Prepare what takes and makes tensors for those of this torch; False, and it will return None, where this has no DLPack
    exchange table."""

def empty(shape: Sequence[int], dtype: str) -> Tensor | None:
    """An uninitialised torch tensor in memory of the pool that `Workspace` is from, to which it goes back when torch is done
    with it; None where it would be less than 512 KiB, and without `use_torch`."""

def infer(
    sizes: list[int],  # I, H, P, layers, D, bias
    names: tuple[str, ...],  # of the parameters, in their order
    parameters: Mapping[str, Tensor | None],
    input: Any,  # (T, N, I), (N, T, I) with batch_first, or (T, I)
    hx: Any,  # (h_0, c_0) or None
    batch_first: Any,
    threads: int,
    lengths: Any = None,  # (N) of int64, or None
    reset: Any = None,  # bool, of the sizes of input but its features, or None
) -> tuple[Tensor, tuple[Tensor, Tensor]] | None:
    """output, (h_n, c_n) of plain real tensors of the CPU, of one dtype, whose memory lies as the engine reads it.

    The call is checked, allocated and run in one crossing. Gradients and what watches tensor operations are the caller's
    business. None, and nothing done, for whatever is unusual or wrong.
    """

def infer_cell(
    sizes: list[int],
    names: tuple[str, ...],
    parameters: Mapping[str, Tensor | None],
    input: Any,  # (N, I) or (I)
    hx: Any,  # (h, c) or None
    threads: int,
) -> tuple[Tensor, Tensor] | None:
    """h, c of one step: as `infer`."""
