"""Whether our client reports what AIPerf reports for the same load on the same server.

Interleaved rounds: ours, theirs, ours again, each with the same prompts and a cache that was reset.
Ours against ours is the noise; ours against theirs agrees within 3 %, or within that noise. A
client that takes much CPU slows a server on the same machine, so what the server itself saw of each
run, by its own histograms, stands beside: a client is right where it agrees with that. AIPerf lives
in an environment of its own (pip install aiperf==0.13.0); its result is read by the importer that
users have. Not here: known latencies (tests/instrument), capacity (client_capacity.py).
"""

import argparse
import json
import math
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median

import servers
from recording import save
from sixfold.core.record import Measure
from sixfold.instrument.backends.base import Running, read_metrics, reset_cache
from sixfold.instrument.backends.scrape import histogram
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.loadgen.report import report
from sixfold.instrument.loadgen.run import run_load
from sixfold.instrument.store.importers.read import read_results
from sixfold.instrument.workloads.presets import parse_workload
from tables import render

HISTOGRAMS = {
    "tpot:mean": "vllm:request_time_per_output_token_seconds",
    "e2e:mean": "vllm:e2e_request_latency_seconds",
}
"""What the server keeps of its own, as sum and count."""
KEYS = ("ttft:p50", "ttft:p95", "tpot:p50", "tpot:p95", "e2e:p50", "e2e:p95", "output_throughput")
CLOSE = 0.03
OUTPUT = 32

Values = dict[str, float]


def sums(server: Running) -> dict[str, tuple[float, float]]:
    """(sum, count) of the server's histograms."""
    page = read_metrics(server)
    assert page is not None
    found = {key: histogram(page, name) for key, name in HISTOGRAMS.items()}
    return {key: (h.sum, h.count) if h else (0.0, 0.0) for key, h in found.items()}


def against_server(server: Running, run: Callable[[], Values]) -> Values:
    """A run's values, and the client's means over the server's own of that run."""
    before = sums(server)
    values = run()
    after = sums(server)
    for key in HISTOGRAMS:
        seconds, count = (a - b for a, b in zip(after[key], before[key], strict=True))
        values[f"{key} over server's"] = values.pop(key) / (seconds / count)
    return values


def prompts(count: int, seed: int) -> list[str]:
    """Texts that no other seed shares."""
    workload = f"random:count={count},input=40-120,output={OUTPUT},text=true"
    return [session.turns[0].text for session in parse_workload(workload).build(seed)]


def ours(server: Running, texts: list[str], a: argparse.Namespace) -> Values:
    """One run of our client."""
    assert reset_cache(server)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prompts.jsonl"
        lines = [json.dumps({"prompt": text, "max_tokens": OUTPUT}) for text in texts]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        sessions = parse_workload(f"jsonl:file={path},holdout=false").build(0)
    extra = {"temperature": 0, "ignore_eos": True}
    target = Target(url=server.url, model=a.model, extra=extra)
    return picked(report(run_load(target, sessions, a.concurrency).outcomes))


