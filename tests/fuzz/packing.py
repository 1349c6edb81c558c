"""Batches that are no rectangle, as Python expressions: packed by torch, packed by hand (and wrongly), lengths and resets."""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Packing:
    """lengths: of the rows, in the caller's order. The sources of a PackedSequence built by hand; "": torch makes it."""

    lengths: tuple[int, ...]
    rows: int
    enforce_sorted: bool = False
    batch_sizes: str = ""
    sorted_indices: str = "None"
    unsorted_indices: str = "None"


def steps_of(lengths: tuple[int, ...]) -> list[int]:
    """batch_sizes: how many rows have step t."""
    return [sum(length > t for length in lengths) for t in range(max(lengths, default=0))]


def draw(random: Random, form: str, T: int, N: int, wrong: bool) -> Packing:
    least = 0 if form == "nested" else 1
    lengths = [random.randint(least, max(least, T)) for _ in range(N)]
    if random.random() < 0.3:
        lengths = [max(lengths, default=0)] * N
    if form == "packed":
        ordered = random.random() < 0.5
        if wrong and lengths:  # pack_padded_sequence raises, for both
            lengths[random.randrange(N)] = random.choice([0, -1, T + 1])
        made = tuple(sorted(lengths, reverse=True)) if ordered else tuple(lengths)
        return Packing(made, T * N, ordered)
    if form == "nested":
        return Packing(tuple(lengths), sum(lengths))
    order = sorted(range(N), key=lambda n: -lengths[n])
    steps = steps_of(tuple(lengths))
    sizes, rows = f"torch.tensor({steps})", sum(steps)
    if not steps:
        sizes = "torch.tensor([], dtype=torch.int64)"
    elif wrong and random.random() < 0.6:
        sizes, rows = _wrong_sizes(random, steps)
    else:
        sizes = random.choice([sizes, sizes, *_odd_sizes(steps)])
    indices = ["None", f"torch.tensor({order})", f"torch.tensor({order})"]
    sorted_indices = random.choice([*indices, *_odd_indices(order)]) if order else "None"
    unsorted = "None"
    if wrong and order and random.random() < 0.6:
        sorted_indices = random.choice(_wrong_indices(order))
        if random.random() < 0.3:
            unsorted = random.choice(_wrong_indices(order))
    elif sorted_indices != "None" and random.random() < 0.3:
        unsorted = f"torch.tensor({sorted(range(N), key=order.__getitem__)})"
    return Packing(tuple(lengths), rows, False, sizes, sorted_indices, unsorted)


def _odd_sizes(steps: list[int]) -> list[str]:
    """The same numbers."""
    given = f"torch.tensor({steps})"
    return [
        f"{given}.repeat_interleave(2)[::2]",
        f"torch.tensor([0, *{steps}])[1:]",
        f"{given}.flip(0).flip(0)",
        f"torch.tensor({[-b for b in steps]}).neg()",
        f"torch.inference_mode()(lambda: {given})()",
        f"torch.frombuffer(bytearray(bytes(1) + {given}.numpy().tobytes()), dtype=torch.int64, offset=1, count={len(steps)})",
    ]


def _wrong_sizes(random: Random, steps: list[int]) -> tuple[str, int]:
    """batch_sizes, and how many rows the data has."""
    rows, k = sum(steps), random.randrange(len(steps))
    big = random.choice([2**31, 2**32 + 1, 2**60, 2**62, 2**63 - 1])
    other = [
        [*steps, 0],
        [*steps, 0, 0],
        [0, *steps],
        [*steps[:k], 0, *steps[k:]],
        [*steps[:k], steps[k] + 1, *steps[k + 1 :]],
        [*steps[:k], max(0, steps[k] - 1), *steps[k + 1 :]],
        [*steps, 1],
        [*steps, steps[-1] + 1],
        [*reversed(steps)],
        [*steps[:k], big, *steps[k + 1 :]],
        [big] * random.choice([1, 2, 16]),
        [2**60 + 2] * 16,
        [2**61 + 3] * 8,
        [2**63 - 1, 2**63 - 1, 2 + rows],
        [-1, *steps],
        [*steps[:k], -steps[k], *steps[k + 1 :]],
        [0],
        [0, 0],
    ]
    if random.random() < 0.7:
        chosen = random.choice(other)
        fitting = sum(chosen) % 2**64  # as a sum that overflows comes out
        if 0 <= fitting <= 200 and random.random() < 0.5:
            rows = fitting  # the sum is right, only the order is not
        return f"torch.tensor({chosen})", rows
    given = f"torch.tensor({steps})"
    return random.choice(
        [
            f"{given}.int()",
            f"{given}.short()",
            f"{given}.float()",
            f"{given}.double()",
            f"{given}.bool()",
            f"{given}[None]",
            f"{given}[:, None]",
            f"{given}[0]",
            "torch.tensor([], dtype=torch.int64)",
            f'{given}.to("meta")',
            f"{given}.tolist()",
            "None",
        ]
    ), rows


