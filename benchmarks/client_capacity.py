"""How many streams a second one client process can take, and how late it sends at 2,000 a second.

A server in C++ answers each request at once with 8 events, so that the client is the limit. Not
here: the client (sixfold.instrument.loadgen), or any server worth measuring.
"""

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sixfold.instrument.loadgen.arrivals import Arrivals, constant, poisson
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.loadgen.plan import Session, Turn
from sixfold.instrument.loadgen.run import Limits, LoadResult, run_load

SOURCE = Path(__file__).parent / "native" / "null_server.cpp"
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


def show(name: str, result: LoadResult) -> None:
    """One line."""
    failed = [o.error for o in result.outcomes if o.error]
    health = result.health
    print(
        f"{name:<24} {len(result.outcomes) / result.seconds:7.0f} streams/s  "
        f"late p99 {health.late_p99 * 1e3:8.2f} ms  loop lag p99 {health.lag_p99 * 1e3:6.2f} ms  "
        f"cpu {health.cpu_share:4.0%}  client_bound {health.client_bound} "
        f"{health.reason}{'; failed: ' + failed[0] if failed else ''}",
        flush=True,
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=2000.0, help="sessions/s of the open loops")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each open loop")
    parser.add_argument("--concurrency", type=int, default=16, help="of the closed loop")
    parser.add_argument("--together", action="store_true", help="write all 8 chunks at once")
    return parser.parse_args()


def main() -> None:
    """Closed loop, open loops at the rate, and one at five times the rate."""
    args = parse()
    count = int(args.rate * args.seconds)
    with null_server(apart=not args.together) as url:
        drive(url, args.concurrency, 500)
        show("closed loop", drive(url, args.concurrency, count))
        show("open loop, constant", drive(url, constant(args.rate), count))
        show("open loop, Poisson", drive(url, poisson(args.rate), count))
        show("open loop, 5 x the rate", drive(url, constant(5 * args.rate), count))


if __name__ == "__main__":
    main()
