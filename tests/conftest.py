"""What every test shares: one way to run a call with its gradients, one way to compare, at the tolerances of `tolerances.py`.

`draw` makes the tensors of a call, `evaluate` runs it forward and backward, `assert_close` and `assert_bits` compare
two evaluations entry by entry, by name. A helper asserts; none prints a difference or returns a bool.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from getpass import getuser
from tempfile import gettempdir
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from fastlstm import _engine
from tests.doubles import WillingEngine
from tests.tolerances import SMALLEST_ELEMENT, TOLERANCE

# The same examples on every machine, however slow; the fixture below is meant to hold for all examples of a test.
settings.register_profile(
    "fastlstm",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("fastlstm")
VALUES = ("output", "h_n", "c_n")
DAILY_TORCH = "2.13."  # that of `make test`

Hidden = tuple[Tensor, Tensor]
States = Hidden | Tensor  # of an LSTM, of a GRU
Evaluation = dict[str, Tensor | None]
Named = Mapping[str, Tensor | None]


class Call(NamedTuple):
    """The tensors of one call: what goes in, and what the backward pass starts from."""

    x: Tensor | PackedSequence
    hx: Any  # `States`, or None
    cotangents: tuple[Tensor, ...]  # on output (its data where packed), h_n and, of an LSTM, c_n

    def to(self, target: torch.dtype | torch.device | str) -> "Call":
        hx = None if self.hx is None else like(self.hx, [t.to(target) for t in states_of(self.hx)])
        return Call(self.x.to(target), hx, tuple(d.to(target) for d in self.cotangents))


def states_of(hx: States) -> tuple[Tensor, ...]:
    """h, and c of an LSTM."""
    return (hx,) if isinstance(hx, Tensor) else tuple(hx)


def like(hx: States, states: Sequence[Tensor]) -> Any:
    """Other states in the form of hx."""
    return states[0] if isinstance(hx, Tensor) else tuple(states)


def dtype_of(lstm: nn.Module) -> torch.dtype:
    return next(lstm.parameters()).dtype


def twin(lstm: nn.Module, dtype: torch.dtype | None = None) -> Any:
    """torch's own layer with the same arguments, parameters and mode; in `dtype` where given."""
    arguments = [
        lstm.input_size,
        lstm.hidden_size,
        lstm.num_layers,
        lstm.bias,
        lstm.batch_first,
        0.0,
        lstm.bidirectional,
    ]
    projection = {"proj_size": lstm.proj_size} if lstm.mode == "LSTM" else {}
    theirs = getattr(nn, lstm.mode)(*arguments, **projection, dtype=dtype_of(lstm))
    theirs.dropout = lstm.dropout
    theirs.load_state_dict(lstm.state_dict())
    return theirs.to(dtype).train(lstm.training)


def draw(
    lstm: nn.Module,
    T: int,
    N: int | None,
    *,
    hx: bool = True,
    lengths: list[int] | None = None,
    enforce_sorted: bool = True,
    seed: int = 0,
) -> Call:
    """Random tensors for `lstm`, in its dtype: N = None is an unbatched call, `lengths` makes a packed one."""
    generator = torch.Generator().manual_seed(seed)
    dtype = dtype_of(lstm)

    def randn(*shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=generator, dtype=torch.complex64 if dtype.is_complex else torch.float32)
        return drawn.to(dtype)

    D = 2 if lstm.bidirectional else 1
    H, P = lstm.hidden_size, lstm.proj_size or lstm.hidden_size
    batch = [] if N is None else [N]
    count = 2 if lstm.mode == "LSTM" else 1
    states = [randn(D * lstm.num_layers, *batch, features) for features in (P, H)[:count]]
    cotangents = [randn(D * lstm.num_layers, *batch, features) for features in (P, H)[:count]]
    leading = [T] if N is None else [N, T] if lstm.batch_first else [T, N]
    x: Tensor | PackedSequence = randn(*leading, lstm.input_size)
    doutput = randn(*leading, D * P)
    if lengths is not None:
        x = pack_padded_sequence(x, torch.tensor(lengths), lstm.batch_first, enforce_sorted)
        doutput = pack_padded_sequence(doutput, torch.tensor(lengths), lstm.batch_first, enforce_sorted).data
    given = tuple(states) if count > 1 else states[0]
    return Call(x, given if hx else None, (doutput, *cotangents))


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


def evaluate(lstm: nn.Module, call: Call, *, seed: int = 0, **arguments: object) -> Evaluation:
    """Run forward (from this random seed, for dropout; with further arguments) and backward: outputs and every gradient,
    by name.
    """
    data = call.x.data if isinstance(call.x, PackedSequence) else call.x
    data = _leaf(data)
    x = call.x._replace(data=data) if isinstance(call.x, PackedSequence) else data
    hx = None if call.hx is None else like(call.hx, [_leaf(t) for t in states_of(call.hx)])
    lstm.zero_grad(set_to_none=True)
    torch.manual_seed(seed)
    output, last = lstm(x, hx, **arguments)
    output = output.data if isinstance(output, PackedSequence) else output
    results = (output, *states_of(last))
    torch.autograd.backward(results, call.cotangents)
    found: Evaluation = {name: t.detach() for name, t in zip(VALUES, results, strict=False)} | {"dx": data.grad}
    if hx is not None:
        found |= {name: t.grad for name, t in zip(("dh_0", "dc_0"), states_of(hx), strict=False)}
    return found | {f"d{name}": parameter.grad for name, parameter in lstm.named_parameters()}


