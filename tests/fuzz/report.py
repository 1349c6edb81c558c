"""A run of many cases, what it prints, and one case again."""

import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace

import torch

from tests.fuzz import workers
from tests.fuzz.case import Case, Odd, draw
from tests.fuzz.differences import left_to_torch
from tests.fuzz.judge import Verdict, judge
from tests.fuzz.packing import Packing
from tests.fuzz.shrink import shrink
from tests.fuzz.source import script

SHRINKING = 120.0  # seconds, after which further failures are only named
Tell = Callable[[str], None]


@dataclass
class Summary:
    """failures: by kind, the indices that fail so, with what was said of the first."""

    calls: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    listed: Counter[str] = field(default_factory=Counter)
    failures: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def add(self, index: int, verdict: Verdict) -> None:
        self.calls += 1
        self.kinds[verdict.kind] += 1
        if verdict.kind == "listed":
            self.listed[verdict.name] += 1
        if verdict.kind == "failed":
            self.failures.setdefault(verdict.name, []).append((index, verdict.detail))


def _prepare() -> None:
    """What is imported and made at the first call of each kind, for all children."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    # torch's own keeps a traceback of each call, for a GPU that may come.
    torch.manual_seed = torch.default_generator.manual_seed
    rows = Packing((2, 1), 3)
    warm = Case(mode="grad", T=2, N=2)
    for case in (
        warm,
        replace(warm, form="nested", packing=rows),
        replace(warm, form="packed", packing=replace(rows, rows=4)),
        replace(warm, form="lengths", lengths="[2, 1]", trace=True),
        replace(warm, way="enable", layers=2, dropout=0.5),
        replace(warm, way="convert", dtype="complex64"),
        replace(warm, x=Odd("meta"), attribute='layer.to("meta")'),
        replace(warm, layer="LSTMCell", x=Odd("subclass")),
        replace(warm, layer="GRU", form="lengths", lengths="[2, 1]", trace=True),
        replace(warm, layer="GRUCell"),
    ):
        judge(case)


def collect(seed: int, count: int, seconds: float = 1e9, progress: bool = False) -> Summary:
    """The verdicts over cases 0 to count of this seed."""
    _prepare()
    summary, start = Summary(), time.monotonic()

    def work(index: int, tell: Tell) -> Verdict:
        return judge(draw(seed, index), tell)

    for index, result in workers.run(range(count), work, until=start + seconds):
        earlier = []
        if isinstance(result, workers.Death):
            earlier = [draw(seed, k) for k in range(index - result.before, index)]
        summary.add(index, _verdict(draw(seed, index), result, earlier))
        if progress and summary.calls % 100 == 0:
            spent = time.monotonic() - start
            failed = summary.kinds["failed"]
            print(f"\r{summary.calls} of {count} calls, {failed} failed, {spent:.0f} s", end="", file=sys.stderr)
    if progress:
        print(file=sys.stderr)
    return summary


def _ours_die(case: Case, earlier: Sequence[Case]) -> bool:
    """Whether ours kills a child alone, or after all calls that its child may have made before, without nn.LSTM's: those under
    enable() may be handed to that.
    """
    own = [item for item in earlier if item.way != "enable"]
    runs = workers.run([*own, case], lambda item, tell: judge(item, tell, torch_survives=False))
    alone = workers.run([case], lambda item, tell: judge(item, tell, torch_survives=False))
    return any(isinstance(result, workers.Death) for results in (alone, runs) for _, result in results)


def _verdict(case: Case, result: Verdict | workers.Death, earlier: Sequence[Case] = ()) -> Verdict:
    """A child that died at nn.LSTM's turn says nothing of ours, which is run alone."""
    if not isinstance(result, workers.Death):
        return result
    if result.stage.startswith("theirs"):
        ((_, again),) = workers.run([case], lambda item, tell: judge(item, tell, torch_survives=False))
        if not isinstance(again, workers.Death):
            return again
        if again.stage == "ours make" and result.stage == "theirs make":
            return Verdict("listed", "torch crashes")
        if case.way == "enable":  # which hands nn.LSTM what the engine does not take
            return Verdict("listed", "torch crashes")
        result = again
    if left_to_torch(case):
        return Verdict("listed", "torch crashes")
    if not _ours_die(case, earlier):
        return Verdict("listed", "torch damaged the heap earlier")
    said = re.sub(r"0x\w+|\d+", "#", result.said)
    return Verdict("failed", f"{result.how} at {result.stage} {said[:90]}", result.said[:500])


def judged(case: Case) -> Verdict:
    """In a child."""
    ((_, result),) = workers.run([case], judge)
    return _verdict(case, result)


def smallest(case: Case, name: str) -> Case:
    """In one child as long as nothing dies in it; else each attempt in its own."""

    def attempt(item: Case, tell: Tell) -> Case:
        return shrink(item, lambda tried: judge(tried, tell).name == name)

    ((_, found),) = workers.run([case], attempt)
    return shrink(case, lambda tried: judged(tried).name == name) if isinstance(found, workers.Death) else found


def distinct(seed: int, found: list[tuple[int, str]], name: str, most: int = 3) -> list[tuple[int, Case]]:
    """Of failures of one kind, those that are still unlike each other when they are small."""
    seen: dict[tuple[object, ...], tuple[int, Case]] = {}
    for index, _ in found[: 2 * most]:
        case = smallest(draw(seed, index), name)
        plain = Case()
        unlike = [part.name for part in fields(Case) if getattr(case, part.name) != getattr(plain, part.name)]
        key = (
            *(part for part in unlike if part not in ("seed", "I", "H", "T", "N")),
            re.sub(r"\d+", "#", case.attribute),
        )
        seen.setdefault(key, (index, case))
        if len(seen) == most:
            break
    return list(seen.values())


def said(case: Case) -> str:
    return script(case).pasteable(case)


def fuzz(seed: int, count: int, seconds: float) -> int:
    """Prints a summary and the smallest reproducer of each kind of failure; 1 where there is one."""
    start = time.monotonic()
    summary = collect(seed, count, seconds, progress=True)
    ended = time.monotonic()
    print(f"{summary.calls} calls in {time.monotonic() - start:.0f} s, seed {seed}: ", end="")
    print(", ".join(f"{summary.kinds[kind]} {kind}" for kind in ("agreed", "raised", "listed", "failed")))
    for name, number in sorted(summary.listed.items()):
        print(f"  listed: {name}: {number}")
    for name, found in sorted(summary.failures.items(), key=lambda item: -len(item[1])):
        print(f"\n== {len(found)} times: {name}\n   cases {' '.join(str(index) for index, _ in found)}")
        if time.monotonic() - ended > SHRINKING:
            index, detail = found[0]
            print(f"   python -m tests.fuzz --seed {seed} --only {index}\n   # {detail[:300]!r}")
            continue
        for index, case in distinct(seed, found, name):
            print(f"   python -m tests.fuzz --seed {seed} --only {index}")
            _show(case)
    return 1 if summary.failures else 0


def replay(seed: int, index: int) -> int:
    """One case: as it was drawn, what came of it, and the smallest that fails in the same way."""
    _prepare()
    case = draw(seed, index)
    print(said(case))
    verdict = judged(case)
    print(f"\n== {verdict.kind} {verdict.name}\n{verdict.detail}")
    if verdict.kind != "failed":
        return 0
    print("\n== smaller")
    _show(smallest(case, verdict.name))
    return 1


def _show(case: Case) -> None:
    print("\n".join(f"    {line}" for line in said(case).splitlines()))
    detail = re.sub(r"\n+", "\n   # ", judged(case).detail)
    print(f"   # {detail}", flush=True)
