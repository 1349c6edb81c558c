"""Checkpoints that are broken, and saves that are killed: `python tests/fuzz/checkpoints.py [count] [seed]`.

`count` files, each a good one that was changed at random: `fastlstm.load` gives a layer that can be called, or raises
ValueError or OSError; it never crashes, hangs, or takes memory that the file has no use for. Then `count` / 10 kills: a
process that saves over a file, or where none is yet, is killed at a random moment while another saves there too. What is
at the path is one of the layers that were saved, and the next save leaves no other file in the folder.
"""

import faulthandler
import json
import math
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

import fastlstm
from fastlstm import GRU, LSTM, GRUCell, LSTMCell

SECONDS = 30  # for one file
MEMORY = 2**25  # bytes that loading a file may take, at most, beside eight times its own
HUGE = (0, -1, 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30)
ODD = (None, True, -1, 0.5, float("nan"), 1e308, "4", "", "\ud800", [], {}, [[]], 2**63, 10**40, "x" * 10_000)
# What a change may find that there is nothing left to change, or nothing that Python's own reader reads.
NOTHING_LEFT = (
    KeyError,
    TypeError,
    ValueError,
    IndexError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    struct.error,
)
DTYPES = ("F32", "F64", "F16", "BF16", "I32", "I64", "U8", "BOOL", "F8_E4M3", "F4", "C64", "", "f32")


def layers() -> list[torch.nn.Module]:
    """One of each kind of file."""
    return [
        LSTM(3, 4),
        LSTM(3, 5, 2, bias=False, batch_first=True, dropout=0.25, bidirectional=True, proj_size=2),
        LSTM(2, 3, dtype=torch.bfloat16),
        LSTM(1, 1, 3, dtype=torch.float64),
        LSTMCell(3, 4, dtype=torch.float16),
        LSTMCell(3, 4, bias=False),
        GRU(3, 4, 2, batch_first=True, dropout=0.25, bidirectional=True),
        GRUCell(3, 4, dtype=torch.float64),
    ]


# A change of the file as bytes, or of its header as JSON.


def flipped(pick: random.Random, file: bytes) -> bytes:
    changed = bytearray(file)
    end = len(file) if pick.random() < 0.3 else min(len(file), 8 + struct.unpack("<Q", file[:8])[0])
    for _ in range(pick.randint(1, 8)):
        changed[pick.randrange(end)] ^= 1 << pick.randrange(8)
    return bytes(changed)


def truncated(pick: random.Random, file: bytes) -> bytes:
    return file[: pick.randrange(len(file))]


def extended(pick: random.Random, file: bytes) -> bytes:
    return file + pick.randbytes(pick.randint(1, 64))


def spliced(pick: random.Random, file: bytes) -> bytes:
    a, b = sorted(pick.randrange(len(file)) for _ in range(2))
    return (
        file[:a] + pick.choice([b"", file[a:b] * 2, pick.randbytes(b - a), b"\0" * (b - a), b"[" * 200_000]) + file[b:]
    )


def with_another_length(pick: random.Random, file: bytes) -> bytes:
    (length,) = struct.unpack("<Q", file[:8])
    near = [length + change for change in (-8, -1, 1, 8, len(file))]
    return struct.pack("<Q", pick.choice([*near, *HUGE]) % 2**64) + file[8:]


def with_a_key_twice(pick: random.Random, file: bytes) -> bytes:
    header, data = taken_apart(file)
    first, second = pick.choices(list(header), k=2)
    text = json.dumps(header)
    return put_together(text[:-1] + f", {json.dumps(first)}: {json.dumps(header[second])}}}", data)


def with_another_header(pick: random.Random, file: bytes) -> bytes:
    header, data = taken_apart(file)
    for _ in range(pick.randint(1, 3)):
        with suppress(*NOTHING_LEFT):
            pick.choice(HEADER_CHANGES)(pick, header)
    return put_together(json.dumps(header), data)


