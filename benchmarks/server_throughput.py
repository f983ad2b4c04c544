"""Output tokens per second of a server at 64 concurrent requests, 128 tokens in, 128 out.

With --llama-server, llama.cpp's server runs the same load on the same weights in turn with ours
(A B A B ...), and the ratio is taken pair by pair: the machine's drift falls out of it. Prompts
are random token ids, greedy, end-of-sequence ignored, so that every request has exact lengths.
"""

import argparse
import asyncio
import random
from contextlib import AbstractContextManager
from typing import Any

import servers
from loadgen import Target, run
from recording import save
from sixfold.core.metrics import output_throughput, spread, tpot, ttft
from sixfold.core.record import Measure
from tables import render

COUNT, IN, OUT = 64, 128, 128


def bodies(seed: int, count: int, vocab: int) -> list[dict[str, Any]]:
    """Requests with random prompts, different in each round, so that nothing is cached."""
    rng = random.Random(seed)
    return [
        {
            "model": "m",
            "prompt": [rng.randrange(1000, vocab) for _ in range(IN)],
            "max_tokens": OUT,
            "temperature": 0,
            "ignore_eos": True,
        }
        for _ in range(count)
    ]


def measure(target: Target, seed: int, model: str, vocab: int) -> dict[str, float]:
    """One round, after a small warm-up."""
    load = [b | {"model": model} for b in bodies(seed, COUNT + 4, vocab)]
    asyncio.run(run(target, "/v1/completions", load[:4], 4))
    answers = asyncio.run(run(target, "/v1/completions", load[4:], COUNT))
    wrong = [a.usage for a in answers if a.usage.get("completion_tokens") != OUT]
    if wrong:
        raise RuntimeError(f"{len(wrong)} answers have another length: {wrong[0]}")
    traces = [a.trace for a in answers]
    return {
        "output": output_throughput(traces),
        "TTFT p50": spread(map(ttft, traces)).p50 * 1e3,
        "TPOT p50": spread(map(tpot, traces)).p50 * 1e3,
    }


UNITS = {"output": "tok/s", "TTFT p50": "ms", "TPOT p50": "ms", "ratio": "x"}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="bf16", help="weights of our server")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vocab", type=int, default=40000, help="prompt ids are below this")
    parser.add_argument("--llama-server", help="path of llama.cpp's server")
    parser.add_argument("--llama-model", help="the same weights for it, a .gguf")
    parser.add_argument("--record", help="write docs/results/RECORD.json")
    arguments = parser.parse_args()
    if bool(arguments.llama_server) != bool(arguments.llama_model):
        parser.error("--llama-server and --llama-model go together")
    return arguments


def variants(a: argparse.Namespace) -> dict[str, AbstractContextManager[Target]]:
    """Servers of one round, each started when entered."""
    flags = ("--dtype", a.dtype, "--max-num-seqs", str(COUNT))
    found = {f"sixfold {a.dtype}": servers.sixfold(a.model, flags)}
    if a.llama_server:
        context = COUNT * 2 * (IN + OUT)
        name = "llama.cpp " + a.llama_model.rsplit("-", 1)[-1].removesuffix(".gguf")
        found[name] = servers.llama_server(a.llama_server, a.llama_model, COUNT, context)
    return found


def main() -> None:
    """Run the rounds, print the table, write the record."""
    a = parse()
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in range(a.rounds):
        for name, server in variants(a).items():
            with server as target:
                rows.setdefault(name, []).append(measure(target, seed, a.model, a.vocab))
            print(
                f"round {seed + 1}/{a.rounds} {name}: {rows[name][-1]['output']:.0f} tok/s",
                flush=True,
            )
    first = next(iter(rows))
    for name, values in rows.items():
        for ours, theirs in zip(rows[first], values, strict=True):
            if name != first:
                theirs["ratio"] = ours["output"] / theirs["output"]
    results = {
        name: {key: Measure(values=[v[key] for v in values], unit=UNITS[key]) for key in values[0]}
        for name, values in rows.items()
    }
    print("\n" + render(results))
    if a.record:
        workload = {"requests": COUNT, "input_tokens": IN, "output_tokens": OUT, "model": a.model}
        title = f"{COUNT} concurrent requests, {IN} tokens in, {OUT} out"
        save(a.record, title, workload, results, f"ratio: {first} over this row, pair by pair")


if __name__ == "__main__":
    main()
