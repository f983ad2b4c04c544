"""Tiled attention against all scores in memory: time and memory by context, in process.

One prompt of each length is computed in one step; attention's own time comes from the engine's
clock. Both engines have the same weights and take turns. Not here: shares of limits (kernels.py).
"""

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median

from recording import save
from sixfold.core.config import EngineConfig
from sixfold.core.record import Measure
from sixfold.engine.engine import LLMEngine
from steps import request
from tables import render

LENGTHS = (512, 2048, 8192)
KINDS = ("flash", "naive")


def build(model: str, kind: str, most: int) -> LLMEngine:
    """An engine that computes `most` tokens in one step."""
    return LLMEngine(
        EngineConfig(model=model, attention=kind, max_num_batched_tokens=most, max_num_seqs=4,
                     kv_cache_memory_mb=1024, enable_prefix_caching=False)
    )  # fmt: skip


def seconds_of(engine: LLMEngine, length: int, number: int) -> float:
    """Attention's seconds in the prefill of a prompt."""
    before = engine.stats().step_seconds["attention"]
    ids = [(number * 7919 + 31 * i) % 40000 + 1000 for i in range(length - 1)]
    engine.add_request(request(str(number), ids, 1))
    while engine.has_unfinished():
        engine.step()
    return engine.stats().step_seconds["attention"] - before


def peak_mb(model: str, kind: str, length: int) -> float:
    """The highest memory of a process that computes such a prompt."""
    command = [sys.executable, __file__, "--model", model, "--peak", kind, str(length)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> int:
    """Measure, print, and record if that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--lengths", nargs="*", type=int, default=list(LENGTHS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--record", action="store_true", help="write docs/results/attention.json")
    a = parser.parse_args()
    if a.peak:
        kind, length = a.peak[0], int(a.peak[1])
        seconds_of(build(a.model, kind, length), length, 1)
        # Not getrusage: its maximum is that of the parent, if that is larger.
        lines = Path("/proc/self/status").read_text().splitlines()
        print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3)
        return 0
    engines = {kind: build(a.model, kind, max(a.lengths)) for kind in KINDS}
    rows: dict[str, dict[str, Measure]] = {}
    for length in a.lengths:
        taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for number in range(a.repeats):
            for kind, engine in engines.items():
                taken[kind].append(seconds_of(engine, length, number))
        ratios = [n / f for f, n in zip(taken["flash"], taken["naive"], strict=True)]
        for kind in KINDS:
            rows[f"{length:,} tokens, {kind}"] = {
                "attention": Measure(values=[1e3 * t for t in taken[kind]], unit="ms"),
                "of flash's time": Measure(
                    values=ratios if kind == "naive" else [1.0], unit="times"
                ),
                "peak memory": Measure(values=[peak_mb(a.model, kind, length)], unit="MB"),
            }
        print(f"{length}: naive takes {median(ratios):.2f} times as long", flush=True)
    print("\n" + render(rows))
    if a.record:
        save("attention", "Attention in tiles against all scores in memory",
             {"model": a.model, "prompt": "in one step"}, rows)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