def _odd_indices(order: list[int]) -> list[str]:
    given = f"torch.tensor({order})"
    return [
        f"{given}.int()",
        f"{given}.repeat_interleave(2)[::2]",
        f"torch.frombuffer(bytearray(bytes(1) + {given}.numpy().tobytes()), dtype=torch.int64, offset=1, count={len(order)})",
    ]


def _wrong_indices(order: list[int]) -> list[str]:
    N = len(order)
    given = f"torch.tensor({order})"
    return [
        f"{given}[:-1]",
        f"torch.tensor([*{order}, 0])",
        f"torch.tensor([{N}, *{order[1:]}])",
        f"torch.tensor([-1, *{order[1:]}])",
        f"torch.tensor([2**40, *{order[1:]}])",
        f"torch.tensor([0] * {N})",
        f"{given}[None]",
        f"{given}.float()",
        f"{given}.short()",
        "torch.tensor(0)",
        "torch.tensor([], dtype=torch.int64)",
        f'{given}.to("meta")',
        f"{given}.tolist()",
        f"torch.arange({N + 3})",
    ]


def draw_segments(random: Random, T: int, N: int | None, batch_first: bool, wrong: bool) -> dict[str, object]:
    """lengths= and reset= of a padded call: their sources, "" where not given; unfit: one of them is wrong."""
    lengths: list[int] | int = [random.randint(0, T) for _ in range(N)] if N is not None else random.randint(0, T)
    shape = (T,) if N is None else (N, T) if batch_first else (T, N)
    which = random.choice(["lengths", "reset", "both"])
    made: dict[str, object] = {"lengths": "", "reset": ""}
    share = random.choice([0.0, 0.1, 0.3, 1.0])
    if which != "reset":
        whole = f"torch.tensor({lengths}, dtype=torch.int64)"
        forms = [str(lengths), whole, f"{whole}.int()", f"{whole}.to(torch.uint8)"]
        if N is not None:
            forms += [f"{whole}.repeat_interleave(2)[::2]", f"{tuple(lengths)}", f"{whole}.numpy()"]  # type: ignore[arg-type]
        made["lengths"] = random.choice(forms)
    if which != "lengths":
        drawn = f"torch.rand({shape}) < {share}"
        turned = f"(torch.rand({shape[::-1]}) < {share}).permute({tuple(range(len(shape)))[::-1]})"
        made["reset"] = random.choice([drawn, drawn, turned, f"({drawn}).expand({shape})"])
    if wrong:
        made["unfit"] = True
        if which != "reset" and lengths != []:
            made["lengths"] = random.choice(_wrong_lengths(lengths, T))
        elif which == "reset":
            made["reset"] = random.choice(_wrong_resets(shape))
        else:
            made["unfit"] = False
    return made


def _wrong_lengths(lengths: list[int] | int, T: int) -> list[str]:
    if isinstance(lengths, int):
        return [
            str(T + 1),
            "-1",
            f"{lengths}.0",
            f"[{lengths}, {lengths}]",
            '"x"',
            "2**70",
            "True",
            "2**63 - 1",
            "[[1]]",
        ]
    rest = lengths[1:]
    return [
        *(str([bad, *rest]) for bad in (T + 1, -1, 2**63 - 1, -(2**63), 2**62, 2**70)),
        f"torch.tensor({lengths}, dtype=torch.float32) + 0.0",
        str([*lengths, 1]),
        f"torch.ones({len(lengths)}, dtype=torch.bool)",
        f"torch.tensor([{lengths}])",
        '"abc"',
        "object()",
        f"{[*lengths, 'x']}",
        "3",
    ]


def _wrong_resets(shape: tuple[int, ...]) -> list[str]:
    return [
        f"torch.zeros({shape})",
        f"torch.zeros({shape}, dtype=torch.int64)",
        f"torch.zeros({(*shape, 1)}, dtype=torch.bool)",
        f"torch.zeros({(shape[0] + 1, *shape[1:])}, dtype=torch.bool)",
        "True",
        '"x"',
        "[[0]]",
        "torch.zeros(0, dtype=torch.bool)",
        f'torch.zeros({shape}, dtype=torch.bool, device="meta")',
    ]
