"""Batches behind interactive users: what the users feel, and how much idle capacity is used.

Before and after each round an idle twin of the server tells the capacity in a closed loop. Users
arrive at a part of it (Poisson): alone, beside a batch and alone again, with the same arrivals.
Slowdown: the users' p95 with the batch over the mean of those alone. Used: tokens of the batch per
second, of what the users leave of the capacity. A round counts where the two capacities differ by
less than a fifth: the machine was the same all along. Not here: the rule (engine/scheduler),
durability (tests).
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import httpx

import servers
from recording import save
from sixfold.core.metrics import percentile, tpot, ttft
from sixfold.core.record import Measure
from sixfold.instrument.backends.spec import EngineSpec, Scalar
from sixfold.instrument.loadgen.arrivals import poisson
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.loadgen.plan import Session, Turn
from sixfold.instrument.loadgen.run import Limits, LoadResult, run_load
from tables import render

PROMPT, OUTPUT = 128, 64
AT_ONCE = 32
"""Of the closed loop that measures the capacity, and slots of the engine."""

STEADY = 1.2
"""Most that the capacities before and after a round may differ by."""

BATCH_LINES = 20_000
COUNTERS = tuple(f"sixfold:backfill_{what}_tokens_total" for what in ("prompt", "generation"))


def sessions(count: int, seed: int, words: int = 0) -> list[Session]:
    """Users' requests; lengths vary by a half either way. `words`: other ones of the same lengths,
    which the prefix cache does not know."""
    rng, own = random.Random(seed), random.Random(f"{seed}-{words}")
    found = []
    for _ in range(count):
        length, output = (rng.randint(n // 2, n * 3 // 2) for n in (PROMPT, OUTPUT))
        ids = tuple(own.randrange(1000, 40000) for _ in range(length))
        found.append(Session(turns=(Turn(token_ids=ids, max_tokens=output),)))
    return found


def load(url: str, some: list[Session], how: object) -> LoadResult:
    """Send them; all must be answered."""
    target = Target(url=url, timeout=600.0, extra={"temperature": 0, "ignore_eos": True})
    result = run_load(target, some, how, limits=Limits(seconds=900.0, drain=300.0))  # type: ignore[arg-type]
    wrong = [o.error for o in result.outcomes if o.error]
    if wrong or result.unfinished or result.unsent:
        raise RuntimeError(f"{len(wrong)} requests failed: {wrong[:1]}")
    return result


def tokens(some: list[Session]) -> int:
    """Prompt and output."""
    return sum(len(s.turns[0].token_ids) + s.turns[0].max_tokens for s in some)


def felt(result: LoadResult) -> tuple[float, float]:
    """p95 of TTFT and TPOT, in seconds."""
    traces = [o.trace for o in result.outcomes]
    first = [t for t in map(ttft, traces) if t is not None]
    each = [t for t in map(tpot, traces) if t is not None]
    return percentile(first, 95), percentile(each, 95)


class Batch:
    """A long one on the server; counts what it does."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=60)
        rng = random.Random(99)
        lines = [
            json.dumps(
                {
                    "custom_id": str(i), "url": "/v1/completions", "method": "POST",
                    "body": {
                        "prompt": [rng.randrange(1000, 40000) for _ in range(PROMPT)],
                        "max_tokens": OUTPUT, "temperature": 0, "ignore_eos": True,
                    },
                }
            )
            for i in range(BATCH_LINES)
        ]  # fmt: skip
        files = {"file": ("in.jsonl", "\n".join(lines).encode())}
        answer = self._client.post("/v1/files", data={"purpose": "batch"}, files=files)
        self._file = answer.raise_for_status().json()["id"]
        self._id = ""

    @contextmanager
    def running(self) -> Iterator[None]:
        """In progress within the block, cancelled after it."""
        body = {
            "input_file_id": self._file,
            "endpoint": "/v1/completions",
            "completion_window": "24h",
        }
        self._id = self._client.post("/v1/batches", json=body).raise_for_status().json()["id"]
        while self._status()["status"] == "validating":
            time.sleep(0.1)
        try:
            yield
        finally:
            self._client.post(f"/v1/batches/{self._id}/cancel")
            while self._status()["status"] != "cancelled":
                time.sleep(0.1)

    def computed(self) -> float:
        """Tokens that the server has computed for batches since its start."""
        page = self._client.get("/metrics").text
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in page.splitlines()
            if line.startswith(COUNTERS)
        )  # fmt: skip

    def _status(self) -> dict[str, str]:
        found: dict[str, str] = self._client.get(f"/v1/batches/{self._id}").json()
        return found


