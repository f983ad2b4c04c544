"""Batches behind interactive users: what the users feel, and how much idle capacity is used.

One server. Its capacity is measured in a closed loop; users then arrive at a part of it (Poisson),
alone and beside a batch, with the same arrivals, in turn. Slowdown: the users' p95 with the batch
over that alone. Used: tokens of the batch per second, of what the users leave of the capacity. Not
here: the rule (engine/scheduler), durability (tests).
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


def capacity_of(a: argparse.Namespace) -> float:
    """Tokens per second in a closed loop, on a server of its own: what users have alone is learned
    from users, who do not come like that."""
    spec = EngineSpec(engine="sixfold", model=a.model, flags=flags_of(a))
    with servers.serving(spec) as server:
        full = sessions(4 * AT_ONCE, 1000)
        return tokens(full) / load(server.url, full, AT_ONCE).seconds


def flags_of(a: argparse.Namespace) -> dict[str, Scalar]:
    """Of all servers."""
    return {"max_num_seqs": AT_ONCE, "dtype": a.dtype, "kv_cache_memory_mb": 2048}


def measure(a: argparse.Namespace, slowdown: float) -> dict[str, dict[str, Measure]]:
    """A server with this knob."""
    slower: dict[str, list[float]] = {"TTFT p95": [], "TPOT p95": []}
    used: list[float] = []
    capacity = capacity_of(a)
    rate = a.share * capacity / (PROMPT + OUTPUT)
    with tempfile.TemporaryDirectory() as directory:
        own = {"interactive_slowdown": slowdown, "batch_dir": str(Path(directory) / "batches")}
        spec = EngineSpec(engine="sixfold", model=a.model, flags=flags_of(a) | own)
        with servers.serving(spec) as server:
            batch = Batch(server.url)
            for number in range(a.rounds):
                count = round(rate * a.seconds)
                some, others = sessions(count, number), sessions(count, number, words=1)
                how = poisson(rate, seed=number)
                alone = felt(load(server.url, some, how))
                with batch.running():
                    first = sessions(count // 4, number, words=2)
                    load(server.url, first, poisson(rate, seed=50 + number))
                    began, before = time.monotonic(), batch.computed()
                    both = felt(load(server.url, others, how))
                    seconds = time.monotonic() - began
                    done = (batch.computed() - before) / seconds
                used.append(done / (capacity - tokens(some) / seconds))
                for name, one, other in zip(slower, both, alone, strict=True):
                    slower[name].append(one / other)
                print(
                    f"{slowdown:.0%}: TTFT p95 {slower['TTFT p95'][-1]:.2f}, TPOT p95 "
                    f"{slower['TPOT p95'][-1]:.2f} of alone ({1e3 * alone[0]:.0f}, "
                    f"{1e3 * alone[1]:.1f} ms), {used[-1]:.0%} of idle used", flush=True,
                )  # fmt: skip
    return {
        f"--interactive-slowdown {slowdown:g}": {
            "capacity": Measure(values=[capacity], unit="tok/s"),
            **{name: Measure(values=v, unit="of alone") for name, v in slower.items()},
            "idle capacity used": Measure(values=[100 * u for u in used], unit="%"),
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
    parser.add_argument("--seconds", type=float, default=60.0, help="of a run")
    parser.add_argument("--rounds", type=int, default=3)
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
             "Of alone: the same arrivals without the batch, round by round.")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
