"""Fuzz all parsers for a while: `python tests/fuzz/run_fuzz.py --seconds 60`.

Takes the targets in turn. Stops at the first finding: an exception that is no SixfoldError, a
case that takes longer than --slowest, or more memory than --memory. The input is kept in a file.
"""

import argparse
import random
import resource
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "golden"), str(ROOT / "src")]


def run(seconds: float, seed: int, slowest: float, only: str) -> int:
    """Mutants until the time is over; the number of cases run."""
    from fuzz.targets import TARGETS

    chosen = [t for t in TARGETS if only in t[0]]
    random_state = random.Random(seed)
    end, cases, worst = time.monotonic() + seconds, 0, 0.0
    while time.monotonic() < end:
        for name, seeds, target, mutate in chosen:
            for _ in range(50):
                data = mutate(random_state.choice(seeds), random_state)
                start = time.monotonic()
                try:
                    target(data)
                    took = time.monotonic() - start
                    assert took <= slowest, f"took {took:.1f} s"
                except BaseException:
                    keep = Path(f"fuzz-finding-{name.replace('/', '_')}.bin")
                    keep.write_bytes(data)
                    print(f"finding in {name} (case {cases}, seed {seed}), kept in {keep}")
                    raise
                cases, worst = cases + 1, max(worst, took)
    print(f"{cases} cases of {len(chosen)} targets, none wrong; the slowest took {worst:.2f} s")
    return cases


def main() -> int:
    """Parse the command line and fuzz."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one each time")
    parser.add_argument("--slowest", type=float, default=10, help="seconds that a case may take")
    parser.add_argument("--memory", type=int, default=4096, help="MiB of address space")
    parser.add_argument("--target", default="", help="only targets whose name holds this")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (args.memory << 20, args.memory << 20))
    seed = random.SystemRandom().randrange(1 << 32) if args.seed is None else args.seed
    try:
        return 0 if run(args.seconds, seed, args.slowest, args.target) else 1
    except Exception:
        traceback.print_exc()
        return 1


if __name__ == "__main__":
    sys.exit(main())
