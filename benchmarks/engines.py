"""The same model, bits and workload on several engines: sixfold, llama.cpp, vLLM.

Rounds in turn, so that the drift of the machine meets all; each engine has its own defaults and
the flags given here. Every run is a point: docs/results/engines.jsonl for the explorer, and a
record with a row per engine and load. Not here: tuning them (sixfold tune).
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from recording import RESULTS, save
from sixfold.core.point import Point
from sixfold.core.record import Measure
from sixfold.core.slo import parse_slo
from sixfold.instrument.backends.spec import EngineSpec
from sixfold.instrument.loadgen.client import Target
from sixfold.instrument.measure import Job
from sixfold.instrument.store.lines import write_lines
from sixfold.instrument.tuner.runner import PlannedRun, Runner
from sixfold.instrument.workloads.presets import parse_workload
from tables import render

WORKLOAD = "chat:count={count},turns=2,system=200,user=60,output=32"
SLO = "ttft:p95<2s and itl:p95<200ms"
COLUMNS = {
    "goodput": ("req/s", 1.0),
    "output_throughput": ("tok/s", 1.0),
    "ttft:p50": ("ms", 1e3),
    "ttft:p95": ("ms", 1e3),
    "tpot:p50": ("ms", 1e3),
    "itl:p95": ("ms", 1e3),
}


def specs(a: argparse.Namespace) -> list[EngineSpec]:
    """The engines that were named, all with bf16 weights."""
    found = [EngineSpec(engine="sixfold", model=a.model, flags={"dtype": "bf16"})]
    if a.llama_server:
        flags: dict[str, bool | int | float | str] = {
            "threads": a.threads, "parallel": max(a.loads), "ctx_size": 1024 * max(a.loads),
        }  # fmt: skip
        spec = EngineSpec(
            engine="llamacpp", model=a.llama_model, executable=a.llama_server, flags=flags
        )
        found.append(spec)
    if a.vllm:
        flags = {"dtype": "bfloat16", "max_model_len": 4096}
        env = {"VLLM_CPU_KVCACHE_SPACE": "4", "VLLM_CPU_OMP_THREADS_BIND": f"0-{a.threads - 1}",
               "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}  # fmt: skip
        spec = EngineSpec(
            engine="vllm", model=a.vllm_model, executable=a.vllm, flags=flags, env=env
        )
        found.append(spec)
    return found


def runs(a: argparse.Namespace) -> Iterator[Point]:
    """Rounds over engines, each at all loads."""
    extra = {"temperature": 0, "ignore_eos": True}
    with tempfile.TemporaryDirectory() as logs:
        for number in range(a.rounds):
            for spec in specs(a):
                with Runner(
                    Path(logs), lambda text: print(f"  {text}", flush=True), None
                ) as runner:
                    for load in a.loads:
                        job = Job(
                            target=Target(url="http://127.0.0.1:1", extra=extra),
                            workload=parse_workload(WORKLOAD.format(count=max(6, 2 * load))),
                            load=load,
                            seed=number,
                            slo=parse_slo(SLO),
                        )
                        run = PlannedRun(study="engines", spec=spec, repeat=number)
                        point = runner.run(run, job)
                        print(
                            f"round {number + 1} {spec.engine} x{load}: {said(point)}", flush=True
                        )
                        yield published(point, spec)


def said(point: Point) -> str:
    """One run in a line."""
    if point.status != "ok":
        return point.reason
    return ", ".join(f"{k} {point.values[k] * f:.3g} {u}" for k, (u, f) in COLUMNS.items())


def published(point: Point, spec: EngineSpec) -> Point:
    """Without this machine's paths: files by their names."""
    command = point.command
    for path in (spec.executable, spec.model):
        if "/" in path:
            command = command.replace(path, Path(path).name)
    command = " ".join(
        Path(word).name if word.startswith("/") else word for word in command.split()
    )
    return msgspec.structs.replace(point, model="SmolLM2-135M-Instruct", command=command)


def main() -> None:
    """Run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2-135m", help="for sixfold")
    parser.add_argument("--llama-server", default="", help="folder or path of llama-server")
    parser.add_argument("--llama-model", default="", help="the same weights, bf16 .gguf")
    parser.add_argument("--vllm", default="", help="virtual environment of vLLM")
    parser.add_argument("--vllm-model", default="", help="the same weights, a directory")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loads", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--record", action="store_true", help="write docs/results/engines.*")
    a = parser.parse_args()
    points = list(runs(a))
    results: dict[str, dict[str, Measure]] = {}
    for load in a.loads:
        for spec in specs(a):
            good = [p for p in points if p.status == "ok" and p.engine == spec.engine
                    and p.load == {"concurrency": load}]  # fmt: skip
            results[f"{spec.engine}, {load} at once"] = {
                key: Measure(values=[p.values[key] * factor for p in good], unit=unit)
                for key, (unit, factor) in COLUMNS.items()
                if good
            }
    print("\n" + render(results))
    if a.record:
        write_lines(RESULTS / "engines.jsonl", points)
        bound = [
            f"{p.engine} x{p.load['concurrency']}" for p in points if p.client.get("client_bound")
        ]
        save(
            "engines",
            "Three engines, one model in bf16, one chat workload",
            {"workload": WORKLOAD, "slo": SLO, "rounds": a.rounds, "model": a.model},
            results,
            "goodput counts requests that keep the objectives by themselves. Client and server "
            f"share the cores; {len(bound)} of {len(points)} runs were marked client-bound"
            + (f" ({', '.join(bound)})." if bound else "."),
        )


if __name__ == "__main__":
    main()
