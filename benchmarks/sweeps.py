"""Where strategies begin to pay: on against off over what decides it, in process.

batching: continuous against static, by the spread of output lengths, and static with finished rows
still computed. prefix: prefix caching, by the share of prompts that is common. paging: blocks
against room for the longest, by the length of requests. Off and on take turns on the same requests.
Not here: speculation.py, attention.py and offload.py, which sweep their own.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from recording import save
from sixfold.core.config import EngineConfig
from sixfold.core.record import Measure
from sixfold.engine.engine import LLMEngine
from steps import request
from tables import render

Rows = dict[str, dict[str, Measure]]


@dataclass(frozen=True)
class Ask:
    """A request: its prompt, and how many tokens it wants."""

    prompt: list[int]
    output: int


@dataclass(frozen=True)
class Run:
    """What a list of requests, all there at once, has given."""

    seconds: float
    tokens: int
    first: list[float]
    running: int
    """The most at once."""


def build(model: str, **options: object) -> LLMEngine:
    """An engine of one setting."""
    settings = {"kv_cache_memory_mb": 1024, "max_num_seqs": 64, **options}
    return LLMEngine(EngineConfig(model=model, **settings))  # type: ignore[arg-type]


def run(engine: LLMEngine, asks: list[Ask], number: int) -> Run:
    """All requests at once, to the last one's end."""
    engine.reset_prefix_cache()
    began = time.perf_counter()
    for i, ask in enumerate(asks):
        engine.add_request(request(f"{number}-{i}", ask.prompt, ask.output))
    first: dict[str, float] = {}
    tokens = running = 0
    while engine.has_unfinished():
        deltas = engine.step()
        now = time.perf_counter()
        running = max(running, engine.stats().num_requests_running)
        for delta in deltas:
            tokens += len(delta.token_ids)
            first.setdefault(delta.request_id, now - began)
    return Run(time.perf_counter() - began, tokens, sorted(first.values()), running)


def ids(rng: random.Random, count: int) -> list[int]:
    """Random token ids."""
    return [rng.randrange(1000, 40000) for _ in range(count)]


# -- batching --------------------------------------------------------------------------------------

LENGTHS: dict[str, Callable[[random.Random], int]] = {
    "equal": lambda rng: 64,
    "32 to 96": lambda rng: rng.randint(32, 96),
    "exponential": lambda rng: min(1 + int(rng.expovariate(1 / 64)), 400),
}


JOB = 128
"""Requests of a run, or four batches: at the end of a short one all batches thin out."""


def batching(a: argparse.Namespace) -> Iterator[tuple[str, dict[str, Measure]]]:
    """Output tokens per second that were asked for."""
    for size in (8, 32):
        engines = {kind: build(a.model, batching=kind, max_num_seqs=size)
                   for kind in ("static", "continuous")}  # fmt: skip
        for name, length in LENGTHS.items():
            rates: dict[str, list[float]] = {"static": [], "padded": [], "continuous": []}
            for number in range(a.rounds):
                rng = random.Random(number)
                asks = [Ask(ids(rng, 32), length(rng)) for _ in range(max(4 * size, JOB))]
                wanted = sum(ask.output for ask in asks)
                for kind in rates:
                    engine = engines["static" if kind == "padded" else kind]
                    some = padded(asks, size) if kind == "padded" else asks
                    rates[kind].append(wanted / run(engine, some, number).seconds)
            yield from compared(f"{size} at once, lengths {name}", rates, "tok/s")


def padded(asks: list[Ask], size: int) -> list[Ask]:
    """As if no row could leave its batch: all are as long as its longest."""
    found = []
    for at in range(0, len(asks), size):
        longest = max(ask.output for ask in asks[at : at + size])
        found += [Ask(ask.prompt, longest) for ask in asks[at : at + size]]
    return found


# -- prefix caching --------------------------------------------------------------------------------


def prefix(a: argparse.Namespace) -> Iterator[tuple[str, dict[str, Measure]]]:
    """Median time to first token of 32 requests, as requests per second of it."""
    engines = {kind: build(a.model, enable_prefix_caching=on)
               for kind, on in (("off", False), ("on", True))}  # fmt: skip
    for share in (0, 10, 25, 50, 94):
        speeds: dict[str, list[float]] = {"off": [], "on": []}
        for number in range(a.rounds):
            rng = random.Random(number)
            total, common = 1088, ids(rng, 1088 * share // 100)
            asks = [Ask(common + ids(rng, total - len(common)), 4) for _ in range(32)]
            for kind, engine in engines.items():
                speeds[kind].append(1 / median(run(engine, asks, number).first))
        yield from compared(f"32 of 1,088 tokens, {share} % common", speeds, "1/TTFT p50")


# -- paging ----------------------------------------------------------------------------------------


def paging(a: argparse.Namespace) -> Iterator[tuple[str, dict[str, Measure]]]:
    """Requests that run at once in the same memory."""
    engines = {kind: build(a.model, kv_cache=kind, kv_cache_memory_mb=512, max_model_len=2048,
                           enable_prefix_caching=False)
               for kind in ("contiguous", "paged")}  # fmt: skip
    for length in (128, 512, 1024, 1984):
        counts: dict[str, list[float]] = {"contiguous": [], "paged": []}
        for number in range(2):
            rng = random.Random(number)
            asks = [Ask(ids(rng, length - 64), 64) for _ in range(48)]
            for kind, engine in engines.items():
                counts[kind].append(float(run(engine, asks, number).running))
        yield from compared(f"{length:,} of 2,048 tokens each", counts, "at once")


def compared(
    name: str, values: dict[str, list[float]], unit: str
) -> Iterator[tuple[str, dict[str, Measure]]]:
    """A line for each kind, held against the first one, round by round."""
    base = next(iter(values.values()))
    for kind, some in values.items():
        ratios = [mine / theirs for mine, theirs in zip(some, base, strict=True)]
        line = {
            "measured": Measure(values=some, unit=unit),
            "ratio": Measure(values=ratios, unit="of the first"),
        }
        print(f"{name}: {kind} {median(some):.4g} {unit}, {median(ratios):.2f}", flush=True)
        yield f"{name}: {kind}", line


SWEEPS = {
    "batching": (batching, "Batching by the spread of output lengths"),
    "prefix": (prefix, "Prefix caching by the share of prompts that is common"),
    "paging": (paging, "Paged against contiguous memory by the length of requests"),
}


def main() -> int:
    """Measure, print, and record if that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--only", choices=SWEEPS, help="(all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", action="store_true", help="write docs/results/sweep-*.json")
    a = parser.parse_args()
    for name, (sweep, title) in SWEEPS.items():
        if a.only in (None, name):
            rows: Rows = dict(sweep(a))
            print("\n" + render(rows) + "\n")
            if a.record:
                save(f"sweep-{name}", title, {"model": a.model, "rounds": a.rounds}, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
