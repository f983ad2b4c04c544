"""How many streams a second one client process can take, and how late it sends at 2,000 a second.

Exits with 1 if it takes fewer than 2,000, sends them 5 ms late or more (p99, median of the rounds),
or is not marked client-bound in each round beyond its limit.

A server in C++ answers each request at once with 8 events, so that the client is the limit. Not
here: the client (sixfold.instrument.loadgen), or any server worth measuring.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recording import save
from sixfold.core.record import Measure
from sixfold.instrument.loadgen.arrivals import Arrivals, constant, poisson
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.loadgen.plan import Session, Turn
from sixfold.instrument.loadgen.run import Limits, LoadResult, run_load
from tables import render

LEAST_STREAMS = 2000.0
"""A second, in the closed loop."""
MOST_LATE = 5.0
"""ms, p99, of a constant open loop at the rate."""
SOURCE = Path(__file__).parent / "native" / "null_server.cpp"
Row = dict[str, Measure]
PROMPT = tuple(range(1000, 1032))


@contextmanager
def null_server(apart: bool) -> Iterator[str]:
    """Compile and run the server; its URL."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise SystemExit("client_capacity needs g++ or clang++")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "null_server"
        subprocess.run([compiler, "-std=c++20", "-O2", "-o", program, SOURCE], check=True)
        command = [str(program), *(["apart"] if apart else [])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield f"http://127.0.0.1:{int(process.stdout.readline())}"
            finally:
                process.terminate()


def drive(url: str, load: Arrivals | int, count: int) -> LoadResult:
    """One run of `count` single requests."""
    target = Target(url=url, model="null", extra={"temperature": 0})
    session = Session(turns=(Turn(token_ids=PROMPT, max_tokens=8),))
    return run_load(target, [session] * count, load, limits=Limits(seconds=60.0, drain=10.0))


def row(result: LoadResult) -> dict[str, Measure]:
    """A table's row."""
    failed = sum(bool(o.error) for o in result.outcomes) + result.unfinished
    health = result.health
    return {
        "streams/s": Measure(values=[len(result.outcomes) / result.seconds], unit="1/s"),
        "sent late, p99": Measure(values=[health.late_p99 * 1e3], unit="ms"),
        "loop lag, p99": Measure(values=[health.lag_p99 * 1e3], unit="ms"),
        "client's CPU": Measure(values=[health.cpu_share * 100], unit="%"),
        "marked client-bound": Measure(values=[float(health.client_bound)], unit="of 1"),
        "failed": Measure(values=[float(failed)], unit="streams"),
    }


def missed(closed: Row, at_rate: Row, beyond: Row) -> Iterator[str]:
    """What is short of the targets, in words."""
    streams, late = closed["streams/s"].median, at_rate["sent late, p99"].median
    if not streams >= LEAST_STREAMS:
        yield f"the closed loop took {streams:.0f} streams/s, not {LEAST_STREAMS:.0f}"
    if not late < MOST_LATE:
        yield f"the open loop sent {late:.1f} ms late (p99), not below {MOST_LATE:.0f} ms"
    marked = beyond["marked client-bound"].values
    if not all(marked):
        yield f"beyond its limit, {marked.count(0.0)} of {len(marked)} rounds were not marked"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=2000.0, help="sessions/s of the open loops")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each open loop")
    parser.add_argument("--concurrency", type=int, default=16, help="of the closed loop")
    parser.add_argument("--together", action="store_true", help="write all 8 chunks at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", action="store_true", help="write docs/results/")
    return parser.parse_args()


def main() -> int:
    """Closed loop, open loops at the rate, and one at five times the rate."""
    args = parse()
    count = int(args.rate * args.seconds)
    loads: dict[str, Arrivals | int] = {
        f"closed loop, {args.concurrency}": args.concurrency,
        f"constant, {args.rate:.0f}/s": constant(args.rate),
        f"Poisson, {args.rate:.0f}/s": poisson(args.rate),
        f"constant, {5 * args.rate:.0f}/s": constant(5 * args.rate),
    }
    rows: dict[str, dict[str, Measure]] = {name: {} for name in loads}
    with null_server(apart=not args.together) as url:
        drive(url, args.concurrency, 500)
        for _ in range(args.rounds):
            for name, load in loads.items():
                for key, one in row(drive(url, load, count)).items():
                    kept = rows[name].get(key, Measure(values=[], unit=one.unit)).values
                    rows[name][key] = Measure(values=[*kept, *one.values], unit=one.unit)
    print(render(rows))
    if args.record:
        workload = {"seconds": args.seconds, "rounds": args.rounds, "chunks": 8,
                    "apart": not args.together}  # fmt: skip
        save("client_capacity", "What one client process can take", workload, rows)
    closed, at_rate, _, beyond = rows.values()
    faults = list(missed(closed, at_rate, beyond))
    print("\n".join(faults) or "all targets met")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
