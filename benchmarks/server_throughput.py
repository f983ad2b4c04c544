"""Output tokens per second of a server at 64 concurrent requests, 128 tokens in, 128 out.

With --llama-server, llama.cpp's server runs the same load on the same weights in turn with ours
(A B A B ...), and the ratio is taken pair by pair: the machine's drift falls out of it. Prompts
are random token ids, greedy, end-of-sequence ignored, so that every request has exact lengths.
"""

import argparse
import os

import servers
from recording import save
from sixfold.core.record import Measure
from sixfold.instrument.backends.spec import EngineSpec
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.loadgen.report import report
from sixfold.instrument.loadgen.run import run_load
from sixfold.instrument.workloads.presets import parse_workload
from tables import render

COUNT, IN, OUT = 64, 128, 128


def measure(url: str, seed: int, model: str, vocab: int) -> dict[str, float]:
    """One round, after a small warm-up. Prompts differ in each round: nothing is cached."""
    target = Target(url=url, model=model, extra={"temperature": 0, "ignore_eos": True})
    workload = f"random:count={COUNT + 4},input={IN},output={OUT},high={vocab}"
    sessions = parse_workload(workload).build(seed)
    run_load(target, sessions[:4], 4)
    outcomes = run_load(target, sessions[4:], COUNT).outcomes
    wrong = [o for o in outcomes if o.error or o.num_output_tokens != OUT]
    if wrong or len(outcomes) != COUNT:
        raise RuntimeError(f"{len(wrong)} answers failed or have another length: {wrong[:1]}")
    values = report(outcomes)
    return {
        "output": values["output_throughput"],
        "TTFT p50": values["ttft:p50"] * 1e3,
        "TPOT p50": values["tpot:p50"] * 1e3,
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


def variants(a: argparse.Namespace) -> dict[str, EngineSpec]:
    """Servers of one round."""
    flags: dict[str, bool | int | float | str] = {"dtype": a.dtype, "max_num_seqs": COUNT}
    found = {f"sixfold {a.dtype}": servers.sixfold(a.model, flags)}
    if a.llama_server:
        context, threads = COUNT * 2 * (IN + OUT), os.cpu_count() or 1
        name = "llama.cpp " + a.llama_model.rsplit("-", 1)[-1].removesuffix(".gguf")
        found[name] = servers.llama_server(a.llama_server, a.llama_model, COUNT, context, threads)
    return found


def main() -> None:
    """Run the rounds, print the table, write the record."""
    a = parse()
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in range(a.rounds):
        for name, spec in variants(a).items():
            with servers.serving(spec) as server:
                rows.setdefault(name, []).append(measure(server.url, seed, a.model, a.vocab))
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