def as_large_as_it_says(pick: random.Random, file: bytes) -> bytes:
    """The arguments and the shapes agree with each other, and not with the data."""
    header, data = taken_apart(file)
    description = json.loads(header["__metadata__"]["fastlstm"])
    factor = pick.choice([2, 1000, 2**30, 2**40, 2**61])
    name = pick.choice(["hidden_size", "input_size"])
    before = description["arguments"][name]
    if type(before) is not int:  # another change has been here
        return file
    description["arguments"][name] *= factor
    header["__metadata__"]["fastlstm"] = json.dumps(description)
    for tensor in tensors_of(header):
        for k, size in enumerate(tensor["shape"]):
            if size in (before, 3 * before, 4 * before):
                tensor["shape"][k] = size * factor
        if pick.random() < 0.5:
            tensor["data_offsets"][1] = tensor["data_offsets"][0] + 4 * math.prod(tensor["shape"])
    return put_together(json.dumps(header), data)


BYTE_CHANGES = [
    flipped,
    truncated,
    extended,
    spliced,
    with_another_length,
    with_a_key_twice,
    with_another_header,
    with_another_header,
    with_another_header,
    as_large_as_it_says,
]


def another_dtype(pick: random.Random, header: dict) -> None:
    chosen = pick.choice(DTYPES)
    for tensor in tensors_of(header) if pick.random() < 0.5 else [pick.choice(tensors_of(header))]:
        tensor["dtype"] = chosen


def another_shape(pick: random.Random, header: dict) -> None:
    tensor = pick.choice(tensors_of(header))
    shape = tensor["shape"]
    if not isinstance(shape, list) or not shape:
        shape = tensor["shape"] = [1]
    shape[pick.randrange(len(shape))] = pick.choice([*HUGE, *ODD])
    if pick.random() < 0.3:
        tensor["shape"] = pick.choice([shape[::-1], [*shape, 1], shape[1:], [2**32, 2**32, 0], shape * 2000])


def other_offsets(pick: random.Random, header: dict) -> None:
    one, other = (pick.choice(tensors_of(header)) for _ in range(2))
    one["data_offsets"], other["data_offsets"] = other["data_offsets"], one["data_offsets"]
    if pick.random() < 0.7:
        one["data_offsets"] = [pick.choice([*HUGE, 4, 8]), pick.choice([*HUGE, 4, 64])]


def another_name(pick: random.Random, header: dict) -> None:
    name = pick.choice(list(header))
    header[pick.choice(["weight_ih_l9", "", "__metadata__", "\ud800", "x" * 10_000])] = header.pop(name)


def one_less(pick: random.Random, header: dict) -> None:
    header.pop(pick.choice(list(header)))


def odd_entry(pick: random.Random, header: dict) -> None:
    entry = header[pick.choice(list(header))]
    if isinstance(entry, dict) and entry:
        entry[pick.choice([*entry, "more"])] = pick.choice(ODD)


def another_description(pick: random.Random, header: dict) -> None:
    description = json.loads(header["__metadata__"]["fastlstm"])
    arguments = description["arguments"]
    arguments[pick.choice(list(arguments))] = pick.choice([*HUGE, *ODD, 10**9])
    if pick.random() < 0.2:
        description[pick.choice([*description, "more"])] = pick.choice([*ODD, "LSTMCell", "LSTM", "GRU", "GRUCell"])
    header["__metadata__"]["fastlstm"] = json.dumps(description)


def no_description(pick: random.Random, header: dict) -> None:
    header["__metadata__"] = pick.choice([{"fastlstm": pick.choice(["", "[" * 50_000, "9" * 5000, "null"])}, *ODD])


HEADER_CHANGES = [
    another_dtype,
    another_shape,
    other_offsets,
    another_name,
    one_less,
    odd_entry,
    another_description,
    another_description,
    no_description,
]


def taken_apart(file: bytes) -> tuple[dict, bytes]:
    (length,) = struct.unpack("<Q", file[:8])
    return json.loads(file[8 : 8 + length]), file[8 + length :]


def put_together(header: str, data: bytes) -> bytes:
    encoded = header.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(encoded)) + encoded + data


def tensors_of(header: dict) -> list[dict]:
    return [header[name] for name in header if name != "__metadata__"]


def changed(pick: random.Random, file: bytes) -> bytes:
    """A file with one to three changes; one that finds nothing left that it could change changes nothing."""
    result = file
    for _ in range(pick.choice([1, 1, 1, 2, 3])):
        with suppress(*NOTHING_LEFT):
            result = pick.choice(BYTE_CHANGES)(pick, result)
    return result if result != file else file + b"\0"