def _excess(name: str, ours: Tensor, theirs: Tensor, dtype: torch.dtype) -> tuple[float, str]:
    """How far an entry is from its limit (above 1: over it), and a sentence that says so."""
    assert ours.shape == theirs.shape, f"{name}: shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}"
    if ours.numel() == 0:
        return 0.0, f"{name}: empty"
    wide = torch.complex128 if dtype.is_complex else torch.float64
    error, size = ours.to(wide) - theirs.to(wide), theirs.to(wide)
    if name in VALUES:
        quantity, amount = "value", (error.abs() / size.abs().clamp(min=1)).max().item()
    else:
        floor = SMALLEST_ELEMENT * theirs.numel() ** 0.5 if size.any() else 1.0
        quantity, amount = "gradient", error.norm().item() / max(size.norm().item(), floor)
    tolerance = TOLERANCE[dtype, quantity]
    excess = amount / tolerance if amount == amount else float("inf")
    return excess, f"{name}: {quantity} error {amount:.3g}, tolerance {tolerance:.3g} ({dtype})"


def _pairs(ours: Named, theirs: Named, hint: object) -> Iterator[tuple[str, Tensor, Tensor]]:
    """The entries that both have; an entry that only one has is a failure."""
    assert list(ours) == list(theirs), f"other entries: {list(ours)} and {list(theirs)} {hint}"
    for name, mine in ours.items():
        other = theirs[name]
        assert (mine is None) == (other is None), f"{name} is {'absent' if mine is None else 'present'} in ours {hint}"
        if mine is not None and other is not None:
            yield name, mine, other


def assert_close(ours: Named, theirs: Named, dtype: torch.dtype | None = None, hint: object = "") -> None:
    """Hold two evaluations together at the tolerances of `dtype` (default: ours); the message names the worst entry."""
    found = [_excess(name, mine, other, dtype or mine.dtype) for name, mine, other in _pairs(ours, theirs, hint)]
    excess, sentence = max(found)
    over = sum(entry[0] > 1 for entry in found)
    assert excess <= 1, f"{over} of {len(found)} over; the worst is {sentence} {hint}"


def assert_bits(ours: Named, theirs: Named, hint: object = "") -> None:
    """Hold two evaluations to the same bits (NaN equal to NaN); the message names the entry furthest off."""
    found = []
    for name, mine, other in _pairs(ours, theirs, hint):
        assert (mine.shape, mine.dtype) == (other.shape, other.dtype), f"{name} {hint}"
        same = (mine == other) | (mine.isnan() & other.isnan())
        distance = (mine - other).abs().nan_to_num(nan=torch.inf).max().item() if mine.numel() else 0.0
        found.append(((~same).sum().item(), name, distance))
    count, name, distance = max(found)
    assert count == 0, f"{name}: {count} elements have other bits, the furthest by {distance:.3g} {hint}"


def outcome(call: Callable[[], object]) -> tuple[type[BaseException] | None, str]:
    """What a call raises, its type and message; (None, "") where it raises nothing."""
    try:
        call()
    except Exception as error:
        return type(error), str(error)
    return None, ""


@pytest.fixture
def teams(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Every call takes the threads it asks for; how many teams of several threads there have been."""
    for module in ("graph.function", "layer"):
        monkeypatch.setattr(f"fastlstm.torch.{module}._engine", WillingEngine())
    return _engine.let_teams_run


@pytest.fixture
def compiler() -> Iterator[None]:
    """The compiler with nothing remembered: it stops compiling a function that it has compiled eight times."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def pytest_configure(config: pytest.Config) -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None:  # what one process compiles must not come from the other's cache
        shared = os.environ.get("TORCHINDUCTOR_CACHE_DIR", f"{gettempdir()}/torchinductor_{getuser()}")
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{shared}/{worker}"
    if not torch.__version__.startswith(DAILY_TORCH):  # what another says of itself, its own modules are to mend
        config.addinivalue_line("filterwarnings", r"default:::torch(\.|\Z)")
    # nn.LSTM says this once a process, the first time a test asks it for a projection.
    config.addinivalue_line("filterwarnings", "ignore:LSTM with projections is not supported with oneDNN:UserWarning")


def run_python(script: str, seconds: float = 120) -> str:
    """What a script prints in a process of its own; a crash or a hang there is a failure here."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(autouse=True)
def _fresh_torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test starts from one seed, on one thread and with no fallback announced, and leaves the process as it was."""
    monkeypatch.delenv("COLUMNS", raising=False)  # a terminal's, or that of what runs the tests
    if "fastlstm.torch" in sys.modules:  # a fallback is said once a process: an earlier test must not use that up
        monkeypatch.setattr("fastlstm.torch.runners.fallback._announced", set())
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
