"""python -m tests.fuzz: random calls, right and wrong, on fastlstm and on torch.nn; status 1 where they differ unlisted."""

import argparse
import os
import sys

# Fresh memory is filled with numbers near 3e38, so that what is read or left without having been written shows.
_TUNABLES = "glibc.malloc.tcache_count=0:glibc.malloc.perturb=128"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="calls")
    parser.add_argument("--seconds", type=float, default=1e9, help="ends after so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this one call alone, printed as Python and made smaller")
    parser.add_argument("--isa", help="FASTLSTM_ISA: the engine's instruction set")
    options = parser.parse_args()
    wanted = {"OMP_NUM_THREADS": "1"}
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):
        wanted["GLIBC_TUNABLES"] = _TUNABLES
    if options.isa:
        wanted["FASTLSTM_ISA"] = options.isa
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, "-m", "tests.fuzz", *sys.argv[1:]], os.environ | wanted)
    from tests.fuzz import report

    if options.only is not None:
        return report.replay(options.seed, options.only)
    return report.fuzz(options.seed, options.count, options.seconds)


if __name__ == "__main__":
    sys.exit(main())