class Twin:
    """An idle server, whose capacity is the other one's: what users have alone is learned there
    from users, who do not come like a closed loop."""

    def __init__(self, url: str) -> None:
        self._url, self._asked = url, 0

    def capacity(self) -> float:
        """Tokens per second in a closed loop, of prompts that the prefix cache does not know."""
        self._asked += 1
        full = sessions(4 * AT_ONCE, 1000, words=self._asked)
        return tokens(full) / load(self._url, full, AT_ONCE).seconds


@dataclass(frozen=True)
class Round:
    """What users felt (p95 of TTFT and TPOT, of alone), the part of the idle that was used."""

    slower: tuple[float, float]
    used: float
    capacities: tuple[float, float]

    @property
    def counts(self) -> bool:
        """The machine was the same before and after."""
        low, high = sorted(self.capacities)
        return high < STEADY * low

    def line(self) -> str:
        """What is printed of it."""
        first, each = self.slower
        before, after = self.capacities
        return (
            f"TTFT p95 {first:.2f}, TPOT p95 {each:.2f} of alone, {self.used:.0%} of idle used "
            f"(capacity {before:,.0f}, then {after:,.0f} tok/s"
            f"{'' if self.counts else ': does not count'})"
        )


def flags_of(a: argparse.Namespace) -> dict[str, Scalar]:
    """Of both servers."""
    return {"max_num_seqs": AT_ONCE, "dtype": a.dtype, "kv_cache_memory_mb": 2048}


def play(a: argparse.Namespace, twin: Twin, url: str, batch: Batch, number: int) -> Round:
    """A round: alone, beside the batch, alone."""
    before = twin.capacity()
    rate = a.share * before / (PROMPT + OUTPUT)
    count = round(rate * a.seconds)
    how = poisson(rate, seed=number)
    alone = [felt(load(url, sessions(count, number), how))]
    with batch.running():
        warming = sessions(count // 4, number, words=2)
        load(url, warming, poisson(rate, seed=50 + number))
        some = sessions(count, number, words=1)
        began, computed = time.monotonic(), batch.computed()
        both = felt(load(url, some, how))
        seconds = time.monotonic() - began
        done = (batch.computed() - computed) / seconds
    alone.append(felt(load(url, sessions(count, number, words=3), how)))
    after = twin.capacity()
    first, each = (b / mean(pair) for b, pair in zip(both, zip(*alone, strict=True), strict=True))
    idle = (before + after) / 2 - tokens(some) / seconds
    return Round((first, each), done / idle, (before, after))


def measure(a: argparse.Namespace, slowdown: float) -> dict[str, dict[str, Measure]]:
    """Servers with this knob, until enough rounds count."""
    counted: list[Round] = []
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        own = {"interactive_slowdown": slowdown, "batch_dir": str(Path(directory) / "batches")}
        url, idle = (
            stack.enter_context(
                servers.serving(EngineSpec(engine="sixfold", model=a.model, flags=flags_of(a) | f))
            ).url
            for f in (own, {})
        )
        batch, twin = Batch(url), Twin(idle)
        for number in range(a.rounds + a.spare):
            found = play(a, twin, url, batch, number)
            print(f"{slowdown:.0%}: {found.line()}", flush=True)
            counted += [found] if found.counts else []
            if len(counted) == a.rounds:
                break
    if not counted:
        raise RuntimeError("no round counts: the machine's speed moves too much")
    return {
        f"--interactive-slowdown {slowdown:g}": {
            "capacity": Measure(values=[mean(r.capacities) for r in counted], unit="tok/s"),
            "TTFT p95": Measure(values=[r.slower[0] for r in counted], unit="of alone"),
            "TPOT p95": Measure(values=[r.slower[1] for r in counted], unit="of alone"),
            "idle capacity used": Measure(values=[100 * r.used for r in counted], unit="%"),
            "rounds that do not count": Measure(
                values=[float(number + 1 - len(counted))], unit="count"
            ),
        }
    }


def main() -> int:
    """Measure, print, and record if that is wanted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--share", type=float, default=0.4, help="users' part of the capacity")
    parser.add_argument("--seconds", type=float, default=45.0, help="of a run")
    parser.add_argument("--rounds", type=int, default=3, help="that count")
    parser.add_argument("--spare", type=int, default=2, help="rounds more, if some do not")
    parser.add_argument("--slowdowns", nargs="*", type=float, default=[0.1, 0.3])
    parser.add_argument("--record", action="store_true", help="write docs/results/backfill.json")
    a = parser.parse_args()
    rows: dict[str, dict[str, Measure]] = {}
    for slowdown in a.slowdowns:
        rows |= measure(a, slowdown)
    print("\n" + render(rows))
    if a.record:
        about = {"model": a.model, "dtype": a.dtype, "users' part of capacity": a.share,
                 "seconds": a.seconds}  # fmt: skip
        save("backfill", "Batches behind interactive users", about, rows,
             "Of alone: the same arrivals without the batch, before and after it.")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
