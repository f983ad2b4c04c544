"""Every percentile that our client reports against what a server of known latencies really sent.

The server, the mock of the tests, runs in a process of its own and stamps each request and each
chunk that it writes on the clock that all processes share; its pauses are drawn per chunk. Not
here: agreement with another client on a real engine (agreement.py).
"""

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from recording import ROOT, save
from sixfold.core.metrics import RequestTrace, spread
from sixfold.core.record import Measure
from sixfold.instrument.loadgen.arrivals import Arrivals, poisson
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.loadgen.plan import Session, Turn
from sixfold.instrument.loadgen.report import LATENCIES, STATISTICS, report
from sixfold.instrument.loadgen.run import LoadResult, run_load
from tables import render

sys.path.insert(0, str(ROOT / "tests"))
from instrument.loadgen.mock_server import HEAD, LAST, MockServer, Step, chunk, finish, token

GROUPS, PER_CHUNK = 8, 2
SHARE, SECONDS = 0.02, 1e-3
"""A percentile agrees within this part of the truth, or this time."""


def script(_body: dict[str, Any], number: int) -> list[Step]:
    """Chunks of two tokens after pauses of 20 to 120 ms."""
    rng = random.Random(number)
    steps: list[Step] = [HEAD]
    for _ in range(GROUPS):
        steps += [rng.uniform(0.02, 0.12), chunk(token("ab"))]
    return [*steps, chunk(finish(GROUPS * PER_CHUNK)), LAST]


def serve() -> None:
    """Say where, serve until standard input ends, then tell what was sent when."""
    with MockServer(script) as server:
        print(server.url, flush=True)
        sys.stdin.read()
    print(json.dumps([(seen.arrived, seen.writes, seen.ended) for seen in server.seen]))


@contextmanager
def served(seen: list[RequestTrace]) -> Iterator[str]:
    """A server's URL; in the end `seen` holds what it sent, by its stamps."""
    command = [sys.executable, __file__, "--serve"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        stamps, _ = process.communicate()
    seen.extend(truth(*one) for one in json.loads(stamps))


def truth(arrived: float, writes: list[float], ended: float) -> RequestTrace:
    """The trace of one request; the first write is the head."""
    times = tuple(t for t in writes[1 : 1 + GROUPS] for _ in range(PER_CHUNK))
    return RequestTrace(arrival=arrived, token_times=times, end=ended, num_prompt_tokens=7)


def run(load: Arrivals | int, count: int) -> tuple[LoadResult, list[RequestTrace]]:
    """One run: what the client saw, and what was sent."""
    seen: list[RequestTrace] = []
    with served(seen) as url:
        session = Session(turns=(Turn(text="p", max_tokens=4),))
        result = run_load(Target(url=url), [session] * count, load)
    failed = [o.error for o in result.outcomes if o.error]
    if failed or len(seen) != count:
        raise SystemExit(f"{len(failed)} requests failed: {failed[:1]}")
    return result, seen


def errors(result: LoadResult, true: list[RequestTrace]) -> dict[str, tuple[float, float]]:
    """Statistic -> (reported, true), in seconds."""
    found = report(result.outcomes)
    pairs = {}
    for name in ("ttft", "tpot", "itl", "e2e"):
        expected = spread(LATENCIES[name](true))
        for key, field in STATISTICS.items():
            pairs[f"{name}:{key}"] = (found[f"{name}:{key}"], getattr(expected, field))
    return pairs


def agrees(reported: float, true: float) -> bool:
    """Within 2 % or 1 ms."""
    return abs(reported - true) <= max(SHARE * true, SECONDS)


def main() -> int:
    """Run each load, print, record; 1 if a percentile does not agree."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--record", action="store_true", help="write docs/results/percentiles.json")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.serve:
        serve()
        return 0
    loads: dict[str, Arrivals | int] = {"open loop, 20/s": poisson(20.0), "closed loop, 16": 16}
    rows: dict[str, dict[str, Measure]] = {}
    wrong: list[str] = []
    for title, load in loads.items():
        found = [errors(*run(load, a.requests)) for _ in range(a.rounds)]
        for key in found[0]:
            off = [(x[key][0] - x[key][1]) * 1e3 for x in found]
            rows.setdefault(key, {})[title] = Measure(values=off, unit="ms off")
            wrong += [f"{title}: {key} is {x[key][0]:.5f} s, {x[key][1]:.5f} s is true"
                      for x in found if not agrees(*x[key])]  # fmt: skip
    print(render(rows))
    print("\n".join(wrong) or "every percentile of every round agrees within 2 % or 1 ms")
    if a.record:
        total = len(rows) * len(loads) * a.rounds
        save(
            "percentiles",
            "Reported percentiles against a server of known latencies",
            {"requests": a.requests, "rounds": a.rounds, "within": "2 % or 1 ms"},
            rows,
            f"{total - len(wrong)} of {total} agree. " + "; ".join(wrong),
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
