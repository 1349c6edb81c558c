"""Cases run in a forked child of a warm process, so that one that kills or hangs it is known, and the run goes on."""

import mmap
import os
import pickle
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

SLOW = 20.0  # seconds a case may take
BATCH = 500  # cases a child runs
_STAGES = 64


class Death(NamedTuple):
    """How a child ended in the middle of a case, at which stage of it; the first line that says more; how many cases it had
    done before.
    """

    how: str
    stage: str
    said: str
    before: int


class Board:
    """What a child writes before it does something, and its parent reads when the child is no more."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 16 + _STAGES)

    def write(self, position: int, stage: str) -> None:
        text = stage.encode()[:_STAGES].ljust(_STAGES)
        self.memory[:] = struct.pack("qd", position, time.monotonic()) + text

    def read(self) -> tuple[int, float, str]:
        position, since = struct.unpack("qd", self.memory[:16])
        return position, since, self.memory[16:].decode().strip()


def run(
    items: Sequence[Any], work: Callable[[Any, Callable[[str], None]], Any], batch: int = BATCH, until: float = 1e18
) -> Iterator[tuple[Any, Any]]:
    """Each item with what `work(item, tell)` returned, or with the Death of the child it killed. until: time.monotonic()
    at which it ends early.
    """
    start = 0
    while start < len(items) and time.monotonic() < until:
        stop = min(start + batch, len(items))
        done, death = _child(items[start:stop], work, until)
        yield from zip(items[start:], done, strict=False)
        start += len(done)
        if death is not None:
            yield items[start], death
            start += 1


def _child(
    items: Sequence[Any], work: Callable[[Any, Callable[[str], None]], Any], until: float
) -> tuple[list[Any], Death | None]:
    """The results of the items it got through, and how it died in the next one."""
    board = Board()
    board.write(0, "start")
    with tempfile.TemporaryFile() as results, tempfile.TemporaryFile() as errors:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            _in_child(items, work, until, board, results, errors)
        status = _wait(child, board)
        results.seek(0)
        done = list(_read(results))
        if status == 0:
            return done, None
        errors.seek(0)
        text = errors.read().decode(errors="replace")
        said = next((line for line in text.splitlines() if "ERROR" in line or "error" in line.lower()), text[-300:])
        how = signal.Signals(-status).name if status < 0 else f"exit {status}"
        if how == "SIGKILL":
            how = "hang (or killed)"
        return done, Death(how, board.read()[2], said, len(done))


def _in_child(items: Sequence[Any], work: Any, until: float, board: Board, results: Any, errors: Any) -> None:
    status = 1
    try:
        os.dup2(errors.fileno(), 2)
        for position, item in enumerate(items):
            if time.monotonic() > until:
                break
            board.write(position, "start")
            result = work(item, lambda stage, position=position: board.write(position, stage))
            results.write(pickle.dumps(result))
            results.flush()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _wait(child: int, board: Board) -> int:
    """The child's exit status, negative: the signal that ended it; a case that takes too long is killed."""
    pause = 0.001
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() - board.read()[1] > SLOW:
            os.kill(child, signal.SIGKILL)
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)


def _read(results: Any) -> Iterator[Any]:
    while True:
        try:
            yield pickle.load(results)
        except (EOFError, pickle.UnpicklingError):
            return