def theirs(server: Running, texts: list[str], a: argparse.Namespace) -> Values:
    """One run of AIPerf. Raises RuntimeError with its last words if it fails."""
    assert reset_cache(server)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [json.dumps({"text": text}) for text in texts]
        (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        tokenizer(folder / "tokenizer")
        command = [
            a.aiperf, "profile", "-m", a.model, "--url", server.url, "--streaming",
            "--endpoint-type", "completions", "--tokenizer", str(folder / "tokenizer"),
            "--use-server-token-count", "--input-file", str(folder / "prompts.jsonl"),
            "--custom-dataset-type", "single_turn", "--concurrency", str(a.concurrency),
            "--request-count", str(len(texts)), "--extra-inputs", "ignore_eos:true",
            "--extra-inputs", f"max_tokens:{OUTPUT}", "--extra-inputs", "temperature:0",
            "--ui", "none", "--no-gpu-telemetry", "--artifact-dir", str(folder / "out"),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise RuntimeError(f"aiperf ended with {done.returncode}: {done.stdout[-800:]}")
        (point,) = read_results(folder / "out" / "profile_export_aiperf.json")
    return picked(point.values)


def picked(values: Mapping[str, float]) -> Values:
    """What is compared."""
    return {key: values[key] for key in (*KEYS, *HISTOGRAMS)}


def tokenizer(folder: Path) -> None:
    """A small tokenizer that AIPerf can load: the server counts tokens, but it wants one."""
    from tokenizers import Tokenizer, models

    folder.mkdir()
    words = {"<unk>": 0, "<s>": 1, "</s>": 2}
    Tokenizer(models.WordLevel(words, unk_token="<unk>")).save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>",
              "bos_token": "<s>", "eos_token": "</s>", "model_max_length": 8192}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def rounds(a: argparse.Namespace) -> Iterator[tuple[Values, Values, Values]]:
    """(ours, theirs, ours again) of each round, on one server."""
    # Cores of its own for the client: what a heavy one takes from a server is measured, too.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:-1] or cores)
    threads = len(os.sched_getaffinity(0))
    with servers.serving(servers.sixfold(a.model, {"num_threads": threads})) as server:
        os.sched_setaffinity(0, cores[-1:])
        ours(server, prompts(8, 999), a)
        for number in range(a.rounds):
            texts = prompts(a.requests, number)
            first, other, again = (
                against_server(server, partial(run, server, texts, a))
                for run in (ours, theirs, ours)
            )
            print(f"round {number + 1}/{a.rounds} done", flush=True)
            yield first, other, again


def judge(key: str, found: list[tuple[Values, Values, Values]]) -> tuple[float, float, bool]:
    """(ours over theirs, the noise of ours over ours, whether they agree)."""
    ratio = median(math.sqrt(x[key] * z[key]) / y[key] for x, y, z in found)
    noise = max(abs(math.log(x[key] / z[key])) for x, _, z in found)
    return ratio, noise, abs(math.log(ratio)) <= max(math.log1p(CLOSE), noise)


def unit(key: str) -> tuple[str, float]:
    """Shown unit and factor."""
    return ("tok/s", 1.0) if key == "output_throughput" else ("ms", 1e3)


def main() -> int:
    """Run, print, record; 1 if a number does not agree."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--aiperf", required=True, help="path of the aiperf program")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--record", action="store_true", help="write docs/results/agreement.json")
    a = parser.parse_args()
    found = list(rounds(a))
    rows: dict[str, dict[str, Measure]] = {"sixfold bench": {}, "aiperf": {}}
    agreed, told = {}, []
    for key in KEYS:
        name, factor = unit(key)
        ratio, noise, agreed[key] = judge(key, found)
        both = [v for x, _, z in found for v in (x[key] * factor, z[key] * factor)]
        rows["sixfold bench"][key] = Measure(values=both, unit=name)
        rows["aiperf"][key] = Measure(values=[y[key] * factor for _, y, _ in found], unit=name)
        told.append(f"{key} {ratio - 1:+.1%} (noise {noise:.1%})")
        print(f"{'agree' if agreed[key] else 'DIFFER'}  {told[-1]}")
    for key in (f"{name} over server's" for name in HISTOGRAMS):
        mine = median(v for x, _, z in found for v in (x[key], z[key]))
        other = median(y[key] for _, y, _ in found)
        told.append(f"{key}: ours {mine:.3f}, theirs {other:.3f}")
        print(told[-1])
    print(render(rows))
    if a.record:
        workload = {"model": a.model, "requests": a.requests, "concurrency": a.concurrency,
                    "output_tokens": OUTPUT, "rounds": a.rounds}  # fmt: skip
        save("agreement", "Our client against AIPerf on the same load", workload, rows,
             f"Ours over theirs, median of rounds: {'; '.join(told)}.")  # fmt: skip
    return 0 if all(agreed.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