@contextmanager
def little_memory(file: bytes) -> Iterator[None]:
    """What would take more than loading that file may take fails."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY + 8 * len(file), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def mutations(count: int, seed: int) -> Counter[str]:
    """How many of `count` changed files were loaded, and how many refused with which error. Whatever else comes of one is
    raised, and the file stays in the folder that is printed.
    """
    pick, seen = random.Random(seed), Counter()
    folder = Path(tempfile.mkdtemp(prefix="checkpoints-"))
    path = folder / "changed.safetensors"
    good = []
    for layer in layers():
        fastlstm.save(layer, path)
        good.append(path.read_bytes())
        call(fastlstm.load(path))  # what is loaded once is loaded before memory is short
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of dropout in one layer, as the constructor's
        for k in range(count):
            file = changed(pick, pick.choice(good))
            path.write_bytes(file)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            try:
                with little_memory(file):
                    call(fastlstm.load(path))
                seen["loaded"] += 1
            except (ValueError, OSError) as error:
                seen[type(error).__name__] += 1
            except BaseException:
                print(f"file {k} of seed {seed}: {path}", file=sys.stderr)
                raise
            finally:
                faulthandler.cancel_dump_traceback_later()
    shutil.rmtree(folder)
    return seen


def call(layer: torch.nn.Module) -> None:
    with torch.no_grad():
        layer(torch.zeros(2, layer.input_size, dtype=next(layer.parameters()).dtype))


# Kills. Each layer has its number in every weight, so that a mixture of two would be seen.


def numbered(count: int) -> list[torch.nn.Module]:
    made = [LSTM(3, (4, 300, 40, 700)[k % 4]) for k in range(count)]
    for k, layer in enumerate(made):
        for parameter in layer.parameters():
            torch.nn.init.constant_(parameter, float(k))
    return made


def number_of(path: Path, made: list[torch.nn.Module]) -> int:
    """Which of the layers the file holds; AssertionError where it is none of them."""
    found = fastlstm.load(path)
    values = torch.cat([parameter.detach().flatten() for parameter in found.parameters()])
    k = int(values[0])
    assert (values == k).all(), "two layers in one file"
    assert found.hidden_size == made[k].hidden_size
    return k


def child(work: Callable[[], None]) -> int:
    process = os.fork()
    if process == 0:
        status = 1
        try:
            torch.set_num_threads(1)
            work()
            status = 0
        finally:
            os._exit(status)
    return process


def kills(count: int, seed: int) -> Counter[str]:
    """How many kills left a stray file (that the next save removed), and how many came before a first save had ended."""
    pick, seen = random.Random(seed), Counter()
    made = numbered(8)
    folder = Path(tempfile.mkdtemp(prefix="checkpoints-"))
    path = folder / "killed.safetensors"

    def for_ever() -> None:
        for k in range(10**9):
            fastlstm.save(made[k % len(made)], path)

    def a_few_times() -> None:
        for k in range(2):
            fastlstm.save(made[k], path)

    for k in range(count):
        first, beside = k % 4 == 0, k % 4 == 1
        path.unlink(missing_ok=True)
        if not first:
            fastlstm.save(made[pick.randrange(len(made))], path)
        killed = child(for_ever)
        other = child(a_few_times) if beside else None
        time.sleep(pick.random() * (0.004 if first else 0.03))
        os.kill(killed, signal.SIGKILL)
        os.waitpid(killed, 0)
        if other is not None:
            assert os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) == 0, "a save failed beside one that was killed"
        names = {entry.name for entry in folder.iterdir()}
        seen["strays"] += len(names - {path.name})
        if path.name in names:
            number_of(path, made)
        else:
            assert first, "the old file is lost"
            seen["before the first"] += 1
        last = pick.randrange(len(made))
        fastlstm.save(made[last], path)
        assert number_of(path, made) == last
        assert [entry.name for entry in folder.iterdir()] == [path.name], "a stray file"
    shutil.rmtree(folder)
    return seen


def main(count: int, seed: int) -> None:
    """Both, and in a line each what came of them."""
    print(f"{count} changed checkpoints, seed {seed}: {dict(mutations(count, seed))}")
    print(f"{count // 10} kills while saving: {dict(kills(count // 10, seed))}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
