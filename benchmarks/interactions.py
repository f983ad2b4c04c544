"""Which strategies help each other, and which take each other's gain: every pair, on against off.

One job in process: requests that share a beginning, copy a text and differ in length. From a
baseline without any of the strategies (static batches, memory for the longest request, all scores
in memory, no prefix cache, no drafts), each is turned on alone, and each pair together.
Interaction: the pair's gain over the product of the two alone; 1 is independent, less is
cancelling, more is helping. Not here: where each pays alone (sweeps.py, speculation.py ...).
"""

import argparse
import random
import sys
import time
from itertools import combinations
from statistics import median

from recording import save
from sixfold.core.config import EngineConfig
from sixfold.core.record import Measure
from sixfold.engine.engine import LLMEngine
from speculation import paragraphs
from steps import request
from tables import render

OFF: dict[str, object] = {
    "batching": "static", "enable_prefix_caching": False, "speculative": "off",
    "attention": "naive", "kv_cache": "contiguous",
}  # fmt: skip
ON: dict[str, dict[str, object]] = {
    "continuous batching": {"batching": "continuous"},
    "PagedAttention": {"kv_cache": "paged"},
    "prefix caching": {"enable_prefix_caching": True},
    "speculative decoding": {"speculative": "suffix"},
    "FlashAttention": {"attention": "flash"},
}
COMMON = {"max_model_len": 1024, "kv_cache_memory_mb": 192, "max_num_seqs": 16}
Names = tuple[str, ...]


def engines(model: str) -> dict[Names, LLMEngine]:
    """By what is on. Blocks that are shared need pages: prefix caching brings them along."""
    chosen: list[Names] = [(), *((name,) for name in ON), *combinations(ON, 2)]
    found = {}
    for names in chosen:
        settings = OFF | COMMON
        for name in names:
            settings = settings | ON[name]
        if "prefix caching" in names:
            settings |= ON["PagedAttention"]
        found[names] = LLMEngine(EngineConfig(model=model, **settings))  # type: ignore[arg-type]
    return found


def job(engine: LLMEngine, count: int, seed: int) -> list[tuple[list[int], int]]:
    """(prompt, output tokens) of requests with 384 tokens in common."""
    rng = random.Random(seed)
    common = [rng.randrange(1000, 40000) for _ in range(384)]
    asked = []
    for text in paragraphs(count, seed):
        own = engine.tokenizer.encode(f"\nCopy this text:\n\n{text}\n\nCopy:\n\n")
        asked.append(([*common, *own[:200]], min(8 + int(rng.expovariate(1 / 48)), 200)))
    return asked


def run(engine: LLMEngine, asked: list[tuple[list[int], int]], number: int) -> float:
    """Output tokens per second, all requests there at once."""
    engine.reset_prefix_cache()
    began = time.perf_counter()
    for i, (prompt, output) in enumerate(asked):
        engine.add_request(request(f"{number}-{i}", prompt, output))
    while engine.has_unfinished():
        engine.step()
    return sum(output for _, output in asked) / (time.perf_counter() - began)


def main() -> int:
    """Run all in turn, print, and record if that is wanted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--requests", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--record", action="store_true", help="write docs/results/interactions.json"
    )
    a = parser.parse_args()
    built = engines(a.model)
    rates: dict[Names, list[float]] = {names: [] for names in built}
    for number in range(a.rounds):
        asked = job(built[()], a.requests, number)
        for names, engine in built.items():
            rates[names].append(run(engine, asked, number))
            shown = " + ".join(names) or "none"
            print(f"{shown}: {rates[names][-1]:.1f} tok/s", flush=True)
    gains = {n: [v / base for v, base in zip(r, rates[()], strict=True)] for n, r in rates.items()}
    rows = {}
    for names, values in gains.items():
        row = {"speed": Measure(values=rates[names], unit="tok/s"),
               "of none": Measure(values=values, unit="times")}  # fmt: skip
        if len(names) == 2:
            alone = [x * y for x, y in zip(gains[names[:1]], gains[names[1:]], strict=True)]
            both = [v / x for v, x in zip(values, alone, strict=True)]
            row["interaction"] = Measure(values=both, unit="of the product")
        rows[" + ".join(names) or "none"] = row
    print("\n" + render(rows))
    strongest = max(rows, key=lambda name: median(rows[name]["of none"].values))
    print(f"\nstrongest: {strongest}")
    if a.record:
        save("interactions", "Pairs of strategies on against off",
             {"model": a.model, "requests": a.requests, "rounds": a.rounds, **COMMON}, rows,
             "Prefix caching brings paged memory along.")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
